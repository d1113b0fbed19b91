"""`selfsup generate` and `selfsup export`: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.uses.decoders import folder

from selfsup.cli.app import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(folder("gpt2", tmp_path_factory.mktemp("cli") / "gpt2"))


def run(capsys: Capture, *words: str) -> tuple[str, str]:
    assert main(list(words)) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_one_text_streams(model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfsup.cli import render

    shown: list[str] = []
    monkeypatch.setattr(render, "print_piece", shown.append)
    words = ("generate", model, "--prompt", "The sum", "--max-tokens", "9", "--greedy")
    _, err = run(capsys, *words)
    assert shown[0] == "The sum"
    assert shown[-1] == "\n"
    assert len(shown) > 4
    assert "tokens in" in err
    out, _ = run(capsys, *words, "--json")
    (one,) = json.loads(out)
    assert "".join(shown) == "The sum" + one["text"] + "\n"


def test_several_come_in_order(model: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "one"}\n{"text": "two three"}\n')
    words = ("generate", model, "--input", str(file), "--samples", "2", "--max-tokens", "4")
    out, _ = run(capsys, *words)
    titles = [line for line in out.splitlines() if line.startswith("[prompt")]
    assert titles == [f"[prompt {p}, sample {s}]" for p in (1, 2) for s in (1, 2)]
    target = tmp_path / "out.jsonl"
    run(capsys, *words, "--output", str(target))
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(x["prompt"], x["sample"]) for x in lines] == [
        (p, s) for p in ("one", "two three") for s in (0, 1)
    ]
    assert main([*words, "--output", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_texts_are_written_when_they_are_done(
    model: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.training import progress
    from selfsup.uses import generate

    target, lines = tmp_path / "out.jsonl", []

    def pieces(*_: Any, **__: Any) -> Any:
        for prompt, sample in ((0, 1), (0, 0), (1, 0), (1, 1)):
            yield generate.Piece(prompt, sample, "x", (1,), "end")
            (beside,) = tmp_path.glob(".out*")
            lines.append(beside.read_text().count("\n"))

    monkeypatch.setattr(generate.Writer, "generate", pieces)
    monkeypatch.setattr(progress, "COUNTED_EVERY", 0.0)
    words = ("generate", model, "--prompt", "a", "--prompt", "b", "--samples", "2")
    _, err = run(capsys, *words, "--output", str(target))
    assert lines == [0, 2, 3, 4]
    assert err.splitlines()[-1] == "written: 4 of 4 texts"
    keys = [(x["prompt"], x["sample"]) for x in map(json.loads, target.read_text().splitlines())]
    assert keys == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    out, err = run(capsys, *words, "--output", str(target), "--overwrite", "--json")
    assert [json.loads(line) for line in target.read_text().splitlines()] == json.loads(out)
    assert not err


def test_what_fails_while_it_is_written_leaves_no_file(
    model: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.errors import no_numbers
    from selfsup.uses import generate

    def pieces(*_: Any, **__: Any) -> Any:
        yield generate.Piece(0, 0, "x", (1,), "end")
        raise no_numbers("here", mend="check its weights")

    monkeypatch.setattr(generate.Writer, "generate", pieces)
    words = ["generate", model, "--prompt", "a", "--prompt", "b", "--output"]
    assert main([*words, str(tmp_path / "out.jsonl")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_stop_is_written_as_shells_hand_it_over(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.uses import generate

    seen: list[tuple[str, ...]] = []
    write = generate.Writer.generate

    def watched(self: generate.Writer, prompts: list[str], sampling: Any, **more: Any) -> Any:
        seen.append(sampling.stop)
        return write(self, prompts, sampling, **more)

    monkeypatch.setattr(generate.Writer, "generate", watched)
    words = ("generate", model, "--prompt", "a", "--max-tokens", "2", "--stop")
    run(capsys, *words, r"\n\n", "--stop", r"a\tb")
    assert seen == [("\n\n", "a\tb")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "no prompt"),
        ("--prompt a --temperature -1", "--temperature: must be 0 (greedy) or more, not -1"),
        ("--prompt a --top-p 0", "--top-p: must be above 0"),
        ("--prompt a --top-p 1.1", "--top-p"),
        ("--prompt a --top-k 0", "--top-k"),
        ("--prompt a --min-p 1", "--min-p"),
        ("--prompt a --repetition-penalty 0", "--repetition-penalty"),
        ("--prompt a --stop=", "--stop: an empty text"),
        ("--prompt a --max-tokens 0", "--max-tokens"),
        ("--prompt a --samples 0", "--samples"),
        ("--prompt a --batch 0", "--batch"),
        ("--prompt a --output x.txt", "must end in .jsonl"),
        ("--prompt a --seed 99999999999999999999", "--seed: must be at most 4294967295"),
        ("--prompt a --greedy --temperature 0.5", "--temperature: does nothing with --greedy"),
        ("--prompt a --greedy --samples 3", "--samples: 3 texts would be the same"),
        ("--prompt a --column x", "--column: is about --input, which is missing"),
    ],
)
def test_bad_input_is_one_line(model: str, capsys: Capture, flags: str, message: str) -> None:
    assert main(["generate", model, *flags.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_without_the_column(model: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"words": "one"}\n')
    assert main(["generate", model, "--input", str(file)]) == 2
    assert "text" in capsys.readouterr().err


def test_export(model: str, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    file = tmp_path / "model.gguf"
    out, _ = run(capsys, "export", model, "--to", "gguf", "--output", str(file), "--json")
    assert json.loads(out)["bytes"] == file.stat().st_size
    assert main(["export", model, "--output", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export", model, "--output", str(tmp_path / "model.bin")]) == 2
    assert "must end in .gguf" in capsys.readouterr().err


def test_an_interruption_keeps_the_texts_that_are_done(
    model: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.uses import generate as writing

    usual = writing.in_order

    def stopped(after: int) -> Any:
        def in_order(*given: Any) -> Any:
            for number, one in enumerate(usual(*given)):
                if number == after:
                    raise KeyboardInterrupt
                yield one

        return in_order

    target = tmp_path / "texts.jsonl"
    words = ["generate", model, "--max-tokens", "2", "--output", str(target), "--quiet"]
    for letter in "abc":
        words += ["--prompt", letter]
    monkeypatch.setattr(writing, "in_order", stopped(2))
    for part in ("texts.part.jsonl", "texts.part1.jsonl"):  # what is there stays
        assert main(words) == 130
        err = capsys.readouterr().err
        assert err == f"selfsup: stopped at text 2 of 3; those are in {tmp_path / part}\n"
        lines = (tmp_path / part).read_text().splitlines()
        assert [json.loads(line)["prompt"] for line in lines] == ["a", "b"]
    (tmp_path / "away").mkdir()
    target.symlink_to(tmp_path / "away" / "real.jsonl")
    assert main([*words, "--overwrite"]) == 130
    assert (tmp_path / "away" / "real.part.jsonl").read_text()
    capsys.readouterr()
    target.unlink()
    monkeypatch.setattr(writing, "in_order", stopped(0))
    assert main(words) == 130
    assert capsys.readouterr().err == "selfsup: interrupted\n"
    (tmp_path / "away" / "real.part.jsonl").unlink()
    (tmp_path / "away").rmdir()
    assert {p.name for p in tmp_path.iterdir()} == {"texts.part.jsonl", "texts.part1.jsonl"}
