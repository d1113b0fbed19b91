"""What users import, and with which arguments: a change here is a change for them."""

from __future__ import annotations

import inspect

import selfsup


def test_names_and_arguments() -> None:
    assert selfsup.__all__ == [
        "AutoEncoder",
        "AutoEncoderDetector",
        "AutoEncoderTransformer",
        "FinetuneConfig",
        "Predictor",
        "Sampling",
        "__version__",
        "autoencoder_recipes",
        "complete",
        "embed",
        "fill",
        "finetune",
        "generate",
        "load",
        "load_detector",
        "pretrain",
        "recipes",
        "save_detector",
    ]
    faces = {
        "pretrain": ["config", "out", "overwrite", "quiet"],
        "finetune": ["config", "out", "overwrite", "quiet"],
        "Predictor": ["name", "device", "precision", "batch_tokens"],
        "load": ["name", "device"],
        "load_detector": ["folder", "device"],
        "save_detector": ["folder", "detector", "extra"],
        "fill": ["pretrained", "texts", "top", "batch_tokens"],
        "generate": ["model", "prompts", "sampling", "precision", "int8", "batch", "cut"],
        "complete": ["model", "prompts", "sampling", "precision", "int8", "batch", "cut"],
        "embed": ["pretrained", "texts", "pooling", "normalize", "batch_tokens", "precision"],
    }
    for name, arguments in faces.items():
        assert list(inspect.signature(getattr(selfsup, name)).parameters) == arguments
    assert [n for n in dir(selfsup.recipes) if n in ("get", "table")] == ["get", "table"]
