"""What `evaluate` of a decoder says beside its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfsup.uses import evaluating


@pytest.mark.parametrize("others", [{}, {"note": "letters are unknown"}])
def test_how_a_file_was_read_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: dict[str, str]
) -> None:
    def evaluate_texts(_: object, texts: Sequence[str], **options: Any) -> dict[str, Any]:
        return {"texts": list(texts), **others}

    monkeypatch.setattr(evaluating, "load_decoder", lambda model, device: None)
    monkeypatch.setattr(evaluating, "evaluate_texts", evaluate_texts)
    file = tmp_path / "a.tsv"
    file.write_text('text\tlabel\n"odd\t1\n"whole"\t0\n')
    found = evaluating.evaluate_decoder("m", str(file), quiet=True)
    assert found["texts"] == ['"odd', '"whole"']
    note = f"{file}: quotes are ordinary characters, also around whole fields (line 3)"
    assert found["note"] == "; ".join([note, *others.values()])
