"""Every command and every line of Python in the READMEs runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.cli.app import main
from selfsup.data.docstrings import read_docstrings

_ROOT = Path(__file__).parent.parent
_CHINESE = "清华大学和台湾大学的学生在图书馆里读书，老师说今天的天气很好，我们去公园散步。"


def blocks(file: str, language: str) -> list[str]:
    text = (_ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def shortened(words: list[str]) -> list[str]:
    """Three steps of a small network on few words instead of twenty minutes."""
    if words[0] == "finetune":
        return [*words, "--epochs", "0", "--train.budget", "3 steps"]
    if words[0] != "pretrain":
        return words
    at = words.index("--minutes")
    small = ["--tokenizer.vocab_size", "2000", "--model.num_layers", "1", "--train.batch_size", "8"]
    return [*words[:at], "--steps", "3", *words[at + 2 :], *small, "--data.length", "32"]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readmes_commands_and_code_run(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus" / "more").mkdir(parents=True)
    texts = [d.text for d in read_docstrings() if d.library in ("python", "numpy")][:1500]
    for i, text in enumerate(texts):
        name = f"corpus/more/{i}.txt" if i % 2 else f"corpus/{i}.txt"
        (tmp_path / name).write_text(f"{text}\n{_CHINESE}\n", encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    labelled = [f"{'sum' if i % 2 else 'index'} {i}\t{'yes' if i % 2 else 'no'}" for i in range(20)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *labelled]) + "\n")
    (commands,) = blocks(readme, "console")
    ran = []
    for line in commands.splitlines():
        assert line.startswith("$ selfsup ")
        words = shortened(shlex.split(line)[2:])
        assert main(words) == 0, (line, capsys.readouterr().err)
        ran.append(words[0])
    assert ran == [
        *("data", "pretrain", "fill", "embed", "finetune", "predict", "info"),
        *("pretrain", "generate"),
    ]
    assert np.load("vectors.npy").shape[0] == 2
    assert json.loads((tmp_path / "runs/mine/result.json").read_text())["steps"] == 3
    assert json.loads((tmp_path / "runs/labels/result.json").read_text())["labels"] == ["no", "yes"]
    (code,) = blocks(readme, "python")
    seen: dict[str, object] = {}
    exec(code, seen)
    assert np.asarray(seen["vectors"]).shape == (2, 256)
    answers: Any = seen["answers"]
    assert [set(a["probabilities"]) for a in answers] == [{"no", "yes"}] * 2
    assert "transformers.AutoModelForMaskedLM" in (_ROOT / readme).read_text(encoding="utf-8")


def test_both_readmes_say_the_same() -> None:
    english, chinese = (blocks(name, "console")[0] for name in ("README.md", "README.zh-CN.md"))
    verbs = [[line.split()[:3] for line in text.splitlines()] for text in (english, chinese)]
    assert verbs[0] == verbs[1]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_links_lead_somewhere(readme: str) -> None:
    text = (_ROOT / readme).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text, re.DOTALL)
    assert links
    assert not [link for link in links if "://" not in link and not (_ROOT / link).exists()]


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", *(_ROOT / "docs").rglob("*.md")]:
        named = re.findall(r"\bmake ([a-z-]+)", "\n".join(code_of(page)))
        assert set(named) <= targets, page


def code_of(page: Path) -> list[str]:
    """What stands between back-ticks, in lines or blocks."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE) + re.findall(
        r"`([^`\n]+)`", text
    )
