"""Files of examples: what they are for decides what may be done about rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.tasks.reading import Notes, Role, read_examples


@pytest.mark.parametrize("role", ["train", "score", "predict"])
def test_only_who_can_skip_rows_is_told_to(tmp_path: Path, role: Role) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": "x"}\n{"text"\n')
    with pytest.raises(UserError) as caught:
        read_examples(str(file), LabelledConfig(), "classify", Notes(), numeric=False, role=role)
    assert ("--on-bad-row skip" in str(caught.value)) == (role != "predict")
