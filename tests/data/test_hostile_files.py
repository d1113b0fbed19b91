"""Files that unpack to more than memory, or hold what no reader takes."""

from __future__ import annotations

import gzip
import json
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.cli.app import main
from selfsup.config import SourceConfig, WordPieceConfig
from selfsup.data import files, images
from selfsup.data.images import read_pictures
from selfsup.data.sources import read_documents
from selfsup.data.tokenizers import load_tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.uses.run_folder import write_json


def _read(path: Path) -> list[str]:
    report = files.ReadReport()
    return [d.text for d in read_documents(SourceConfig(path=str(path), unit="line"), report)]


def test_a_packed_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 1000)
    for name, open_packed in (("a.txt.gz", gzip.open), ("a.txt.zst", _zstd), ("a.txt", open)):
        with open_packed(tmp_path / name, "wb") as file:
            file.write(b"short\n" + b"0" * 5000)
    for name in ("a.txt.gz", "a.txt.zst"):
        with pytest.raises(UserError, match=r"unpacks to a line of .* GiB or more; unpack it"):
            _read(tmp_path / name)
    assert list(map(len, _read(tmp_path / "a.txt"))) == [5, 5000]
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a" * 999 + b"\n" + b"b" * 999))
    assert _read(tmp_path / "b.txt.gz") == ["a" * 999, "b" * 999]


def _zstd(path: Path, mode: str) -> object:
    return pytest.importorskip("zstandard").open(path, mode)


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "n": ' + "9" * 5000 + "}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl:1: broken JSON: a number of too many digits"):
        _read(file)


def test_half_a_surrogate_pair_is_kept_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a\ud800": ["ä\udfff", "\U0001f600"]})
    kept = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert kept == {"a\ud800": ["ä\udfff", "\U0001f600"]}


def _png(width: int, height: int) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (width + 1) * min(height, 10))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def test_a_picture_of_billions_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(_png(50_000, 50_000))
    with pytest.raises(UserError, match=r"a\.png: would be a picture of more than 178 million"):
        read_pictures([tmp_path / "a.png"])
    monkeypatch.setattr(library, "MAX_IMAGE_PIXELS", 60)
    (tmp_path / "b.png").write_bytes(_png(10, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_pictures([tmp_path / "b.png"]).shape == (1, 1, 10, 10)


def test_a_picture_that_is_a_line_is_scaled_from_its_middle(tmp_path: Path) -> None:
    library = pytest.importorskip("PIL.Image")
    pixels = np.repeat(np.array([[10, 200, 10]], np.uint8), [29_990, 20, 29_990], axis=1)
    library.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_pictures([tmp_path / "a.png"], size=8) == 200).all()
    longest = images._middle(library.fromarray(pixels), 32)
    assert longest.size == (32, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["special_tokens"].pop("[CLS]"), r"'\[CLS\]' stands in the template, not in"),
        (lambda t: t["single"][0]["SpecialToken"].update(id="x"), "'x' stands in the template"),
        (lambda t: t["special_tokens"]["[SEP]"].update(ids=[10**6]), "has the id 1000000, which"),
    ],
)
def test_a_tokenizers_template_of_strange_tokens(tmp_path: Path, change: Any, said: str) -> None:
    tokenizer = train_tokenizer(WordPieceConfig(vocab_size=38), ["some words of a text"] * 3)
    tokenizer.save(tmp_path, 32, types=False)
    assert load_tokenizer(tmp_path).encode("words")
    state = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    change(state["post_processor"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(UserError, match=f"tokenizer.json: post_processor: .*{said}"):
        load_tokenizer(tmp_path)


def test_an_array_of_texts_or_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "texts.npy", np.array([["a", "b"], ["c", "d"]] * 20))
    np.save(tmp_path / "none.npy", np.zeros((40, 0)))
    for name, said in (
        ("texts.npy", "the array holds texts; write it as .csv"),
        ("none.npy", "its examples hold no values: the array is 40 x 0"),
    ):
        out = str(tmp_path / "det")
        assert main(["detect", "fit", "--data", str(tmp_path / name), "--out", out]) == 2
        assert f"{name}: {said}" in capsys.readouterr().err
