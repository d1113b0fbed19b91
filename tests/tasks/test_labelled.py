from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.data.sources import ReadReport
from selfsup.errors import UserError
from selfsup.tasks.labelled import (
    TaggedSentence,
    TextExample,
    class_weights,
    label_set,
    read_fasta_classes,
    read_tagged,
    read_texts,
    read_uci_classes,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXT, SEQUENCES = SHARED / "text", SHARED / "sequence"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")


def _message(read: Callable[..., object], *given: object, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*given, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _examples(*labels: str) -> list[TextExample]:
    return [TextExample("a", None, x, f"file:{i}") for i, x in enumerate(labels, start=1)]


# Texts ------------------------------------------------------------------------------------------


def test_texts_and_pairs(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    labels = [" pos ", 1, True, False, 0.5]
    rows = [{"text": f"a {i}", "other": "b", "label": x} for i, x in enumerate(labels)]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = read_texts(file, pair_column="other")
    assert found[0] == TextExample("a 0", "b", "pos", f"{file}:1")
    assert [e.label for e in found] == ["pos", "1", "true", "false", "0.5"]
    assert read_texts(file, label_column=None)[1] == TextExample("a 1", None, None, f"{file}:2")


def test_junk_numbers_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    values = ["3.5", "n/a", "", "nan", "inf", "1_000", " 2 ", "-1e3"]
    file.write_text("text,score\n" + "".join(f"a,{x}\n" for x in values))
    message = _message(read_texts, file, label_column="score", numeric=True)
    assert message == (
        f"{file}:3: 5 of 8 rows (62 %) have no number in 'score': 'n/a' in line 3, '' in line 4, "
        "'nan' in line 5 ...; mend these rows, or leave them out with --on-bad-row skip"
    )
    report = ReadReport()
    options: dict[str, Any] = {"label_column": "score", "numeric": True, "on_bad_row": "skip"}
    found = read_texts(file, **options, report=report)
    assert [e.label for e in found] == [3.5, 2.0, -1000.0]
    assert (report.bad_rows, report.documents) == (5, 3)
    assert report.bad_examples[0] == f"{file}:3: no number in 'score' ('n/a')"
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "a", "score": true}\n{"text": "b", "score": 2}\n')
    assert "1 of 2 rows (50 %) has no number in 'score': True in line 1" in _message(
        read_texts, rows, label_column="score", numeric=True
    )


def test_missing_texts_and_labels(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    bad = {
        '{"text": " ", "label": "x"}': "has no text in 'text': ' ' in line 2",
        '{"text": null, "label": "x"}': "has no text in 'text': missing in line 2",
        '{"text": 3, "label": "x"}': "has no text in 'text': a number in line 2",
        '{"text": "a", "label": ""}': "has no label in 'label': '' in line 2",
        '{"text": "a", "label": null}': "has no label in 'label': missing in line 2",
        '{"text": "a", "label": NaN}': "has no label in 'label': nan in line 2",
        '{"text": "a", "label": ["x"]}': "has no label in 'label': a list in line 2",
    }
    for row, message in bad.items():
        file.write_text('{"text": "good", "label": "y"}\n' + row + "\n")
        assert f"{file}:2: 1 of 2 rows (50 %) {message}" in _message(read_texts, file)
        assert len(read_texts(file, on_bad_row="skip")) == 1
        file.write_text(row)
        assert "no row is left, 1 cannot be used" in _message(read_texts, file, on_bad_row="skip")
    file.write_text('{"text": ""}\n')
    assert read_texts(file, label_column=None, keep_empty=True)[0].text == ""
    file.write_text("")
    assert (
        _message(read_texts, file) == f"{file}: the file holds no rows; name a file with examples"
    )


def test_sequences_of_classes(tmp_path: Path) -> None:
    assert "no such folder" in _message(read_fasta_classes, tmp_path / "none")
    (tmp_path / "notes.md").touch()
    assert "holds no FASTA file" in _message(read_fasta_classes, tmp_path)
    (tmp_path / "ER.fasta.xz").write_bytes(lzma.compress(b">a\nmk\n>b\nMV\n"))
    (tmp_path / "Golgi.v2.fa").write_text(">c\nMA\n")
    (tmp_path / "notes.md").write_text("which")
    report = ReadReport()
    found = read_fasta_classes(tmp_path, uppercase=True, report=report)
    assert report.notes == ["passed over, as no FASTA files: 'notes.md'"]
    assert [(e.text, e.label) for e in found] == [("MK", "ER"), ("MV", "ER"), ("MA", "Golgi.v2")]
    (tmp_path / "ER.faa").write_text(">d\n")
    assert "are both the class 'ER'" in _message(read_fasta_classes, tmp_path)
    (tmp_path / "ER.fasta.xz").unlink()
    assert "1 of 2 rows (50 %) has no sequence: 'd'" in _message(read_fasta_classes, tmp_path)
    uci = tmp_path / "a.data"
    uci.write_text("+, a, ac\n-, b, gt\n")
    assert [(e.text, e.label) for e in read_uci_classes(uci)] == [("ac", "+"), ("gt", "-")]


@needs_data
def test_real_texts() -> None:
    def count(name: str, **options: Any) -> Counter[Any]:
        return Counter(e.label for e in read_texts(TEXT / name, **options))

    cola = {"text_column": 3, "label_column": 1, "header": False, "quoting": "none"}
    two = {"text_column": "sentence1", "pair_column": "sentence2"}
    mrpc = {"text_column": "#1 String", "pair_column": "#2 String", "label_column": "Quality"}
    sick = {"text_column": "sentence_A", "pair_column": "sentence_B"}
    cases: list[tuple[str, int, dict[str, Any]]] = [
        ("glue/CoLA/train.tsv.xz", 8551, cola),
        ("glue/CoLA/dev.tsv", 1043, cola),
        ("glue/MNLI/dev_matched_tokenized.tsv.xz", 9815, two | {"label_column": "gold_label"}),
        ("glue/MRPC/train.tsv.xz", 3576, mrpc),
        ("glue/MRPC/dev.tsv", 500, mrpc),
        ("glue/MRPC/test.tsv", 1725, mrpc),
        ("glue/QNLI/dev.tsv.xz", 5463, {"text_column": "question", "pair_column": "sentence"}),
        ("glue/RTE/train.tsv.xz", 2490, two),
        ("glue/RTE/dev.tsv", 277, two),
        ("glue/SST-2/train.tsv.xz", 67_349, {"text_column": "sentence"}),
        ("glue/SST-2/dev.tsv", 872, {"text_column": "sentence"}),
        ("glue/STS-B/train.tsv.xz", 5749, two | {"label_column": "score", "numeric": True}),
        ("glue/STS-B/dev.tsv.xz", 1500, two | {"label_column": "score", "numeric": True}),
        ("glue/WNLI/train.tsv.xz", 635, two),
        ("glue/WNLI/dev.tsv", 71, two),
        ("sick/SICK_train.tsv.xz", 4500, sick | {"label_column": "entailment_judgment"}),
        ("chnsenticorp/train.tsv.xz", 9600, {"text_column": "text_a"}),
        ("imdb/imdb_test_5k.jsonl.xz", 5000, {}),
    ]
    for name, rows, options in cases:
        assert count(name, **options).total() == rows, name
    shop = {"text_column": "review", "label_column": "cat", "on_bad_row": "skip"}
    assert len(count("online_shopping_10_cats/online_shopping_10_cats.csv.xz", **shop)) == 10
    proteins = Counter(e.label for e in read_fasta_classes(SEQUENCES / "multiloc_localisation"))
    assert (len(proteins), proteins.total(), proteins["nuclear"]) == (11, 4828, 699)
    promoters = read_uci_classes(SEQUENCES / "ecoli_promoters" / "promoters.data")
    assert Counter(e.label for e in promoters) == {"+": 53, "-": 53}


# Tagged sentences -------------------------------------------------------------------------------

_WORD = "{}\t{}\t_\t{}\t{}\t_\t0\troot\t_\t_\n"


def _conllu(*rows: tuple[str, str, str]) -> str:
    return "".join(_WORD.format(number, word, tag, tag.lower()) for number, word, tag in rows)


def test_conllu(tmp_path: Path) -> None:
    file = tmp_path / "a.conllu.xz"
    first = _conllu(("1-2", "du", "_"), ("1", "de", "ADP"), ("2", "le", "DET"), ("2.1", "x", "X"))
    content = f"# text = du\n{first}\n\n# only a comment\n\n" + _conllu(("1", "15 000", "NUM"))
    file.write_bytes(lzma.compress(content.encode()))
    assert read_tagged(file) == [
        TaggedSentence(("de", "le"), ("ADP", "DET"), f"{file}:1"),
        TaggedSentence(("15 000",), ("NUM",), f"{file}:10"),
    ]
    assert read_tagged(file, column="xpos")[0].labels == ("adp", "det")
    assert read_tagged(file, column=None)[0].labels is None
    assert "the column 'feats' is empty all through" in _message(read_tagged, file, column="feats")
    assert "no column 'upso' in CoNLL-U; did you mean 'upos'?" in _message(
        read_tagged, file, column="upso"
    )
    plain = tmp_path / "a.conllu"
    plain.write_text(_conllu(("1", "a", "X")) + "2\tb\tX\n\n" + _conllu(("1", "c", "X")))
    assert f"{plain}:2: the line has 3 fields, CoNLL-U 10" in _message(read_tagged, plain)
    report = ReadReport()
    found = read_tagged(plain, on_bad_row="skip", report=report)
    assert [s.words for s in found] == [("c",)]
    assert report.bad_rows == 1
    plain.write_text(_conllu(("x", "a", "X")))
    assert "'x' is no number of a word" in _message(read_tagged, plain)


def test_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_bytes(
        b"\xef\xbb\xbf-DOCSTART- -X- O O\r\n\r\nEU NNP B-NP B-ORG\r\nrejects VBZ B-VP O\r\n\r\n \r\n"
        b"# id = 5\r\nNew York\tB-LOC\r\n# #\r\n"
    )
    assert read_tagged(file) == [
        TaggedSentence(("EU", "rejects"), ("B-ORG", "O"), f"{file}:3"),
        TaggedSentence(("New York", "#"), ("B-LOC", "#"), f"{file}:7"),
    ]
    file.write_text("a X\nb\n\nc Y\n")
    assert f"{file}:2: the word 'b' has no label" in _message(read_tagged, file)
    assert len(read_tagged(file, on_bad_row="skip")) == 1
    assert [s.words for s in read_tagged(file, column=None)] == [("a", "b"), ("c",)]
    file.write_text("\tX\n")
    assert "the word is empty" in _message(read_tagged, file)
    file.write_text("\n")
    assert "the file holds no sentences" in _message(read_tagged, file)


def test_words_of_columns_keep_their_spaces(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("New\u00a0York NNP B-LOC\nil\u202f! X  O\n")
    assert read_tagged(file)[0].words == ("New\u00a0York", "il\u202f!")
    file.write_text("in IN O\nNew York NNP B-LOC\n")
    message = _message(read_tagged, file)
    assert (
        f"{file}:2: the line has 4 fields, the first of its sentence 3; part fields with" in message
    )
    slashed = tmp_path / "b.txt"
    slashed.write_text("New\u00a0York/NNP  。/w\n　/w  好/a\n")
    assert [s.words for s in read_tagged(slashed)] == [("New\u00a0York", "。"), ("　", "好")]
    slashed.write_text("好/a　的/u\n")
    assert "'好/a　的/u' is no word/tag; parts are separated by spaces" in _message(
        read_tagged, slashed
    )


def test_a_space_as_a_word_is_one_in_all_kinds_of_files(tmp_path: Path) -> None:
    written = {
        "a.conllu": _conllu(("1", "{}", "X"), ("2", "a", "Y")),
        "a.tsv": "{}\tX\na\tY\n",
        "b.conll": "{} X\na Y\n",
        "a.jsonl": '{{"words": ["{}", "a"], "labels": ["X", "Y"]}}\n',
    }
    for name, text in written.items():
        file = tmp_path / name
        for word in ("\u3000", "\u00a0"):
            file.write_text(text.format(word))
            assert [s.words for s in read_tagged(file)] == [(word, "a")], name
        if name != "b.conll":
            file.write_text(text.format(" "))
            assert "word is empty" in _message(read_tagged, file), name


def test_slashed(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(
        "19980101-01-001-001/m  [中央/n  电视台/n]nt  [[a/b/n  c/n]nt d/n]ns  [/w  ]/w  //w\n\n好/a\n"
    )
    assert read_tagged(file) == [
        TaggedSentence(
            ("中央", "电视台", "a/b", "c", "d", "[", "]", "/"),
            ("n", "n", "n", "n", "n", "w", "w", "w"),
            f"{file}:1",
        ),
        TaggedSentence(("好",), ("a",), f"{file}:3"),
    ]
    file.write_text("好/a  的\n好/a\n")
    assert f"{file}:1: '的' is no word/tag" in _message(read_tagged, file, layout="slashed")
    assert read_tagged(file, layout="slashed", column=None)[0].words == ("好", "的")
    assert "no layout of tagged sentences" in _message(read_tagged, file, layout="slash")


def test_tagged_json(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"words": ["a", "b"], "labels": ["X", 1]}\n{"tokens": ["c"], "tags": [0]}\n')
    assert read_tagged(file) == [
        TaggedSentence(("a", "b"), ("X", "1"), f"{file}:1"),
        TaggedSentence(("c",), ("0",), f"{file}:2"),
    ]
    bad = {
        '{"w": ["a", "b"], "t": ["X"]}': "2 words have 1 labels",
        '{"w": "a", "t": ["X"]}': "'w' is a text, not a list",
        '{"w": ["a"], "t": [null]}': "a label is missing",
        '{"w": ["a", ""], "t": ["X", "X"]}': "a word is empty",
        '{"w": [1], "t": ["X"]}': "'w' is a number, not a text",
        '{"w": ["a"], "ner": ["X"]}': "no key 't' or 'labels' or 'tags'; it has 'w', 'ner'",
        "[1]": "a JSON object is expected",
    }
    options = {"words_column": "w", "column": "t"}
    for row, message in bad.items():
        file.write_text('{"w": ["a"], "t": ["X"]}\n' + row + "\n")
        assert f"{file}:2: {message}" in _message(read_tagged, file, **options)
        assert len(read_tagged(file, **options, on_bad_row="skip")) == 1
    (tmp_path / "a.md").touch()
    assert "hold no tagged sentences" in _message(read_tagged, tmp_path / "a.md")


@needs_data
def test_real_tagged_sentences() -> None:
    def counted(name: str, **options: Any) -> tuple[int, int, int]:
        found = read_tagged(TEXT / name, **options)
        return len(found), sum(len(s.words) for s in found), len(label_set(found))

    ewt = "ud/UD_English-EWT/en_ewt-ud"
    assert counted(f"{ewt}-train.conllu.xz") == (12_544, 204_577, 17)
    assert counted(f"{ewt}-dev.conllu.xz", column="xpos") == (2001, 25_147, 49)
    sequoia = "ud/UD_French-Sequoia/fr_sequoia-ud-test.conllu.xz"
    assert counted(sequoia)[:2] == (456, 10_044)
    assert "'xpos' is empty all through" in _message(read_tagged, TEXT / sequoia, column="xpos")
    assert counted("pfr_people_daily_199801/199801.txt.xz") == (19_484, 1_121_447, 44)


# Labels -----------------------------------------------------------------------------------------


def test_label_set() -> None:
    assert label_set(_examples("b", "a", "B", "b")) == ("B", "a", "b")
    assert label_set(_examples("10", "9", "-1", "2.5")) == ("-1", "2.5", "9", "10")
    assert label_set(_examples("10", "9", "x")) == ("10", "9", "x")
    assert label_set(_examples("+", "-")) == ("-", "+")  # the second is the one that F1 is of
    tagged = [TaggedSentence(("a", "b"), ("X", "Y"), "file:1")]
    assert label_set(tagged) == ("X", "Y")
    assert "file: the training part has only the class 'a'" in _message(label_set, _examples("a"))
    assert "no labels" in _message(label_set, [])
    dev = _examples("a", "c", "b", "d", "c")
    assert _message(label_set, _examples("a", "b"), dev) == (
        "file:2: 2 classes that the training part lacks: 'c', 'd'; it has 'a', 'b'; mend the labels, or "
        "leave such rows out with --on-bad-row skip"
    )


def test_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = list("aaaaabbbc")
    ours = class_weights(labels, ("a", "b", "c"))
    theirs = compute_class_weight("balanced", classes=np.array(list("abc")), y=labels)
    np.testing.assert_allclose(ours, theirs)
    with pytest.raises(ValueError, match="no example of 'd'"):
        class_weights(labels, ("a", "d"))


def test_a_column_without_any_text_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "nested.jsonl"
    file.write_text('{"text": {"body": "a"}, "label": "x"}\n' * 3)
    with pytest.raises(UserError, match=r"all 3 rows have no text .*; mend the file, or name ano"):
        read_texts(file, text_column="text", label_column="label")
