"""Which settings win at equal minutes: vocabulary, share hidden, optimizer, whole words.

Each row is one training of a recipe with one thing changed.  Losses per token do not compare across
vocabularies; two measures do: bits per character (the loss at hidden tokens, spread over the
characters they stand for), and the accuracy of a logistic regression on frozen mean vectors of IMDB
reviews (positive or negative; 1,500 to learn from, 1,500 to be tested on).
"""

from __future__ import annotations

import json
import lzma
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import selfsup
from selfsup import recipes
from selfsup.config import PretrainConfig

from _common import arguments, finish, imdb

MUON, ADAMW = "train.optimizer.kind=muon", "train.optimizer.kind=adamw"
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("base", "modernbert-mini", {}),
    ("vocabulary 4k", "modernbert-mini", {"tokenizer.vocab_size": 4096}),
    ("vocabulary 16k", "modernbert-mini", {"tokenizer.vocab_size": 16384}),
    ("15 % hidden", "modernbert-mini", {"objective.rate": 0.15}),
    ("whole words", "modernbert-mini", {"objective.unit": "word"}),
    ("muon 0.01", "modernbert-mini", {"train.optimizer.lr": 0.01}),
    ("muon 0.04", "modernbert-mini", {"train.optimizer.lr": 0.04}),
    ("adamw 1e-3", "modernbert-mini", {"train.optimizer": {"kind": "adamw", "lr": 1e-3}}),
    ("adamw 3e-3", "modernbert-mini", {"train.optimizer": {"kind": "adamw", "lr": 3e-3}}),
    ("batch 16", "modernbert-mini", {"train.batch_size": 16}),
    ("batch 64", "modernbert-mini", {"train.batch_size": 64}),
    ("base", "bert-mini", {}),
    ("no pairs", "bert-mini", {"objective.pairs": "none"}),
    ("no pairs, 30 % hidden", "bert-mini", {"objective.pairs": "none", "objective.rate": 0.3}),
    ("adamw 3e-4", "bert-mini", {"train.optimizer.lr": 3e-4}),
    ("muon", "bert-mini", {"train.optimizer": {"kind": "muon"}}),
]


def changed(recipe: str, source: str, minutes: float, changes: dict[str, Any]) -> PretrainConfig:
    value = recipes.get(recipe).model_dump(mode="json")
    value["data"]["sources"] = [{"path": source}]
    value["train"]["budget"] = f"{minutes} minutes"
    value["train"]["evaluate_every"] = 0.5
    for key, new in changes.items():
        *path, last = key.split(".")
        place = value
        for name in path:
            place = place[name]
        place[last] = new
    return PretrainConfig.model_validate(value)


def reviews(data: Path, count: int) -> tuple[list[str], np.ndarray] | None:
    file = data / "text" / "imdb" / "imdb_train.jsonl.xz"
    if not file.is_file():
        return None
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    order = np.random.default_rng(0).permutation(len(rows))[:count]
    texts = [rows[i]["text"][:600] for i in order]
    return texts, np.array([str(rows[i]["label"]) for i in order])


def probe(run: Path, data: Path, count: int) -> float | None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    found = reviews(data, 2 * count)
    if found is None:
        return None
    texts, labels = found
    vectors = StandardScaler().fit_transform(selfsup.embed(selfsup.load(run), texts))
    model = LogisticRegression(C=0.01, max_iter=1000).fit(vectors[:count], labels[:count])
    return float(model.score(vectors[count:], labels[count:]))


def main() -> None:
    args = arguments(__doc__ or "", minutes=2.0, only="")
    minutes = 0.05 if args.quick else args.minutes
    source = imdb(args)
    table = []
    for name, recipe, changes in ROWS[:3] if args.quick else ROWS:
        if args.only and args.only not in f"{recipe} {name}":
            continue
        config = changed(recipe, source, minutes, changes)
        run = Path(tempfile.mkdtemp())
        result = selfsup.pretrain(config, run / "run", quiet=True)
        meta = json.loads((run / "run" / "environment.json").read_text())["data"]["splits"]
        held = meta["heldout"]
        loss = result["heldout"]["masked_loss"]
        row = {
            "recipe": recipe,
            "change": name,
            "masked_loss": round(loss, 4),
            "masked_accuracy": round(result["heldout"]["masked_accuracy"], 4),
            "bits_per_character": round(
                loss / math.log(2) * held["tokens"] / held["characters"], 4
            ),
            "probe_accuracy": probe(run / "run", args.data, 100 if args.quick else 1500),
            "steps": result["steps"],
            "tokens": result["tokens"],
        }
        table.append(row)
        print(json.dumps(row), flush=True)
        shutil.rmtree(run)
    finish("settings", args, {"minutes": minutes, "rows": table})


if __name__ == "__main__":
    main()
