"""Folders from others whose settings say what cannot be: one line names the key, and no memory is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.autoencoder_config import AutoEncoderModelConfig
from selfsup.data.feature_tables import FeatureTable
from selfsup.errors import UserError
from selfsup.models.autoencoder import build
from selfsup.models.autoencoder_hub import load_autoencoder, save_autoencoder
from selfsup.models.decoder_hub import load_decoder
from selfsup.models.hub import load_encoder
from selfsup.models.task_hub import save_finetuned
from selfsup.models.task_model import HeadSpec, start_task_model
from selfsup.uses.detection.estimators import AutoEncoderDetector
from selfsup.uses.detection.folder import load_detector, save_detector
from selfsup.uses.predicting import Predictor
from tests.tasks.toy import write_encoder
from tests.uses.tiny_decoder import tiny_decoder

ABSURD: tuple[Any, ...] = (10**30, -1.5, "x", [1])
KEYS = (
    *("id2label", "selfsup.model", "selfsup.head", "selfsup.task"),
    *(f"selfsup.head.{key}" for key in ("unit", "outputs", "pooling")),
    *(
        f"selfsup.task.{k}"
        for k in ("kind", "answer", "labels", "max_length", "span", "data", "scale")
    ),
)


def change(folder: Path, keys: str, value: Any, name: str = "config.json") -> None:
    """Puts a value at a dotted place of a JSON file; `...` takes the key away."""
    settings = json.loads((folder / name).read_text(encoding="utf-8"))
    *before, last = keys.split(".")
    section = settings
    for key in before:
        section = section[int(key) if isinstance(section, list) else key]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    (folder / name).write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    pretrained = load_encoder(write_encoder(place / "encoder"))
    (place / "model").mkdir()
    save_finetuned(
        place / "model",
        start_task_model(pretrained.model, HeadSpec("sequence", 2), seed=0),
        pretrained.tokenizer,
        answer="class",
        labels=["no", "yes"],
        task={"kind": "classify", "answer": "class", "labels": ["no", "yes"], "main": "f1"}
        | {"max_length": 50, "scale": [0.0, 1.0]},
        max_length=50,
        origin={},
        card="",
    )
    return place / "model"


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    """A fine-tuned model of one's own."""
    return shutil.copytree(classifier, tmp_path / "model")


def test_the_fine_tuned_model_answers(folder: Path) -> None:
    assert Predictor(folder)(["the film is fine"])[0]["label"] in {"no", "yes"}


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize("key", KEYS)
def test_what_a_fine_tuned_models_settings_cannot_say(folder: Path, key: str, value: Any) -> None:
    change(folder, key, value)
    with pytest.raises(UserError, match=r"config\.json|model: tensor") as raised:
        Predictor(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "selfsup.head.outputs",
            10**9,
            "the head has 1000000000 outputs, and the weights nothing longer than",
        ),
        ("selfsup.head.outputs", ..., "the key 'outputs' is missing"),
        ("selfsup.head.made_up", 1, "selfsup.head: unknown key 'made_up'"),
        ("selfsup.task.answer", ..., "the key 'answer' is missing"),
        ("selfsup.task.labels", ["no"], "1 answer, and the head has 2; labels and weights"),
        ("selfsup.task.kind", "tag", "the task tag and the answer class do not go together"),
        ("selfsup.task.max_length", 97, "max_length is 97, and the encoder reads 96"),
        ("selfsup.task.fallback", 2, "there is no label 2"),
        ("selfsup.model.vocab_size", ..., "selfsup.model: vocab_size is missing"),
        ("model_type", "x", "architecture 'x' is not one that selfsup opens"),
        ("model_type", ..., "architecture 'unknown' is not one that selfsup opens"),
    ],
)
def test_what_does_not_go_together(folder: Path, key: str, value: Any, said: str) -> None:
    change(folder, key, value)
    with pytest.raises(UserError) as raised:
        Predictor(folder)
    assert said in str(raised.value)


def test_a_head_whose_pooler_is_gone(folder: Path) -> None:
    change(folder, "selfsup.head.pooling", "pooler")
    with pytest.raises(UserError, match="the head asks for a pooler, which this encoder lacks"):
        Predictor(folder)


# --- auto-encoders


@pytest.fixture(scope="module")
def made_autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = {"a": np.arange(8.0), "b": np.array(["x", "y"] * 4, object)}
    parts = {"network": {"kind": "dense"}, "bottleneck": {"kind": "identity", "size": 2}}
    config = AutoEncoderModelConfig.model_validate({**parts, "likelihood": "squared"})
    folder = tmp_path_factory.mktemp("autoencoder")
    save_autoencoder(folder, build(config, FeatureTable().fit(rows), 0), {}, "")
    return folder


@pytest.mark.parametrize("value", [10**9, *ABSURD])
@pytest.mark.parametrize(
    "key",
    [
        "spec",
        "spec.numbers",
        "spec.numbers.0.center",
        "spec.categories.0.name",
        "model.bottleneck.size",
    ],
)
def test_what_an_auto_encoders_settings_cannot_say(
    made_autoencoder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    if key.endswith(
        "center" if isinstance(value, (int, float)) else "name" if value == "x" else "-"
    ):
        return  # they may
    folder = shutil.copytree(made_autoencoder, tmp_path / "model")
    assert load_autoencoder(folder).spec.names == ("a", "b")
    change(folder, key, value)
    with pytest.raises(UserError, match=r"config\.json: its settings|model: tensor"):
        load_autoencoder(folder)


# --- detectors


@pytest.fixture(scope="module")
def made_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    folder = tmp_path_factory.mktemp("detector")
    save_detector(folder, AutoEncoderDetector(members=2, steps=2, hidden=4).fit(rows))
    return folder


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize(
    "key",
    ["plan", "plan.hidden", "plan.members", "plan.seed", "width", "code_weight", "seen", "offset"],
)
def test_what_a_detectors_settings_cannot_say(
    made_detector: Path, tmp_path: Path, key: str, value: Any
) -> None:
    if key in {"code_weight", "offset", "seen"} and isinstance(value, (int, float)):
        return  # they may
    folder = shutil.copytree(made_detector, tmp_path / "detector")
    assert load_detector(folder).n_features_in_ == 3
    change(folder, key, value, "detector.json")
    with pytest.raises(UserError, match=r"detector\.json: ") as raised:
        load_detector(folder)
    assert "\n" not in str(raised.value)


def test_a_detectors_sizes_take_no_memory(made_detector: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_detector, tmp_path / "detector")
    change(folder, "plan.hidden", 10**9, "detector.json")
    with pytest.raises(UserError, match=r"has shape .*, and its plan says"):
        load_detector(folder)


# --- files beside the settings


@pytest.mark.parametrize(
    "held",
    [
        [1],
        "x",
        {"a": None},
        {"a": ["x"]},
        {"a": "../model.safetensors"},
        {"a": "/etc/x"},
    ],
)
def test_an_index_names_files_beside_it(folder: Path, held: Any) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": held}), encoding="utf-8")
    with pytest.raises(UserError, match=r"index\.json: weight_map: must "):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["modules.json", "tokenizer_config.json", "config.json"])
def test_json_that_is_nested_too_deep(folder: Path, name: str) -> None:
    (folder / name).write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match=name):
        load_encoder(folder)


def test_a_decoder_that_says_it_is_none(tmp_path: Path) -> None:
    tiny_decoder(tmp_path / "model")
    change(tmp_path / "model", "selfsup.model.causal", False)
    with pytest.raises(UserError, match=r"selfsup\.model: causal is false"):
        load_decoder(tmp_path / "model")
