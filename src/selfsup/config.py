"""Typed configuration: every setting of a run, validated together.

All sections are frozen, refuse unknown keys, and carry one line of documentation a field.
`config_files.py` reads them from YAML and dotted flags; `recipes.py` builds complete ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from selfsup.config_base import Section
from selfsup.train_config import TrainConfig


class SourceConfig(Section):
    """Where unlabelled text comes from."""

    path: str
    """A file, a folder, a glob (`corpus/**/*.txt`), `docstrings:` (the text embedded in the installed
    packages) or `hub:owner/name` (needs the extra `hub`)."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How many times an epoch goes through this source (0.5: half of it, another half next time)."""
    unit: Literal["file", "paragraph", "line"] = "file"
    """What a document is in a `.txt` file."""
    column: str = "text"
    """The column (or JSON key) that holds the text."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What to do with a row that cannot be read: stop with its place, or skip and count it."""


class DataConfig(Section):
    """The corpus: its sources and how it is cut."""

    sources: tuple[SourceConfig, ...] = ()
    """One or more sources of text."""
    heldout: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Share of the documents held out for evaluation, chosen by document hash."""
    length: Annotated[int, Field(ge=16)] = 128
    """Tokens in one row of a batch, special tokens included."""
    short: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the pieces that are cut shorter than a row has room for, so that a model trained on long
    rows meets short texts too (BERT's short sequences, there 0.1).  Held-out rows are never cut so."""
    min_characters: Annotated[int, Field(ge=0)] = 1
    """Shorter documents are dropped and counted."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with a document that came before, letter for letter.  Keep them where how often one
    comes is to be learned, as with codes."""
    cache: str = ""
    """Folder for token shards; empty: `$SELFSUP_HOME/corpora`."""


class WordPieceConfig(Section):
    """WordPiece with BERT's normaliser; Chinese characters stand apart."""

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: Annotated[int, Field(ge=32)] = 8192
    """Entries in the vocabulary, special tokens included."""
    lowercase: bool = True
    """Fold case, as in BERT-uncased."""
    strip_accents: Literal["auto"] | bool = "auto"
    """Take accents and combining marks off letters, as in BERT-uncased.  `auto`: where case is folded and at
    most 0.2 % of the letters carry them.  That is English (novels 0.006 %, film reviews 0.01 %, XQuAD 0.05 %)
    and Chinese (0.002 %); they are kept in German (1.5 %), French (3.3 %), Japanese (7 %), Thai (21 %),
    Vietnamese (25 %), Hindi (39 %) and Korean (all)."""
    sample_megabytes: Annotated[float, Field(gt=0)] = 50.0
    """At most this much text is read to train the vocabulary."""


class BytePairConfig(Section):
    """Byte-level byte-pair encoding, as in GPT-2: any text round-trips exactly."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: Annotated[int, Field(ge=261)] = 8192
    """Entries in the vocabulary, special tokens and the 256 bytes included."""
    sample_megabytes: Annotated[float, Field(gt=0)] = 50.0
    """At most this much text is read to train the vocabulary."""


class CharacterConfig(Section):
    """One token a character."""

    kind: Literal["characters"] = "characters"
    vocab_size: Annotated[int, Field(ge=6)] = 8192
    """At most this many entries: the most frequent characters; the rest become [UNK]."""
    sample_megabytes: Annotated[float, Field(gt=0)] = 50.0
    """At most this much text is read to find the characters."""


class WordsConfig(Section):
    """One token a word, where spaces part words: notes, units of speech, codes of images."""

    kind: Literal["words"] = "words"
    vocab_size: Annotated[int, Field(ge=6)] = 8192
    """At most this many entries: the most frequent words; the rest become [UNK]."""
    sample_megabytes: Annotated[float, Field(gt=0)] = 50.0
    """At most this much text is read to find the words."""


class SymbolConfig(Section):
    """An alphabet, or k-mers over it: DNA, RNA, proteins, notes."""

    kind: Literal["symbols"] = "symbols"
    alphabet: str = ""
    """The letters; every other character becomes [UNK].  When not given, they are taken from the data: ACGT
    for DNA, ACGU for RNA, the 20 amino acids for proteins, else all but the rarest characters."""
    k: Annotated[int, Field(ge=1, le=8)] = 1
    """Letters in one token (non-overlapping k-mers; a shorter tail becomes single letters)."""


class FileTokenizerConfig(Section):
    """A tokenizer that exists already."""

    kind: Literal["file"] = "file"
    path: str
    """A `tokenizer.json`, a `vocab.txt`, or a folder that holds one."""
    lowercase: bool = True
    """Only for `vocab.txt`: fold case and strip accents, as in BERT-uncased."""


TokenizerConfig = Annotated[
    WordPieceConfig
    | BytePairConfig
    | CharacterConfig
    | WordsConfig
    | SymbolConfig
    | FileTokenizerConfig,
    Field(discriminator="kind"),
]


class RopeScalingConfig(Section):
    """Rotary angles slowed down for contexts longer than those of the first training."""

    kind: Literal["linear", "llama3"]
    factor: Annotated[float, Field(ge=1)]
    """How much slower."""
    low: float = 1.0
    """`llama3`: turns over the first context below which a pair is slowed in full."""
    high: float = 4.0
    """`llama3`: turns over the first context above which a pair stays as it is."""
    original_length: Annotated[int, Field(gt=0)] = 8192
    """`llama3`: tokens in the first context."""


class TransformerConfig(Section):
    """The one transformer: BERT, ModernBERT, GPT-2 and Llama are settings of it."""

    kind: Literal["transformer"] = "transformer"
    vocab_size: Annotated[int, Field(gt=0)] | None = None
    """Rows of the embedding; taken from the tokenizer when not given."""
    hidden_size: Annotated[int, Field(gt=0)] = 256
    num_layers: Annotated[int, Field(gt=0)] = 4
    num_heads: Annotated[int, Field(gt=0)] = 4
    num_kv_heads: Annotated[int, Field(gt=0)] | None = None
    """Heads of keys and values, each shared by several of the queries' (grouped); as many when not given."""
    intermediate_size: Annotated[int, Field(gt=0)] = 1024
    """Width of the feed-forward part (of each half, when gated)."""
    max_length: Annotated[int, Field(gt=1)] = 512
    """Longest sequence the positions allow.  A decoder that starts from random weights gets `data.length`
    instead: later places would never be trained on."""
    norm_position: Literal["post", "pre"] = "post"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_eps: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-12
    positions: Literal["learned", "rotary"] = "learned"
    rope_theta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10_000.0
    """Base of the rotary angles (in layers that see everything)."""
    rope_scaling: RopeScalingConfig | None = None
    """How rotary angles are slowed down; not when not given."""
    local_rope_theta: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Base of the rotary angles in windowed layers; as `rope_theta` when not given."""
    window: int | None = None
    """Tokens that a windowed layer sees, half of them on each side; every layer sees all when not given."""
    global_every: Annotated[int, Field(ge=1)] = 1
    """With a window: every n-th layer, from the first, sees everything."""
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"] = "gelu"
    gated: bool = False
    """Gated feed-forward (GLU)."""
    bias: bool = True
    """Biases in linear layers and norms of the body."""
    qkv_bias: bool | None = None
    """Biases of queries, keys and values alone (Qwen2); as `bias` when not given."""
    embedding_norm: bool = True
    """A norm over the summed embeddings; decoders have none."""
    type_vocab_size: Annotated[int, Field(ge=0)] = 2
    """Kinds of segments (sentence A, sentence B); 0: none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pooler: bool = True
    """BERT's dense layer over [CLS]."""
    causal: bool = False
    """Each token sees itself and those before it: a decoder, trained by `next-token`."""
    tied: bool = True
    """For decoders: the output matrix is the token embeddings'; encoders always tie them."""
    initializer_range: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02

    @model_validator(mode="after")
    def _together(self) -> TransformerConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size})"
            )
        if self.positions == "rotary" and (self.hidden_size // self.num_heads) % 2:
            raise ValueError("rotary positions need an even width per head")
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads ({self.num_kv_heads}) must divide num_heads ({self.num_heads})"
            )
        if self.causal and (self.pooler or self.type_vocab_size or self.window is not None):
            raise ValueError(
                "a decoder (causal true) has no pooler, no segments (type_vocab_size 0) and no window"
            )
        if not (self.causal or self.tied):
            raise ValueError("an encoder's output matrix is tied to its embeddings (tied true)")
        return self

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def qkv_width(self) -> int:
        """Width of queries, keys and values together."""
        return (self.num_heads + 2 * self.kv_heads) * (self.hidden_size // self.num_heads)


class MaskedTokensConfig(Section):
    """Hide some tokens, predict them from the rest (BERT, Devlin et al. 2019)."""

    kind: Literal["masked-tokens"] = "masked-tokens"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that are scored in training; held-out loss is always measured at 0.15."""
    mask: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the scored tokens that become [MASK]."""
    random: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the scored tokens that become another ordinary token."""
    keep: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the scored tokens that stay."""
    unit: Literal["token", "word", "span"] = "token"
    """What is hidden together: single tokens, whole words, or spans of words."""
    span_mean: Annotated[float, Field(ge=1)] = 3.0
    """Mean number of words in a span (geometric, at most 10; SpanBERT, Joshi et al. 2020)."""
    pairs: Literal["none", "next-sentence", "sentence-order", "same-text"] = "none"
    """A second question on each piece, cut in two: does B follow A (BERT), were they swapped (ALBERT), or
    which of the batch's second halves belongs to which first one (`same-text`, contrastive)?"""

    @model_validator(mode="after")
    def _together(self) -> MaskedTokensConfig:
        if abs(self.mask + self.random + self.keep - 1) > 1e-6:
            raise ValueError("mask + random + keep must be 1")
        return self

    @property
    def pair_head(self) -> bool:
        """Whether the question about pairs is answered by a head of its own, over the pooler."""
        return self.pairs in {"next-sentence", "sentence-order"}


class ReplacedTokensConfig(Section):
    """Tell the tokens that a small generator put in from the true ones (ELECTRA, Clark et al. 2020)."""

    kind: Literal["replaced-tokens"] = "replaced-tokens"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that the generator fills in training; held out it is always 0.15."""
    weight: Annotated[float, Field(gt=0)] = 50.0
    """How often the detection loss counts beside the generator's masked loss."""
    generator_size: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The generator's width, as a share of the encoder's; rounded to whole heads, at least one."""
    generator_layers: Annotated[int, Field(ge=0)] = 0
    """The generator's layers; 0: as many as the encoder has."""
    unit: Literal["token", "word", "span"] = "token"
    """What the generator fills together: single tokens, whole words, or spans of words."""
    span_mean: Annotated[float, Field(ge=1)] = 3.0
    """Mean number of words in a span (geometric, at most 10)."""

    @property
    def pairs(self) -> Literal["none"]:
        """There is no question about pairs beside this one."""
        return "none"

    @property
    def pair_head(self) -> bool:
        """Never."""
        return False

    def masking(self) -> MaskedTokensConfig:
        """What the generator is asked: every scored token is hidden."""
        return MaskedTokensConfig(
            rate=self.rate, mask=1.0, random=0.0, keep=0.0, unit=self.unit, span_mean=self.span_mean
        )

    def generator(self, encoder: TransformerConfig) -> TransformerConfig:
        """The generator's settings: fewer heads of the same width and, where asked for, fewer layers."""
        heads = max(1, round(self.generator_size * encoder.num_heads))
        share = heads / encoder.num_heads
        return encoder.model_copy(
            update={
                "num_heads": heads,
                "hidden_size": heads * (encoder.hidden_size // encoder.num_heads),
                "intermediate_size": max(1, round(share * encoder.intermediate_size)),
                "num_layers": self.generator_layers or encoder.num_layers,
                "pooler": False,
            }
        )


class NextTokenConfig(Section):
    """Predict each token from those before it (GPT, Radford et al. 2018)."""

    kind: Literal["next-token"] = "next-token"
    cross_documents: bool = False
    """Let attention cross from one document to the next in the same row (as nanoGPT does)."""

    @property
    def pairs(self) -> Literal["none"]:
        """There is no question about pairs beside this one."""
        return "none"

    @property
    def pair_head(self) -> bool:
        """Never."""
        return False


ObjectiveConfig = Annotated[
    MaskedTokensConfig | ReplacedTokensConfig | NextTokenConfig, Field(discriminator="kind")
]


class PretrainConfig(Section):
    """Everything that `selfsup pretrain` needs."""

    recipe: str = ""
    """The recipe that this configuration started from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    init: str = ""
    """A model to go on from instead of random weights; its shape and its tokenizer are taken over."""
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = WordPieceConfig()
    model: TransformerConfig = TransformerConfig()
    objective: ObjectiveConfig = MaskedTokensConfig()
    train: TrainConfig = TrainConfig()

    @field_validator("recipe")
    @classmethod
    def _plain(cls, value: str) -> str:
        return value.strip()

    @model_validator(mode="after")
    def _together(self) -> PretrainConfig:
        settled = (
            self.model.causal or self.init
        )  # by the data's length, or the model that is begun from
        if self.data.length > self.model.max_length and not settled:
            raise ValueError(
                f"data.length ({self.data.length}) must not exceed model.max_length ({self.model.max_length})"
            )
        if self.objective.pairs == "same-text" and self.train.accumulate * self.train.processes > 1:
            raise ValueError(
                "objective.pairs 'same-text' compares the texts of a whole step: "
                "train.accumulate and train.processes must be 1"
            )
        if self.objective.pair_head and not self.model.pooler:
            raise ValueError(f"objective.pairs '{self.objective.pairs}' needs model.pooler true")
        if self.model.causal != (self.objective.kind == "next-token"):
            raise ValueError(
                "objective 'next-token' needs a decoder: set model.causal true"
                if not self.model.causal
                else f"objective '{self.objective.kind}' needs an encoder: set model.causal false"
            )
        if self.objective.kind == "replaced-tokens" and self.model.pooler:
            raise ValueError("objective 'replaced-tokens' trains no pooler; set model.pooler false")
        return self
