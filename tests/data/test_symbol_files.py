from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from selfsup.config import (
    DataConfig,
    SourceConfig,
    SymbolConfig,
)
from selfsup.data import symbol_files
from selfsup.data.corpus import prepare_corpus
from selfsup.data.sources import ReadReport, find_files, read_documents
from selfsup.data.symbol_files import SymbolRecord, read_fasta, read_uci
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError

SEQUENCES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sequence"
needs_data = pytest.mark.skipif(not SEQUENCES.is_dir(), reason=f"no {SEQUENCES}")

FASTA = b"\xef\xbb\xbf>sp|P1 first one\r\nACGT\r\nac gt\r\n\r\n; note\r\n>P2\r\nMK-V*\r\n>\r\nA\r\n>P4\r\n"


def _message(path: Path) -> str:
    reader = read_uci if path.suffix == ".data" else read_fasta
    with pytest.raises(UserError) as caught:
        list(reader(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.fasta", "a.fa.gz", "a.FNA.xz"])
def test_fasta_records(tmp_path: Path, name: str) -> None:
    packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)(FASTA)
    file = tmp_path / name
    file.write_bytes(packed)
    assert list(read_fasta(file)) == [
        SymbolRecord("sp|P1", "ACGTacgt", f"{file}:1"),
        SymbolRecord("P2", "MK-V*", f"{file}:6"),
        SymbolRecord("", "A", f"{file}:8"),
        SymbolRecord("P4", "", f"{file}:10"),
    ]
    assert next(read_fasta(file, uppercase=True)).sequence == "ACGTACGT"
    documents = list(read_documents(SourceConfig(path=str(file)), ReadReport()))
    assert [text for text, _ in documents] == ["ACGTacgt", "MK-V*", "A", ""]
    assert find_files(SourceConfig(path=str(tmp_path))) == [file]


def test_old_line_ends_and_other_names(tmp_path: Path) -> None:
    file = tmp_path / "a.fas"
    file.write_bytes(b">a\rACGT\rAC.-\r>b\rACCC\r\n")
    assert [record.sequence for record in read_fasta(file)] == ["ACGTAC.-", "ACCC"]
    assert [record.where for record in read_fasta(file)] == [f"{file}:1", f"{file}:4"]
    packed = tmp_path / "b.ffn"
    packed.write_bytes(gzip.compress(FASTA))
    assert "it is packed: give it a name that ends in .gz" in _message(packed)
    (tmp_path / "reads.fastq").write_text("@r\nACGT\n+\n!!!!\n")
    with pytest.raises(UserError, match="turn reads into FASTA first"):
        find_files(SourceConfig(path=str(tmp_path / "reads.fastq")))
    assert find_files(SourceConfig(path=str(tmp_path))) == [file, packed]


def test_records_are_whole_where_asked(tmp_path: Path) -> None:
    file = tmp_path / "long.fa"
    file.write_text(">a\n" + "ACGTA\n" * 25_000 + ">b\nTT\n")
    source = SourceConfig(path=str(file))
    whole = [len(text) for text, _ in read_documents(source, ReadReport(), whole=True)]
    assert whole == [125_000, 2]
    assert [len(text) for text, _ in read_documents(source, ReadReport())][-3:] == [
        10_000,
        5_000,
        2,
    ]


def test_fasta_errors(tmp_path: Path) -> None:
    file = tmp_path / "a.fasta"
    file.write_text("\n\n")
    assert _message(file) == f"{file}: the file is empty; '>name', then letters"
    file.write_text("\nACGT\n>a\nA\n")
    assert _message(file).startswith(f"{file}:2: letters before the first header")
    file.write_text(">a\nAC\nA1\nGG\n>b\nTT\n")
    assert _message(file).startswith(f"{file}:3: '1' is no letter of a sequence")
    file.write_bytes(b">a\nAC\n\xff\n>b\nTT\n")
    assert _message(file).startswith(f"{file}:3: not UTF-8")
    report = ReadReport()
    kept = list(read_fasta(file, on_bad_row="skip", report=report))
    assert [record.name for record in kept] == ["b"]
    assert report.bad_rows == 1


@pytest.mark.parametrize("width", [1, 7, 60, 1000])
def test_long_records_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(symbol_files, "LONG_RECORD", 100)
    monkeypatch.setattr(symbol_files, "PIECE", 10)
    file = tmp_path / "a.fna"
    for letters in (99, 100, 101, 110, 333):
        sequence = "".join("ACGT"[i * i % 7 % 4] for i in range(letters))
        lines = [sequence[i : i + width] for i in range(0, letters, width)]
        file.write_text(">long\n" + "\n".join(lines) + "\n>b\nTT\n")
        texts = [text for text, _ in read_documents(SourceConfig(path=str(file)), ReadReport())]
        assert texts[-1] == "TT"
        assert "".join(texts[:-1]) == sequence
        assert len(texts) == 2 if letters <= 100 else {len(x) for x in texts[:-2]} == {10}
        assert next(read_fasta(file)).sequence == sequence


def test_a_bad_line_ends_a_long_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbol_files, "LONG_RECORD", 100)
    monkeypatch.setattr(symbol_files, "PIECE", 10)
    file = tmp_path / "a.fna"
    file.write_text(">long\n" + "ACGTA\n" * 25 + "AC?\n" + "CCCCC\n" * 9 + ">b\nTT\n")
    report = ReadReport()
    source = SourceConfig(path=str(file), on_bad_row="skip")
    texts = [text for text, _ in read_documents(source, report)]
    assert texts == ["ACGTAACGTA"] * 12 + ["TT"]
    assert report.bad_rows == 1


def test_uci(tmp_path: Path) -> None:
    file = tmp_path / "a.data"
    file.write_text("EI,  A-1,   AC GT\n\n+,S10,\t\tacgt\n")
    assert list(read_uci(file)) == [
        SymbolRecord("A-1", "ACGT", f"{file}:1", "EI"),
        SymbolRecord("S10", "acgt", f"{file}:3", "+"),
    ]
    assert list(read_uci(file, uppercase=True))[1].sequence == "ACGT"
    rows = {
        "EI,AC": "the row has 2 fields; 'class, name, sequence' is expected",
        ",a,AC": "the class is empty",
        "EI,a,A?": "'?' is no letter",
    }
    for row, message in rows.items():
        file.write_text(f"N,b,TT\n{row}\n")
        assert _message(file).startswith(f"{file}:2: {message}")
        assert len(list(read_uci(file, on_bad_row="skip"))) == 1
    file.write_text("")
    assert "the file is empty" in _message(file)


@needs_data
def test_a_genome_becomes_a_corpus(tmp_path: Path) -> None:
    source = SourceConfig(path=str(SEQUENCES / "ecoli_536_genome"))
    data = DataConfig(sources=(source,), cache=str(tmp_path))
    corpus = prepare_corpus(data, train_tokenizer(SymbolConfig(alphabet="ACGT"), (), None))
    assert len(corpus.train.tokens) + len(corpus.heldout.tokens) == 2_800_000
    assert len(corpus.train) + len(corpus.heldout) == 280
    assert corpus.meta["unknown_share"] == 0


@needs_data
def test_real_sequences() -> None:
    found = list(read_fasta(SEQUENCES / "uniprot_sample" / "uniprot_sample.fasta.gz"))
    assert len(found) == 4000
    assert sum(len(record.sequence) for record in found) == 876_490
    splice = list(read_uci(SEQUENCES / "splice_junction" / "splice.data"))
    assert len(splice) == 2633
    assert {len(record.sequence) for record in splice} == {60}
