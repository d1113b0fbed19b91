"""Discrete codes as words, and a decoder as their prior."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from selfsup.cli.app import main
from selfsup.config import BytePairConfig
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError
from selfsup.models.autoencoder import AutoEncoder
from selfsup.models.autoencoder_hub import load_autoencoder
from selfsup.models.decoder_hub import load_decoder
from selfsup.nn.sequences import Sequences
from selfsup.uses import codes
from selfsup.uses.code_words import CodeWords, sample_indices

TRAIN = ["--train.batch_size", "16", "--quiet"]


def shaped(sizes: tuple[int, ...], places: int, vector: bool = False) -> AutoEncoder:
    """What `CodeWords` reads of a model."""
    bottleneck = SimpleNamespace(sizes=sizes)
    shape = (4,) if vector else (places, 4)
    fake = SimpleNamespace(bottleneck=bottleneck, places=places, code_shape=shape)
    return cast(AutoEncoder, fake)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple),
    st.integers(1, 5),
    st.integers(0, 100),
)
def test_words_say_the_same_as_indices(sizes: tuple[int, ...], places: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    words = CodeWords(shaped(sizes, places))
    indices = random.integers(0, sizes, (3, places, len(sizes)))
    lines = words.write(indices)
    assert all(len(line.split()) == words.length for line in lines)
    kinds = words.kinds
    numbers = [
        [kinds[i % len(kinds)].index(word) for i, word in enumerate(line.split())] for line in lines
    ]
    assert (words.read(np.array(numbers)) == indices).all()


def test_one_word_a_place_or_a_column() -> None:
    grid = CodeWords(shaped((8, 5), 2))
    assert grid.write(np.array([[[0, 4], [7, 0]]])) == ["4 35"]
    binary = CodeWords(shaped((2,) * 13, 1, vector=True))
    assert binary.write(np.ones((1, 13), np.int64)) == [" ".join(f"{c}:1" for c in range(13))]
    assert binary.read(np.ones((1, 13), np.int64)).shape == (1, 13)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    found = load_digits()
    np.save(folder / "digits.npy", (found.images[:300] * 15.9).astype(np.uint8))
    data = ["--data", str(folder / "digits.npy")]
    for name, recipe, extra in [
        ("vq", "vq-autoencoder", ["--bottleneck.size", "8"]),
        ("residual", "residual-vq", ["--bottleneck.size", "8"]),
        ("plain", "autoencoder", ["--code-size", "4"]),
    ]:
        run = str(folder / name)
        pretrain = ["pretrain", recipe, *data, "--steps", "8", *extra, *TRAIN, "--out", run]
        assert main(pretrain) == 0
        if name == "plain":
            break
        lines = str(folder / f"{name}.txt")
        assert main(["encode", run, *data, "-o", lines]) == 0
        prior = ["pretrain", "gpt2-tiny", "--data", lines, "--unit", "line", "--steps", "4"]
        prior += ["--tokenizer.kind", "words", "--data.length", "80", "--data.heldout", "0.1"]
        prior += ["--data.duplicates", "keep"]
        assert main([*prior, *TRAIN, "--out", str(folder / f"{name}-prior")]) == 0
    return folder


@pytest.mark.parametrize("name", ["vq", "residual"])
def test_a_decoder_is_a_prior(
    name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run, prior = str(trained / name), str(trained / f"{name}-prior")
    assert main(["sample", run, "--prior", prior, "--count", "9", "-o", str(tmp_path / "a.png"),
                 "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["images"] == 9
    model = load_autoencoder(run)
    drawn = sample_indices(model, prior, 20, seed=1)
    assert drawn.shape == (20, *model.code_shape[:-1], len(model.bottleneck.sizes))
    assert (drawn >= 0).all()
    assert (drawn < np.array(model.bottleneck.sizes)).all()
    assert len(np.unique(drawn.reshape(20, -1), axis=0)) > 10
    assert (drawn == sample_indices(model, prior, 20, seed=1)).all()
    assert (drawn != sample_indices(model, prior, 20, seed=2)).any()
    assert (drawn[:3] == sample_indices(model, load_decoder(prior), 3, seed=1)).all()
    assert codes.sample(model, 2, prior=prior).shape == (2, 1, 8, 8)


def test_draws_follow_the_decoder(trained: Path) -> None:
    """First words come as often as the decoder says, given that they are words of a code."""
    model, decoder = load_autoencoder(str(trained / "vq")), load_decoder(trained / "vq-prior")
    drawn = sample_indices(model, decoder, 1500, seed=3).reshape(1500, -1)[:, 0]
    batch = Sequences.from_lists([np.array([decoder.tokenizer.begin_id])])
    with torch.no_grad():
        logits = decoder.model.predict(decoder.model(batch))[0]
    known = decoder.tokenizer.inner.get_vocab()
    kinds = CodeWords(model).kinds[0]
    ids = {i: known[word] for i, word in enumerate(kinds) if word in known}
    expected = logits[list(ids.values())].softmax(-1).numpy()
    counts = np.array([(drawn == i).sum() for i in ids])
    assert counts.sum() == 1500  # words that were never seen are not drawn
    likely = expected * 1500 >= 5
    spread = ((counts - 1500 * expected) ** 2 / (1500 * expected))[likely].sum()
    assert spread < likely.sum() + 4 * np.sqrt(2 * likely.sum())


def test_what_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*line: str) -> str:
        assert main([*line]) == 2
        return capsys.readouterr().err

    vq, other = str(trained / "vq"), str(trained / "residual")
    out = ["-o", str(tmp_path / "new.png")]
    asked = ["sample", vq, *out]
    assert "--prior: this model's codes are discrete, so it needs" in refused(*asked)
    assert "gaussian is for real numbers" in refused(*asked, "--prior", "gaussian")
    assert "trained on this model's codes" in refused(*asked, "--prior", f"{other}-prior")
    assert "--temperature" in refused(*asked, "--prior", f"{vq}-prior", "--temperature", "-1")
    plain = str(trained / "plain")
    assert "are real numbers; use gaussian or mixture" in refused(
        "sample", plain, *out, "--prior", f"{vq}-prior"
    )
    data = ["--data", str(trained / "digits.npy")]
    assert "they have no words; write them into an .npy file" in refused(
        "encode", plain, *data, "-o", str(tmp_path / "codes.txt")
    )
    assert "there are no indices; leave --indices out" in refused(
        "encode", plain, *data, "--indices", "-o", str(tmp_path / "codes.npy")
    )
    classes = str(tmp_path / "classes.csv")
    assert "train a one-hot-autoencoder" in refused("cluster", plain, *data, "-o", classes)
    for line in (
        ["generate", plain, "--prompt", "a"],
        ["fill", plain, "a"],
        ["predict", plain, "a"],
    ):
        said = refused(*line)
        assert "this model is an auto-encoder" in said
        assert "`cluster` use it" in said
    assert "must end in .npy or .txt" in refused("encode", vq, "--data", "x", "-o", "codes.csv")
    with pytest.raises(UserError, match="real numbers"):
        CodeWords(shaped((), 1))
    assert not (tmp_path / "new.png").exists()


def test_a_prior_that_reads_too_little(trained: Path) -> None:
    model = load_autoencoder(str(trained / "vq"))
    decoder = load_decoder(trained / "vq-prior")
    decoder.origin["length"] = model.places  # what it was trained on, though it may hold more
    with pytest.raises(UserError, match=r"a code has \d+ words"):
        sample_indices(model, decoder, 1)


def test_a_prior_that_parts_words_otherwise(trained: Path) -> None:
    """Byte pairs know most of the words too, but a text's second word begins with its space."""
    model = load_autoencoder(str(trained / "vq"))
    lines = (trained / "vq.txt").read_text().splitlines()
    decoder = load_decoder(trained / "vq-prior")
    pairs = train_tokenizer(BytePairConfig(vocab_size=261 + 40), lines).for_decoder()
    assert any(word in pairs.inner.get_vocab() for word in CodeWords(model).kinds[0])
    with pytest.raises(UserError, match="as other tokens than these words; train it with"):
        sample_indices(model, replace(decoder, tokenizer=pairs), 1)
