"""What functions take and refuse when they are called from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

import selfsup
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.models.hub import Pretrained, load
from selfsup.uses.likelihood import bits_per_byte, score
from tests.tasks.toy import toy_config, write_encoder, write_texts
from tests.uses.tiny_decoder import tiny_decoder

TEXTS = ["the film is fine", "the plot was dull"]


class Table(dict[str, Any]):
    """What has columns, as a data frame does."""

    columns = ("text",)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    found = load(write_encoder(tmp_path_factory.mktemp("encoder") / "model"))
    assert isinstance(found, Pretrained)
    return found


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> PretrainedDecoder:
    return tiny_decoder(tmp_path_factory.mktemp("decoder") / "model")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> selfsup.Predictor:
    folder = tmp_path_factory.mktemp("labels")
    train = write_texts(folder / "train.tsv", 40)
    model = write_encoder(folder / "model")
    config = toy_config(model, "classify", train)
    selfsup.finetune(config, folder / "run", quiet=True)
    return selfsup.Predictor(folder / "run", device="cpu")


Use = Callable[[Any], Any]


@pytest.fixture
def uses(
    encoder: Pretrained, decoder: PretrainedDecoder, predictor: selfsup.Predictor
) -> dict[str, Use]:
    short = selfsup.Sampling(max_tokens=2, greedy=True)
    return {
        "embed": lambda texts: selfsup.embed(encoder, texts).tolist(),
        "fill": lambda texts: selfsup.fill(encoder, texts),
        "complete": lambda texts: selfsup.complete(decoder, texts, short),
        "generate": lambda texts: list(selfsup.generate(decoder, texts, short)),
        "bits": lambda texts: bits_per_byte(decoder, texts),
        "predict": lambda texts: predictor(texts),
    }


NAMES = ("embed", "fill", "complete", "generate", "bits", "predict")


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_a_list_a_column_or_a_generator(uses: dict[str, Use], name: str) -> None:
    texts = [f"{text} [MASK]" for text in TEXTS]
    wanted = uses[name](texts)
    assert uses[name](tuple(texts)) == wanted
    assert uses[name](np.array(texts)) == wanted
    assert uses[name](text for text in texts) == wanted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("the film", "a list of "),
        ({"text": TEXTS}, "not a table; give one of its columns"),
        (Table(text=TEXTS), "not a table; give one of its columns"),
        (3, "is expected, not 3 (int)"),
        ([TEXTS[0], None], " 2: "),
        ([TEXTS[0], float("nan")], "nan (float)"),
        (["the [MASK]", "the \ud800"], "half of a character"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_with_its_place(
    uses: dict[str, Use], name: str, given: Any, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        uses[name](given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_may_be_its_folder_and_another_kind_is_refused(
    encoder: Pretrained, decoder: PretrainedDecoder
) -> None:
    by_folder = selfsup.embed(encoder.path, TEXTS)
    assert (by_folder == selfsup.embed(encoder, TEXTS)).all()
    blank = ["the [MASK]"]
    assert selfsup.fill(str(encoder.path), blank) == selfsup.fill(encoder, blank)
    assert bits_per_byte(decoder.path, TEXTS) == bits_per_byte(decoder, TEXTS)
    for use in (selfsup.embed, selfsup.fill):
        with pytest.raises(UserError, match="this model is a decoder"):
            use(decoder, blank)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="an encoder is expected, not int"):
            use(3, blank)  # type: ignore[arg-type]
    for write in (selfsup.generate, selfsup.complete):
        with pytest.raises(UserError, match="a decoder is expected, not Pretrained"):
            write(encoder, blank)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a decoder is expected"):
        score(encoder, [("a", "b")])  # type: ignore[arg-type]
    for empty in ("", " "):
        with pytest.raises(UserError, match="no model is named"):
            selfsup.load(empty)


def test_pairs_to_score_are_pairs_of_texts(decoder: PretrainedDecoder) -> None:
    pairs = [("the film", " is"), ("the", " plot")]
    assert score(decoder, iter(pairs)) == score(decoder, pairs)
    for bad, said in (("ab", "pair 2: is no pair"), (("a", None), "pair 2: is no text but None")):
        with pytest.raises(UserError, match=said):
            score(decoder, [pairs[0], bad])  # type: ignore[list-item]


@pytest.mark.parametrize("device", ["junk", "meta", "cuda:99"])
def test_devices_that_are_not_here(encoder: Pretrained, device: str) -> None:
    with pytest.raises(UserError, match="device"):
        selfsup.load(encoder.path, device=device)
    assert isinstance(selfsup.load(encoder.path, device="auto"), Pretrained)


@pytest.mark.parametrize("precision", ["fp16", "junk", None])
def test_unknown_precisions(
    encoder: Pretrained, predictor: selfsup.Predictor, precision: Any
) -> None:
    with pytest.raises(UserError, match="unknown precision"):
        selfsup.embed(encoder, TEXTS, precision=precision)
    with pytest.raises(UserError, match="unknown precision"):
        selfsup.Predictor(predictor.opened.path, device="cpu", precision=precision)


def test_counts_are_whole_numbers(encoder: Pretrained) -> None:
    for given in (0, -5, 1.5, True):
        with pytest.raises(UserError, match="--batch-tokens"):
            selfsup.embed(encoder, TEXTS, batch_tokens=given)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--top: must be a whole number, not 2\.5"):
        selfsup.fill(encoder, ["the [MASK]"], top=2.5)  # type: ignore[arg-type]
    many = selfsup.fill(encoder, ["the [MASK]"], top=10**6)[0].blanks[0]
    tokenizer = encoder.tokenizer
    assert len(many) == tokenizer.vocab_size - len(tokenizer.special_ids)
    assert many[-1].probability > 0


@pytest.mark.parametrize("name", ["max_tokens", "samples", "top_k", "seed"])
def test_sampling_takes_whole_numbers(name: str) -> None:
    assert getattr(selfsup.Sampling(**{name: np.int64(3)}), name) == 3
    with pytest.raises(UserError, match=r"must be a whole number, not 1\.5"):
        selfsup.Sampling(**{name: 1.5})


def test_stop_texts() -> None:
    assert selfsup.Sampling(stop="zqn").stop == ("zqn",)
    assert selfsup.Sampling(stop=["a", "b"]).stop == ("a", "b")
    for bad in (("",), "", (1,), None):
        with pytest.raises(UserError):
            selfsup.Sampling(stop=bad)  # type: ignore[arg-type]


def test_configurations_of_another_kind(tmp_path: Path) -> None:
    words = selfsup.recipes.get("bert-tiny")
    codes = selfsup.autoencoder_recipes.get("vae")
    labels = selfsup.FinetuneConfig(model=PurePosixPath("here"))  # type: ignore[arg-type]
    assert labels.model == "here"
    for given, train in (
        (labels, selfsup.pretrain),
        ({}, selfsup.pretrain),
        (words, selfsup.finetune),
        (codes, selfsup.finetune),
    ):
        with pytest.raises(UserError, match="Config is expected, not"):
            train(given, tmp_path / "run")  # type: ignore[operator]
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="autoencoder_recipes"):
        selfsup.recipes.get("vae")
