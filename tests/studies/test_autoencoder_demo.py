"""The demo of auto-encoders, quick: every part beside its floors, and the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfsup.cli.app import main


def test_the_demo_tells_its_story(tmp_path: Path, capsys: Any) -> None:
    assert main(["demo", "autoencoder", "--quick", "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["quick"] is True
    errors = result["reconstruction"]
    assert 0 < errors["principal components"] < errors["training mean"]
    assert errors["auto-encoder"] > 0
    assert 0.5 < result["classes"]["k-means"] <= 1
    assert 0 < result["classes"]["one-hot code"] <= 1
    assert 0.5 < result["anomalies"]["detector"] <= 1
    for name in ("reconstruction", "classes", "samples"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[1:4] == b"PNG"
    assert json.loads((tmp_path / "result.json").read_text())["finding"] == result["finding"]
