"""The study of learning in context: its tasks, its controls, and a training of seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsup.cli.app import main
from selfsup.data.keys import Key
from selfsup.data.pair_files import read_pairs, symbols_of
from selfsup.data.sampler import Examples
from selfsup.data.task_families import Arithmetic, Family, Lookup, Pairs, Strings
from selfsup.data.task_rows import ARROW, STOP, TaskRows, question
from selfsup.errors import UserError
from selfsup.models.decoder_hub import load_decoder
from selfsup.objectives.in_context import AnswersBatch, InContext
from selfsup.studies import in_context as study
from selfsup.studies.in_context_exam import Cell, accuracy, ask
from selfsup.studies.in_context_finding import clearly_above, emergence


def toy_pairs(count: int = 400) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Texts of two words with translations of two."""
    rng = random.Random(0)
    return [
        ((f"a{n % 20}", f"b{n // 20}"), (f"c{rng.randrange(9)}", f"d{rng.randrange(9)}"))
        for n in range(count)
    ]


def families() -> list[Family]:
    return [Lookup(), Arithmetic(), Strings(), Pairs(toy_pairs())]


@pytest.fixture(scope="module")
def rows() -> TaskRows:
    return TaskRows(families(), [1, 1, 1, 1], 96)


def examples(text: list[str]) -> list[tuple[list[str], list[str]]]:
    """The inputs and outputs of a row, read back."""
    found = []
    for part in " ".join(text).removeprefix("<s>").replace("<pad>", "").split(STOP):
        x, sign, y = part.partition(ARROW)
        words = x.split()
        if words:
            found.append((words, y.split()) if sign else (words[:1], words[1:]))
    return found


def test_rows_are_pure_and_hold_whole_examples(rows: TaskRows) -> None:
    for number in range(20):
        one, same, other = (
            rows.training_row(*k) for k in ((3, 0, number), (3, 0, number), (4, 0, number))
        )
        assert np.array_equal(one.ids, same.ids)
        assert not np.array_equal(one.ids, other.ids)
        assert 16 < len(one.ids) <= 96
        assert one.ids[-1] == rows.ids[STOP]


def test_the_scored_places_are_the_answers(rows: TaskRows) -> None:
    batch = InContext(rows).batch(Examples(np.arange(8), np.zeros(8, np.int64)), Key(0))
    tokens = batch.sequences.tokens
    names = {i: symbol for symbol, i in rows.ids.items()}
    expected = []
    for row, line in enumerate(tokens.view(8, -1).tolist()):
        at = 1 + row * len(line)
        for x, y in examples([names[t] for t in line]):
            at += len(x) + (len(x) > 1)
            expected += range(at - 1, at + len(y))
            at += len(y) + 1
    assert batch.places.tolist() == expected
    assert torch.equal(batch.targets, tokens[batch.places + 1])


def constants(pairs: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first (a, c) modulo 11 that the pairs do not contradict, if there is only one."""
    found = [
        (a, c)
        for a in range(1, 11)
        for c in range(11)
        if all((a * x + c) % 11 == y for x, y in pairs)
    ]
    return found[0] if len(found) == 1 else None


def units(family: Family, shown: Any) -> set[Any]:
    """What a row of a family is a case of: its word pairs, its constant, its places."""
    pairs = list(zip(shown.inputs, shown.outputs, strict=True))
    if isinstance(family, Arithmetic):
        return {constants([(int(x[0]), int(y[0])) for x, y in pairs])}
    if isinstance(family, Strings):
        return {tuple(x.index(s) for s in y) for x, y in pairs}
    return set(pairs)


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_heldout_tasks_are_never_trained_on(family: Family) -> None:
    seen = {
        part: set().union(
            *(units(family, family.draw(part, 16, seed, n)) for seed in (0, 1) for n in range(150))
        )
        for part in (False, True)
    }
    assert seen[True]
    assert seen[False]
    assert not seen[True] & seen[False]


def test_every_choice_of_places_is_in_one_part() -> None:
    tasks = Strings().tasks
    assert len(tasks[False]) + len(tasks[True]) == 4 + 16 + 64 + 256
    assert len(tasks[True]) > 20


def test_shuffling_leaves_the_question_and_no_output_in_its_place() -> None:
    for family in families():
        for n in range(20):
            true, moved = (
                question(family, n, 8, heldout=True, shuffled=s, key=Key(0, 1))
                for s in (False, True)
            )
            none = question(family, n, 0, heldout=True, shuffled=False, key=Key(0, 1))
            assert true.inputs == moved.inputs
            assert true.outputs[-1] == moved.outputs[-1] == none.outputs[0]
            assert true.inputs[-1] == none.inputs[0]
            assert family.answerable(none) is False


def reader(rows: TaskRows) -> Any:
    """A scripted solver that knows nothing but the examples before the question."""
    names = {i: s for s, i in rows.ids.items()}

    def solve(text: list[str]) -> list[str]:
        pairs = examples(text)
        asked = pairs[-1][0]
        for x, y in reversed(pairs[:-1]):
            if x == asked:
                return y
            if x[0].isdigit():
                told = constants([(int(x[0]), int(y[0])) for x, y in pairs[:-1]])
                return [str((told[0] * int(asked[0]) + told[1]) % 11)] if told else ["?"]
            if len(x) == 4 and set(y) <= set(x):
                return [asked[x.index(s)] for s in y]
        return ["?"]

    def guess(batch: AnswersBatch) -> Tensor:
        length = batch.sequences.row_length
        assert length
        found = []
        for line in batch.sequences.tokens.view(-1, length).tolist():
            text = [names[t] for t in line if t]
            answer = solve(text)
            size = len(examples(text)[-1][1]) + 1
            padded = [*answer, STOP, *["?"] * size][:size]
            found += [rows.ids.get(s, -1) for s in padded]
        return torch.tensor(found)

    return guess


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_a_perfect_reader_is_right_and_falls_to_chance_when_outputs_are_shuffled(
    rows: TaskRows, family: Family
) -> None:
    most = max(rows.shots(family))
    scores = {}
    for mode, shots in (("true", most), ("shuffled", most), ("true", 0)):
        asked = ask(rows, Cell(family.name, "heldout", mode, shots), 200, Key(0, 1))
        scores[mode, shots] = accuracy(asked, reader(rows))
        if mode == "true":
            shown = [
                question(family, n, shots, heldout=True, shuffled=False, key=Key(0, 1))
                for n in range(200)
            ]
            assert scores[mode, shots] == pytest.approx(sum(map(family.answerable, shown)) / 200)
    assert scores["true", most] > 0.85
    assert scores["shuffled", most] < 0.45
    assert scores["true", 0] == 0


def mark(tokens: int, few: float, none: float = 0.0, shuffled: float = 0.1) -> dict[str, float]:
    place = "m/heldout"
    values = {f"{place}/true/16": few, f"{place}/true/0": none, f"{place}/shuffled/16": shuffled}
    return {"step": tokens // 10, "tokens": tokens, "seconds": 1.0, **values}


def test_emergence_must_stay() -> None:
    marks = [mark(0, 0.1), mark(10, 0.9), mark(20, 0.1), mark(30, 0.6), mark(40, 0.9)]
    found = emergence(marks, "m", 16, 100)
    assert found is not None
    assert found["tokens"] == 30
    assert emergence([*marks, mark(50, 0.9, none=0.9)], "m", 16, 100) is None
    assert emergence([*marks, mark(50, 0.9, shuffled=0.85)], "m", 16, 100) is None
    assert not clearly_above(0.5, 0.42, 10_000)
    assert not clearly_above(0.5, 0.35, 20)


def test_pairs_from_files(tmp_path: Path) -> None:
    assert symbols_of("I'm OK, 你好!") == ("i'm", "ok", "你", "好")
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"{letters[n % 26]}{letters[n // 26]}\t{chr(0x4E00 + n)}\tnote" for n in range(60)]
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join([*lines, "one two three four\t字"]) + "\n", encoding="utf-8")
    assert len(read_pairs(str(file))) == 60
    words = [f"w{letters[n // 8]}{letters[n % 8]}" for n in range(60)]
    entries = [f"{chr(0x4E00 + n)} {chr(0x4E00 + n)} [a1] /{w}/x/" for n, w in enumerate(words)]
    dictionary = tmp_path / "cedict.txt"
    dictionary.write_text("# comment\n" + "\n".join(entries) + "\n", encoding="utf-8")
    assert read_pairs(str(dictionary))[0] == (("waa",), ("一",))


@pytest.mark.parametrize(
    ("content", "message"),
    [("a\tb\n", "1 different pairs of at most 3"), ("a b\n", r"pairs.tsv:1: no tab in this line")],
)
def test_bad_pairs(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        read_pairs(str(file))


def small(steps: int) -> study.Settings:
    return study.Settings(
        budget=f"{steps} steps",
        width=32,
        heads=2,
        batch_size=8,
        marks=2,
        mark_questions=8,
        final_questions=16,
        precision="fp32",
        device="cpu",
    )


def test_a_short_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.random.get_rng_state()
    result = study.run(tmp_path / "s", settings=small(12), seeds=2, quiet=True)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(result["findings"]) == {"mapping", "arithmetic", "strings"}
    assert "did not emerge in" in result["findings"]["arithmetic"]
    for name in ("shots", "emergence"):
        assert (tmp_path / f"s/figures/{name}.png").is_file()
        assert (tmp_path / f"s/figures/{name}.csv").read_text().startswith("family,part,outputs")
    opened = load_decoder(tmp_path / "s")
    ids = opened.tokenizer.encode("cat hat ; cat").ids
    assert len(ids) == 5
    assert opened.tokenizer.unknown_id not in ids
    assert opened.tokenizer.decode(ids[1:]) == "cat hat ; cat"

    def fail(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(study, "train", fail)
    again = study.run(tmp_path / "s", settings=small(12), seeds=2, quiet=True)
    assert again == result
    with pytest.raises(UserError, match=r"a study with another settings\.budget lies here"):
        study.run(tmp_path / "s", settings=small(31), quiet=True)


def test_training_lowers_the_loss() -> None:
    from selfsup.data.sampler import Sampler
    from selfsup.training.loop import Loop

    settings = small(60)
    rows = study.make_rows(settings)
    model = study.build(settings, rows, 0)
    objective = InContext(rows)
    batch = objective.batch(Examples(np.arange(10**6, 10**6 + 16), np.zeros(16, np.int64)), Key(9))

    def loss() -> float:
        with torch.no_grad():
            score = objective.loss(model, batch)
        return float(score.loss_sum / score.count)

    before = loss()
    Loop(model, objective, Sampler([1 << 20], [1.0], 0), settings.training(), quiet=True).run()
    assert loss() < 0.8 * before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--minutes 0", "--minutes: must be greater than 0, not 0"),
        ("--minutes 1 --steps 5", "--steps: give either --minutes or --steps"),
        ("--seeds 0", "--seeds: must be at least 1, not 0"),
        ("--families maping", "--families: no family of tasks 'maping'; did you mean 'mapping'?"),
        ("--families ,", "--families: no family of tasks"),
        ("--layers 0", "--layers: cannot be 0"),
        ("--width 30", "--width: cannot be 30"),
        ("--precision fp8", "--precision: 'fp8' is no precision"),
        ("--data nowhere.tsv", "nowhere.tsv: "),
        ("--sedes 2", "unknown flag '--sedes'"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "in-context", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
