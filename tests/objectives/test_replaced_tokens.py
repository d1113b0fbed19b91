"""Replaced tokens: who is asked what, the loss against a slow reference, and a whole run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.training.tiny import tiny_config, write_corpus

import selfsup
from selfsup.config import (
    PretrainConfig,
    ReplacedTokensConfig,
    TransformerConfig,
)
from selfsup.data.corpus import Split
from selfsup.data.keys import Key
from selfsup.data.rows import PackedRows
from selfsup.data.sampler import Examples
from selfsup.data.tokenizers import Tokenizer, load_tokenizer
from selfsup.errors import Interrupted, UserError
from selfsup.models.replaced_tokens import ReplacedTokenModel
from selfsup.models.tensors import read_tensors
from selfsup.models.transformer import parameter_count
from selfsup.nn.sequences import Sequences
from selfsup.objectives.masked_tokens import MaskedTokens
from selfsup.objectives.replaced_tokens import ReplacedBatch, ReplacedTokens
from selfsup.training import checkpoints
from selfsup.training.evaluation import Evaluator
from selfsup.training.loop import Loop
from selfsup.training.progress import Progress
from selfsup.uses.kinds import build_model
from selfsup.uses.preparing import prepare
from selfsup.uses.pretraining import dry_run, make_loop, pretrain

WORDS = [f"w{i}" for i in range(40)] + ["."]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LENGTHS = [100, 3, 57, 30, 200, 9, 41, 12]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def rows() -> PackedRows:
    """Documents of random words."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    tokens = rng.integers(5, 46, offsets[-1]).astype(np.uint16)
    sources = np.zeros(len(LENGTHS), np.uint16)
    return PackedRows.build(Split(tokens, np.ones(len(tokens), np.uint8), offsets, sources), 32, 2)


def every(rows: PackedRows) -> Examples:
    return Examples(np.arange(len(rows)), np.zeros(len(rows), np.int64))


def build(config: ReplacedTokensConfig | None = None, **settings: Any) -> ReplacedTokenModel:
    """A small model in double precision, far enough from zero that every part matters."""
    config = config or ReplacedTokensConfig(generator_size=0.5)
    shape = {"vocab_size": 46, "hidden_size": 16, "num_layers": 1, "num_heads": 2} | settings
    model = TransformerConfig(
        **shape, intermediate_size=24, pooler=False, initializer_range=0.3, max_length=64
    )
    torch.manual_seed(0)
    return ReplacedTokenModel(model, config.generator(model)).double()


MODERN: dict[str, Any] = {
    "norm_position": "pre",
    "positions": "rotary",
    "gated": True,
    "bias": False,
    "type_vocab_size": 0,
}


# ---- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, MODERN])
@pytest.mark.parametrize("unit", ["token", "word"])
def test_loss_equals_a_slow_reference(
    tokenizer: Tokenizer, rows: PackedRows, settings: dict[str, Any], unit: Any
) -> None:
    """One sequence at a time, one token at a time, with the means written out."""
    config = ReplacedTokensConfig(generator_size=0.5, weight=7.0, unit=unit)
    objective, model = ReplacedTokens(config, rows, tokenizer), build(config, **settings)
    batch = objective.batch(every(rows), Key(3))
    score = objective.loss(model, batch)

    slots = {
        int(place): (int(target), float(draw))
        for place, target, weight, draw in zip(
            batch.scored, batch.targets, batch.weights, batch.draws, strict=True
        )
        if weight
    }
    hidden_losses, told_losses, told_right, replacements = [], [], [], 0
    for begin, end in itertools.pairwise(batch.sequences.starts.tolist()):
        given = batch.sequences.tokens[begin:end].tolist()
        if given[0] != tokenizer.cls_id:
            continue  # fillers
        alone = Sequences.from_lists([np.array(given)])
        hidden = model.generator(alone)
        truth, filled = list(given), list(given)
        for place in range(begin, end):
            if place not in slots:
                continue
            target, draw = slots[place]
            truth[place - begin] = target
            assert given[place - begin] == tokenizer.mask_id
            logits = (
                model.encoder.embeddings.tokens.weight @ model.generator.head(hidden)[place - begin]
            ) + model.generator.head_bias
            hidden_losses.append(-logits.log_softmax(-1)[target])
            chances = logits.detach()[5:].softmax(-1).tolist()  # ordinary tokens alone
            reached, token = 0.0, 4
            while reached < draw and token < 45:
                token += 1
                reached += chances[token - 5]
            filled[place - begin] = token
        outputs = model.detect(model.encoder(Sequences.from_lists([np.array(filled)])))
        for output, now, before in zip(outputs, filled, truth, strict=True):
            if before in (tokenizer.cls_id, tokenizer.sep_id):
                continue
            changed = now != before
            replacements += changed
            told_losses.append(F.softplus(-output if changed else output))
            told_right.append((output > 0).item() == changed)
    masked, detection = torch.stack(hidden_losses).mean(), torch.stack(told_losses).mean()
    expected = masked + 7.0 * detection
    masked, detection = masked.detach(), detection.detach()

    assert replacements > 20
    torch.testing.assert_close(score.loss_sum / score.count, expected)
    metrics = {n: float(r.total / r.count) for n, r in score.metrics.items()}
    assert metrics["generator_loss"] == pytest.approx(float(masked))
    assert metrics["detection_loss"] == pytest.approx(float(detection))
    mine = torch.autograd.grad(score.loss_sum / score.count, list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)

    evaluated = objective.loss(model.eval(), batch).metrics
    told = {n: float(r.total.detach() / r.count) for n, r in evaluated.items()}
    share = replacements / len(told_losses)
    assert told["detection_accuracy"] == pytest.approx(np.mean(told_right))
    assert told["replaced_share"] == pytest.approx(share)
    guess = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert told["detection_excess"] == pytest.approx(float(detection) - guess, abs=1e-5)


def test_the_generator_learns_nothing_from_detection(
    tokenizer: Tokenizer, rows: PackedRows
) -> None:
    """And the shared embeddings learn from both."""
    gradients = []
    for weight in (1e-9, 100.0):
        config = ReplacedTokensConfig(weight=weight)
        model = build()
        objective = ReplacedTokens(config, rows, tokenizer)
        objective.loss(model, objective.batch(every(rows), Key(0))).loss_sum.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    little, much = gradients
    assert little.keys() == much.keys()
    for name, gradient in little.items():
        assert gradient is not None, name
        same = torch.allclose(gradient, much[name], rtol=1e-6, atol=1e-9)
        assert same == name.startswith("generator."), name
    embeddings = little["encoder.embeddings.tokens.weight"]
    assert float(embeddings.abs().max()) > 1e-3  # the generator's alone
    assert not any("shared" in n or "generator.output" in n for n in little)  # once, by one name


# ---- what is asked -----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_labels_and_places(tokenizer: Tokenizer, rows: PackedRows, unit: Any) -> None:
    objective = ReplacedTokens(ReplacedTokensConfig(unit=unit), rows, tokenizer)
    batch = objective.batch(every(rows), Key(0))
    keep_all = objective.config.masking().model_copy(update={"mask": 0.0, "keep": 1.0})
    plain = MaskedTokens(keep_all, rows, tokenizer).batch(every(rows), Key(0))
    original = plain.sequences.tokens
    used = batch.weights > 0
    assert (batch.sequences.tokens[batch.scored[used]] == tokenizer.mask_id).all()

    tokens, replaced = objective.corrupt(batch, batch.targets)  # the generator is always right
    assert torch.equal(tokens, original)
    assert not replaced.any()

    wrong = torch.where(batch.targets == 5, 6, 5)
    wrong[::2] = batch.targets[::2]
    tokens, replaced = objective.corrupt(batch, wrong)
    elsewhere = torch.ones(len(tokens), dtype=torch.bool)
    elsewhere[batch.scored[used]] = False
    assert torch.equal(tokens[elsewhere], original[elsewhere])
    assert not replaced[elsewhere].any()
    assert torch.equal(tokens[batch.scored[used]], wrong[used])
    assert torch.equal(replaced[batch.scored[used]], (wrong != batch.targets)[used])


def test_nothing_is_asked_of_special_tokens_and_fillers(
    tokenizer: Tokenizer, rows: PackedRows
) -> None:
    objective, model = ReplacedTokens(ReplacedTokensConfig(), rows, tokenizer), build()
    batch = objective.batch(every(rows), Key(0))
    words = int((rows.pieces[:, 1] - rows.pieces[:, 0]).sum())
    assert words == int(rows.split.documents[-1])
    with torch.no_grad():
        score = objective.loss(model.eval(), batch)
        assert float(score.metrics["detection_loss"].count) == words
        assert float(score.metrics["detection_accuracy"].count) == words
        assert (batch.sequences.tokens == tokenizer.pad_id).any()


def test_special_tokens_are_never_sampled(tokenizer: Tokenizer, rows: PackedRows) -> None:
    """Nor rows of the matrix that no token has, whatever the generator thinks of them."""
    objective = ReplacedTokens(ReplacedTokensConfig(), rows, tokenizer)
    model = build(vocab_size=64)
    guesses = torch.randn(4000, 16, dtype=torch.float64)
    with torch.no_grad():
        model.generator.head_bias[:5] = 50.0
        model.generator.head_bias[46:] = 50.0
    draws = torch.linspace(0, 1, 4001)[1:]
    draws[0] = 2.0**-53
    sampled = objective.sample(model.generator, guesses, draws)
    assert int(sampled.min()) == 5
    assert int(sampled.max()) == 45
    assert objective.sample(model.generator, guesses * torch.nan, draws).max() <= 45


def test_samples_follow_the_generator(tokenizer: Tokenizer, rows: PackedRows) -> None:
    objective, model = ReplacedTokens(ReplacedTokensConfig(), rows, tokenizer), build()
    guesses = torch.randn(16, dtype=torch.float64).expand(20_000, 16)
    draws = 1 - torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    sampled = objective.sample(model.generator, guesses, draws)
    seen = torch.bincount(sampled, minlength=46)[5:] / len(sampled)
    matrix, bias = model.generator.output_matrix()
    expected = (matrix @ guesses[0] + bias)[5:].softmax(-1)
    torch.testing.assert_close(seen, expected.float(), atol=0.015, rtol=0)


def test_draws_belong_to_the_example(tokenizer: Tokenizer, rows: PackedRows) -> None:
    """Whatever the batch is, each row is filled by the same chance; another epoch by another."""
    objective = ReplacedTokens(ReplacedTokensConfig(), rows, tokenizer)
    whole = objective.batch(every(rows), Key(0))
    parts = [
        objective.batch(Examples(np.array([row]), np.array([0])), Key(0))
        for row in range(len(rows))
    ]
    assert torch.equal(whole.draws, torch.cat([part.draws for part in parts]))
    assert 0 < float(whole.draws.min()) < 0.2 < 0.8 < float(whole.draws.max()) <= 1
    later = objective.batch(Examples(np.array([0]), np.array([1])), Key(0))
    assert not np.isin(later.draws.numpy(), parts[0].draws.numpy()).any()
    assert isinstance(whole.to(torch.device("cpu")), ReplacedBatch)


def test_heldout_is_measured_the_same_whatever_the_training_rate(
    tokenizer: Tokenizer, rows: PackedRows
) -> None:
    one, two = (
        ReplacedTokens(ReplacedTokensConfig(rate=rate, unit=unit), rows, tokenizer)  # type: ignore[arg-type]
        .heldout(rows)
        .batch(every(rows), Key(0, 1))
        for rate, unit in ((0.3, "word"), (0.15, "token"))
    )
    assert torch.equal(one.sequences.tokens, two.sequences.tokens)
    assert torch.equal(one.draws, two.draws)


# ---- the configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "heads", "width"), [(0.25, 1, 64), (1 / 3, 1, 64), (0.5, 2, 128), (1.0, 4, 256)]
)
def test_the_generator_has_whole_heads(size: float, heads: int, width: int) -> None:
    encoder = TransformerConfig(hidden_size=256, num_heads=4, intermediate_size=672, num_layers=4)
    generator = ReplacedTokensConfig(generator_size=size).generator(encoder)
    assert (generator.num_heads, generator.hidden_size) == (heads, width)
    assert generator.intermediate_size == 672 * heads // 4
    assert generator.num_layers == 4
    shallow = ReplacedTokensConfig(generator_size=size, generator_layers=1).generator(encoder)
    assert shallow == generator.model_copy(update={"num_layers": 1})
    assert TransformerConfig.model_validate(generator.model_dump()) == generator


def test_a_pooler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set model\.pooler false"):
        PretrainConfig(objective=ReplacedTokensConfig())
    PretrainConfig(objective=ReplacedTokensConfig(), model=TransformerConfig(pooler=False))


# ---- whole runs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


def classic(corpus: Path, **train: Any) -> PretrainConfig:
    """BERT's shape with this objective."""
    value = tiny_config(corpus, "bert-tiny", **train).model_dump(mode="json")
    value["objective"] = ReplacedTokensConfig().model_dump(mode="json")
    value["model"]["pooler"] = False
    return PretrainConfig.model_validate(value)


def test_it_learns_to_detect(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "corpus.txt", documents=400)
    fast = {"kind": "muon", "lr": 0.01, "adam_lr": 0.006}
    settings: dict[str, Any] = {"optimizer": fast, "evaluate_rows": 64, "evaluate_every": 0.5}
    config = tiny_config(
        data, "electra-tiny", budget="350 steps", save_every="1000 steps", **settings
    ).model_dump(mode="json")
    config["tokenizer"] = {"kind": "wordpiece", "vocab_size": 140}
    config["model"].update(hidden_size=64, intermediate_size=128)
    result = pretrain(PretrainConfig.model_validate(config), tmp_path / "run", quiet=True)
    heldout = result["heldout"]
    assert heldout["detection_loss"] < result["base_rate"]["detection_loss"] - 0.06
    assert heldout["detection_accuracy"] > result["base_rate"]["detection_accuracy"] + 0.005
    assert heldout["detection_recall"] > 0.2
    assert heldout["generator_loss"] < result["unigram"]["generator_loss"] - 0.5
    assert result["beats_base_rate"]
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"| this model | {heldout['detection_loss']:.3f} |" in card
    assert "`selfsup embed`" in card
    assert "selfsup fill" not in card
    assert (tmp_path / "run" / "figures" / "loss.png").stat().st_size > 5000
    table = (tmp_path / "run" / "figures" / "loss.csv").read_text().splitlines()
    assert {line.split(",")[3] for line in table[1:]} == {"heldout", "base_rate"}


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_stopped_and_resumed_equals_uninterrupted(corpus: Path, tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {"budget": "14 steps", "save_every": "3 steps", "accumulate": 2}
    config = (
        classic(corpus, **settings)
        if kind == "bert"
        else tiny_config(corpus, "electra-tiny", **settings)
    )
    model = config.model.model_copy(update={"dropout": 0.1, "attention_dropout": 0.1})
    config = config.model_copy(update={"model": model})
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    whole = pretrain(config, tmp_path / "whole", quiet=True)
    assert torch.equal(torch.rand(3), expected)  # the global generator is untouched

    step = Loop.step

    def stopping(self: Loop) -> Any:
        if self.state.step == 8:
            raise Interrupted("as if killed between two checkpoints")
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", stopping)
        with pytest.raises(Interrupted):
            pretrain(config, tmp_path / "parts", quiet=True)
    parts = pretrain(config, tmp_path / "parts", quiet=True)
    assert parts["heldout"] == whole["heldout"]
    lasts = [checkpoints.found(tmp_path / n / "checkpoints")[-1] for n in ("whole", "parts")]
    for file in ("model.safetensors", "optimizer.safetensors"):
        one, two = (read_tensors(last / file) for last in lasts)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[n], two[n]) for n in one)


def make(config: PretrainConfig) -> tuple[Loop, Any]:
    prepared = prepare(config, Progress(quiet=True, title=""))
    return make_loop(prepared, build_model(prepared.config), None, True), prepared


def test_evaluation_repeats_itself(corpus: Path) -> None:
    """Also in batches of another size, and without a look at torch's generator."""
    loop, prepared = make(tiny_config(corpus, "electra-tiny"))
    for _ in range(3):
        loop.step()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    found = [
        Evaluator(prepared.evaluation, size, loop.device, loop.precision)(loop.model)
        for size in (8, 8, 3)
    ]
    assert torch.equal(torch.rand(3), expected)
    assert found[0] == found[1]
    for name in ("generator_loss", "detection_loss", "detection_recall", "replaced_share"):
        assert found[2][name] == pytest.approx(found[0][name], rel=1e-5)


def test_accumulating_is_near_one_big_batch(corpus: Path) -> None:
    """Equal but for the parts' own shares of special tokens."""
    found = []
    for accumulate in (1, 4):
        loop, _ = make(tiny_config(corpus, "electra-tiny", accumulate=accumulate))
        loop.model.double()
        found.append([loop.step()[0] for _ in range(3)])
    assert found[0] == pytest.approx(found[1], rel=5e-3)


def test_muon_takes_both_bodies(corpus: Path) -> None:
    loop, _ = make(tiny_config(corpus, "electra-tiny", optimizer={"kind": "muon"}))
    names = {id(p): n for n, p in loop.model.named_parameters()}
    taken = {names[id(p)] for g in loop.optimizers[1].param_groups for p in g["params"]}
    assert {n.split(".")[0] for n in taken} == {"encoder", "generator"}
    assert all(".blocks." in n for n in taken)


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_the_encoder_is_delivered(corpus: Path, tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = (
        classic(corpus, budget="4 steps")
        if kind == "bert"
        else tiny_config(corpus, "electra-tiny", budget="4 steps")
    )
    result = pretrain(config, tmp_path / "run", quiet=True)
    folder = tmp_path / "run" / "model"
    opened = selfsup.load(tmp_path / "run")
    assert not opened.has_head
    assert result["parameters"] == parameter_count(opened.encoder)
    settings = json.loads((folder / "config.json").read_text())
    name = {"bert": "BertModel", "electra": "ModernBertModel"}[kind]
    assert settings["architectures"] == [name]
    with pytest.raises(UserError, match="bare encoder without a masked-token head"):
        selfsup.fill(opened, ["the [MASK]"])

    last = read_tensors(
        checkpoints.found(tmp_path / "run" / "checkpoints")[-1] / "model.safetensors"
    )
    for tensor, parameter in opened.encoder.named_parameters():
        assert torch.equal(last[f"encoder.{tensor}"], parameter)

    options = {"add_pooling_layer": False} if kind == "bert" else {}
    theirs, report = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    texts = ["the cat sees a red bicycle.", "some bread"]
    ids = opened.tokenizer.encode_batch(texts)
    given = transformers.AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, return_tensors="pt"
    )
    given.pop("token_type_ids", None)
    with torch.inference_mode():
        hidden = theirs.eval()(**given).last_hidden_state[given["attention_mask"].bool()]
        ours = opened.encoder(Sequences.from_lists(ids))
    torch.testing.assert_close(ours, hidden, atol=2e-5, rtol=1e-4)


def test_settings_of_no_family_are_delivered_too(corpus: Path, tmp_path: Path) -> None:
    value = tiny_config(corpus, "electra-tiny", budget="2 steps").model_dump(mode="json")
    value["model"]["norm"] = "rmsnorm"
    pretrain(PretrainConfig.model_validate(value), tmp_path / "run", quiet=True)
    opened = selfsup.load(tmp_path / "run")
    assert opened.architecture == "Transformer"
    assert not opened.has_head
    assert np.isfinite(selfsup.embed(opened, ["the cat"])).all()


def test_dry_run_and_recipes_know_it(corpus: Path) -> None:
    config = tiny_config(corpus, "electra-tiny")
    told = dry_run(config)
    built = build_model(prepare(config, Progress(quiet=True, title="")).config)
    assert told["parameters"] == parameter_count(built)
    rows = {row["recipe"]: row for row in selfsup.recipes.table()}
    assert rows["electra-mini"]["objective"] == "15% replaced, generator 0.25"
    assert rows["electra-mini"]["megaflops_per_token"] > 0
