"""selfsup: pre-train on your own data, adapt, find out whether it paid, and put it to use.

Importing this package is cheap: torch comes in with the first function that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfsup import autoencoder_recipes, recipes
    from selfsup.finetune_config import FinetuneConfig
    from selfsup.models.autoencoder import AutoEncoder
    from selfsup.models.hub import load
    from selfsup.uses.detection.estimators import AutoEncoderDetector, AutoEncoderTransformer
    from selfsup.uses.detection.folder import load_detector, save_detector
    from selfsup.uses.embed import embed
    from selfsup.uses.fill import fill
    from selfsup.uses.finetuning import finetune
    from selfsup.uses.generate import complete, generate
    from selfsup.uses.predicting import Predictor
    from selfsup.uses.pretraining import pretrain
    from selfsup.uses.sampling import Sampling

__version__ = "0.1.0"
__all__ = [
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

_HOMES = {
    "AutoEncoder": "selfsup.models.autoencoder",
    "AutoEncoderDetector": "selfsup.uses.detection.estimators",
    "AutoEncoderTransformer": "selfsup.uses.detection.estimators",
    "FinetuneConfig": "selfsup.finetune_config",
    "Predictor": "selfsup.uses.predicting",
    "Sampling": "selfsup.uses.sampling",
    "complete": "selfsup.uses.generate",
    "embed": "selfsup.uses.embed",
    "fill": "selfsup.uses.fill",
    "finetune": "selfsup.uses.finetuning",
    "generate": "selfsup.uses.generate",
    "load": "selfsup.models.hub",
    "load_detector": "selfsup.uses.detection.folder",
    "pretrain": "selfsup.uses.pretraining",
    "save_detector": "selfsup.uses.detection.folder",
}


def __getattr__(name: str) -> Any:
    if name in ("recipes", "autoencoder_recipes"):
        return import_module(f"selfsup.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'selfsup' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
