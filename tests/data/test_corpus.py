from __future__ import annotations

import errno
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.config import (
    BytePairConfig,
    CharacterConfig,
    DataConfig,
    SourceConfig,
    WordPieceConfig,
)
from selfsup.data import corpus as module
from selfsup.data.admission import is_heldout, text_key
from selfsup.data.corpus import (
    Split,
    open_corpus,
    prepare_corpus,
    refuse_one_document,
    training_sample,
)
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.errors import UserError

TEXTS = [f"Document number {number}: {'word ' * (number % 17)}end." for number in range(400)]
TOKENIZER = train_tokenizer(BytePairConfig(vocab_size=280), TEXTS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFSUP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "corpora"


def _data(path: Path, texts: list[str] = TEXTS, **options: Any) -> DataConfig:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = {"heldout": 0.2, **options}
    return DataConfig(sources=(SourceConfig(path=str(path)),), **options)


def _texts(split: Split, tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    return [tokenizer.decode(split.document(index)) for index in range(len(split))]


def _message(data: DataConfig, tokenizer: Tokenizer = TOKENIZER) -> str:
    with pytest.raises(UserError) as caught:
        prepare_corpus(data, tokenizer)
    return str(caught.value)


def test_everything_comes_back(tmp_path: Path, cache: Path) -> None:
    data = _data(tmp_path / "a.jsonl", [*TEXTS, TEXTS[3], " ", "ab"], min_characters=3)
    done: list[int] = []
    corpus = prepare_corpus(data, TOKENIZER, progress=done.append)
    train, heldout = _texts(corpus.train), _texts(corpus.heldout)
    assert sorted(train + heldout) == sorted(TEXTS)
    assert [text for text in TEXTS if text in set(train)] == train  # in the order of the files
    assert 40 < len(heldout) < 130
    assert sum(done) == sum(map(len, TEXTS))

    tokens, starts = TOKENIZER.encode_documents(train)
    assert corpus.train.tokens.tolist() == np.concatenate(tokens).tolist()
    assert corpus.train.words.tolist() == np.concatenate(starts).tolist()
    assert corpus.train.tokens.dtype == np.uint16
    assert not corpus.train.tokens.flags.writeable
    assert corpus.train.document(-1).tolist() == tokens[-1].tolist()
    with pytest.raises(IndexError):
        corpus.train.document(len(train))

    meta = corpus.meta
    assert (meta["duplicates"], meta["dropped"], meta["bad_rows"]) == (1, 2, 0)
    assert (meta["empty"], meta["too_short"], meta["documents_read"]) == (1, 1, 403)
    assert meta["tokenizer"] == TOKENIZER.fingerprint
    assert meta["unknown_share"] == 0
    counts = meta["splits"]["train"]
    assert counts["documents"] == len(train)
    assert counts["tokens"] == len(corpus.train.tokens)
    assert counts["characters"] == counts["bytes"] == sum(map(len, train))
    assert [path.name for path in cache.iterdir()] == [corpus.folder.name]


def test_second_call_only_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data(tmp_path / "a.jsonl")
    first = prepare_corpus(data, TOKENIZER)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", lambda *_: pytest.fail("written again"))
        source = data.sources[0].model_copy(update={"weight": 3.0})
        same = data.model_copy(update={"length": 64, "sources": (source,)})
        assert prepare_corpus(same, TOKENIZER).folder == first.folder
    changes: list[dict[str, object]] = [
        {"heldout": 0.3},
        {"min_characters": 5},
        {"sources": (data.sources[0].model_copy(update={"on_bad_row": "skip"}),)},
    ]
    folders = {first.folder}
    folders |= {
        prepare_corpus(data.model_copy(update=change), TOKENIZER).folder for change in changes
    }
    other = train_tokenizer(BytePairConfig(vocab_size=270), TEXTS)
    folders.add(prepare_corpus(data, other).folder)
    _data(tmp_path / "a.jsonl", [*TEXTS, "one more"])
    folders.add(prepare_corpus(data, TOKENIZER).folder)
    assert len(folders) == 6


def test_hold_out_stays_when_data_is_added(tmp_path: Path) -> None:
    before = prepare_corpus(_data(tmp_path / "a.jsonl", TEXTS[:200]), TOKENIZER)
    after = prepare_corpus(_data(tmp_path / "a.jsonl", TEXTS[::-1]), TOKENIZER)
    assert set(_texts(before.heldout)) <= set(_texts(after.heldout))
    assert set(_texts(before.train)) <= set(_texts(after.train))


def test_sources_and_digest(tmp_path: Path) -> None:
    a, b = _data(tmp_path / "a.jsonl", TEXTS[:100]), _data(tmp_path / "b.jsonl", TEXTS[50:])
    both = a.model_copy(update={"sources": a.sources + b.sources})
    corpus = prepare_corpus(both, TOKENIZER)
    sources = np.concatenate([corpus.train.sources, corpus.heldout.sources])
    assert np.bincount(sources).tolist() == [100, 300]
    assert [source["documents"] for source in corpus.meta["sources"]] == [100, 300]
    assert corpus.meta["duplicates"] == 50
    kept = prepare_corpus(both.model_copy(update={"duplicates": "keep"}), TOKENIZER)
    assert kept.meta["duplicates"] == 0
    assert [source["documents"] for source in kept.meta["sources"]] == [100, 350]
    digests = [
        prepare_corpus(_data(tmp_path / name, texts), TOKENIZER).meta["digest"]
        for name, texts in [("e.jsonl", TEXTS), ("f.jsonl", TEXTS), ("g.jsonl", TEXTS[1:])]
    ]
    assert digests[0] == digests[1] == corpus.meta["digest"] != digests[2]


def test_unknown_share(tmp_path: Path) -> None:
    made = train_tokenizer(CharacterConfig(), ["ab"])
    corpus = prepare_corpus(_data(tmp_path / "a.jsonl", ["a" * n + "x" for n in range(50)]), made)
    assert corpus.meta["unknown_share"] == pytest.approx(50 / (50 + sum(range(50))))


def test_wide_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    texts = [chr(0x4E00 + number) * 3 for number in range(60)]
    made = train_tokenizer(CharacterConfig(vocab_size=70_000), texts)
    made.vocab_size = 70_000
    corpus = prepare_corpus(_data(tmp_path / "a.jsonl", texts), made)
    assert corpus.train.tokens.dtype == np.uint32
    assert set(_texts(corpus.train, made)) < set(texts)


def test_nothing_to_use(tmp_path: Path, cache: Path) -> None:
    assert "no data is given" in _message(DataConfig())
    assert "no document is left: 2 read, 2 empty" in _message(
        _data(tmp_path / "a.jsonl", ["", " "])
    )
    message = _message(_data(tmp_path / "b.jsonl", TEXTS[:2], heldout=0.001))
    assert "nothing is held out (0.001 of 2 documents); give more documents" in message
    share = float(message.partition("--data.heldout ")[2].partition(",")[0])
    held = prepare_corpus(_data(tmp_path / "b.jsonl", TEXTS[:2], heldout=share), TOKENIZER)
    assert held.meta["splits"]["heldout"]["documents"] == 1
    assert "a larger data.heldout" in _message(
        _data(tmp_path / "d.jsonl", TEXTS[:1], heldout=0.001)
    )
    bad = tmp_path / "c.jsonl"
    bad.write_text("oops\n")
    source = SourceConfig(path=str(bad), on_bad_row="skip")
    assert "the first bad row:" in _message(DataConfig(sources=(source,)))
    assert len(list(cache.iterdir())) == 1  # of those that were refused nothing is left behind


def test_full_disk(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module._SplitWriter, "add", full)
    message = _message(_data(tmp_path / "a.jsonl"))
    assert message.startswith(f"{cache}: no space is left for token shards; free some")
    assert list(cache.iterdir()) == []


def test_unusable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = _message(_data(tmp_path / "a.jsonl", cache=str(tmp_path / "file")))
    assert "choose another folder with data.cache" in message


def test_damaged_corpus_is_named(tmp_path: Path) -> None:
    corpus = prepare_corpus(_data(tmp_path / "a.jsonl"), TOKENIZER)
    with (corpus.folder / "train" / "words.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(UserError, match=r"damaged .*; delete this folder"):
        open_corpus(corpus.folder)


def test_two_at_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data(tmp_path / "a.jsonl")
    meeting = threading.Barrier(2)
    write = module._write

    def together(*arguments: Any) -> None:
        write(*arguments)
        meeting.wait(timeout=20)

    monkeypatch.setattr(module, "_write", together)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: prepare_corpus(data, TOKENIZER), range(2)))
    assert found[0].folder == found[1].folder
    assert _texts(found[0].train) == _texts(found[1].train)
    assert len(list(cache.iterdir())) == 1


def test_batches_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data(tmp_path / "a.jsonl")
    whole = prepare_corpus(data, TOKENIZER)
    monkeypatch.setattr(module, "_BATCH_CHARACTERS", 100)
    parts = prepare_corpus(data.model_copy(update={"cache": str(tmp_path / "other")}), TOKENIZER)
    assert parts.train.tokens.tolist() == whole.train.tokens.tolist()
    assert parts.meta == whole.meta


def test_training_sample(tmp_path: Path) -> None:
    data = _data(tmp_path / "a.jsonl")
    b = _data(tmp_path / "b.jsonl", [text.replace("number", "no.") for text in TEXTS])
    both = data.model_copy(update={"sources": data.sources + b.sources})
    corpus = prepare_corpus(both, TOKENIZER)
    assert list(training_sample(both, 50)) == _texts(corpus.train)
    size = sum(map(len, TEXTS)) * 2
    sample = list(training_sample(both, size / 4 / 1e6))
    assert sample == list(training_sample(both, size / 4 / 1e6))
    assert set(sample) < set(_texts(corpus.train))
    assert 0.05 * size < sum(map(len, sample)) <= size / 4
    from_b = sum("no." in text for text in sample)
    assert 0.25 < from_b / len(sample) < 0.75  # both files are represented


def test_a_sample_of_few_large_documents_has_one(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"{number} " + "word " * 2000)
    source = SourceConfig(path=str(tmp_path), unit="file")
    data = DataConfig(sources=(source,), heldout=0.01)
    (text,) = training_sample(data, 1e-5)
    assert text.count("word") == 2000
    assert list(training_sample(data, 1e-5)) == [text]


def test_a_long_document_is_sampled_in_parts_up_to_the_cap(tmp_path: Path) -> None:
    text = " ".join(f"word{i % 977} \n" for i in range(60_000))
    (tmp_path / "one.txt").write_text(text)
    source = SourceConfig(path=str(tmp_path), unit="file")
    data = DataConfig(sources=(source,), heldout=1e-9)
    parts = list(training_sample(data, 50))
    assert len(parts) > 5
    assert max(map(len, parts)) < 100_100
    assert "".join(parts) == text.strip("\n")
    assert not any(a[-1].isspace() or not b[0].isspace() for a, b in pairwise(parts))
    some = list(training_sample(data, 0.25))
    assert some == parts[: len(some)]
    assert 250_000 <= sum(map(len, some)) < 351_000
    for config in (WordPieceConfig(vocab_size=300), BytePairConfig(vocab_size=400)):
        whole, cut = (train_tokenizer(config, t).fingerprint for t in ([text.strip("\n")], parts))
        assert whole == cut


def test_one_document_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("word " * 200)
    source = SourceConfig(path=str(tmp_path / "one.txt"))
    data = DataConfig(sources=(source,), heldout=0.02)
    with pytest.raises(UserError, match=r"nothing is held out \(0.02 of 1 documents\)") as early:
        refuse_one_document(data)
    assert str(early.value) == _message(data)
    lines = SourceConfig(path=str(tmp_path / "one.txt"), unit="line")
    (tmp_path / "two.txt").write_text("other " * 200)
    both = SourceConfig(path=str(tmp_path))
    for others in ((lines,), (source, lines), (both,)):
        refuse_one_document(DataConfig(sources=others, heldout=0.02))


def test_nothing_for_a_tokenizer_names_the_files(tmp_path: Path) -> None:
    def message(data: DataConfig) -> str:
        with pytest.raises(UserError) as caught:
            list(training_sample(data, 1))
        return str(caught.value)

    empty = _data(tmp_path / "a.jsonl", ["", " "])
    assert message(empty) == (
        f"{tmp_path / 'a.jsonl'}: there is no text to make a tokenizer from (2 documents read); "
        "name files with text, or see column, unit and min_characters"
    )
    assert _message(empty).startswith(f"{tmp_path / 'a.jsonl'}: no document is left")
    held = next(x for x in map(str, range(50)) if is_heldout(text_key(x), 0.4))
    one = _data(tmp_path / "b.jsonl", [held], heldout=0.4)
    assert "(1 document read, 1 held out); give more documents" in message(one)


def test_notes_are_kept_with_the_corpus(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("text\n" + '"odd\n"whole"\n' + "".join(f"{text}\n" for text in TEXTS))
    data = DataConfig(sources=(SourceConfig(path=str(file)),), heldout=0.3)
    for _ in range(2):  # made, opened
        notes = prepare_corpus(data, TOKENIZER).meta["notes"]
        assert notes == [
            f"{file}: quotes are ordinary characters, also around whole fields (line 3)"
        ]
