"""Writing token shards, against `tokenizers.encode_batch` alone on the same documents.

Ours reads a JSON-lines file, drops duplicates, encodes, and writes; the peer has the texts in memory
already and only encodes, a thousand at a time.  Each measurement is a process of its own,
interleaved; medians of time, and of peak memory above that at the start.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from selfsup.config import (
    DataConfig,
    SourceConfig,
)
from selfsup.data.admission import Admission, admitted_documents
from selfsup.data.corpus import prepare_corpus
from selfsup.data.tokenizers import load_tokenizer

from _common import arguments, finish, imdb, peak_megabytes
from _peers import config, prepared


def work(system: str, source: str, tokenizer_folder: str) -> dict[str, Any]:
    tokenizer = load_tokenizer(Path(tokenizer_folder))
    if system == "encode_batch":
        plain = DataConfig(sources=(SourceConfig(path=source),))
        texts = [document.text for document in admitted_documents(plain, Admission())]
    before = peak_megabytes()
    started = time.perf_counter()
    if system == "ours":
        with tempfile.TemporaryDirectory() as cache:
            data = DataConfig(sources=(SourceConfig(path=source),), cache=cache)
            prepare_corpus(data, tokenizer)
            seconds = time.perf_counter() - started
    else:
        for first in range(0, len(texts), 1000):
            part = texts[first : first + 1000]
            tokenizer.inner.encode_batch(part, add_special_tokens=False)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "megabytes_above_start": peak_megabytes() - before}


def main() -> None:
    args = arguments(__doc__ or "", worker="", rounds=5)
    if args.worker:
        print(json.dumps(work(*args.worker.split("|"))))
        return
    source = imdb(args)
    with tempfile.TemporaryDirectory() as folder:
        prepared(config(source, "6x384")).tokenizer.save(Path(folder))
        file = Path(folder) / "texts.jsonl"
        plain = DataConfig(sources=(SourceConfig(path=source),))
        with file.open("w", encoding="utf-8") as lines:
            for document in admitted_documents(plain, Admission()):
                lines.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
        rows: dict[str, list[dict[str, Any]]] = {"ours": [], "encode_batch": []}
        for _ in range(1 if args.quick else args.rounds):
            for system, found in rows.items():
                command = [sys.executable, __file__, "--worker", f"{system}|{file}|{folder}"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
                print(f"  {system} {found[-1]}", flush=True)
    middle = {
        key: {s: round(statistics.median(r[key] for r in found), 3) for s, found in rows.items()}
        for key in ("seconds", "megabytes_above_start")
    }
    seconds = middle["seconds"]
    slower = round(seconds["ours"] / seconds["encode_batch"] - 1, 3)
    finish("sharding_speed", args, {**middle, "slower_by_share": slower})


if __name__ == "__main__":
    main()
