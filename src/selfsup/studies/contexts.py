"""Does a word's vector follow its meaning?  One word in many contexts, layer by layer, beside floors."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.studies.contexts_figure import draw_contexts
from selfsup.studies.study_folder import open_folder
from selfsup.tasks.baselines import choose_analyzer
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.reading import Notes, read_examples
from selfsup.training.lock import locked
from selfsup.uses.run_folder import write_json
from selfsup.uses.word_vectors import (
    WordVectors,
    check_word,
    find_word,
    likeness,
    word_vectors,
)

_TRIED = 40
"""Frequent tokens that are looked at to find a control word."""
_CLEAR = 0.05
"""Accuracy by which a word must be ahead of its control in some layer."""
_FEWEST = 2
"""Texts of a sense: one has no other to be near to."""


@dataclass(frozen=True)
class _Places:
    """A word's places, their vectors, and the sense that each place's text names."""

    found: WordVectors
    senses: list[str]
    texts: list[str]

    @property
    def apart(self) -> NDArray[np.bool_]:
        """(places, places) whether two stand in different texts; copies of a text are one."""
        numbers = {text: number for number, text in enumerate(self.texts)}
        own = np.array([numbers[text] for text in self.texts])
        different: NDArray[np.bool_] = own[:, None] != own[None]
        return different


def run(
    model: str | Path,
    data: LabelledConfig,
    word: str,
    out: str | Path,
    *,
    control: str = "",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Look at a word in labelled contexts: is what lies nearest to it used in the same sense?

    At each layer, for each place of the word, the nearest place in another text (by `likeness`) is
    looked up.  Labels often go together with the kind of text, so three floors stand beside it: the same
    network with random weights, the words around (TF-IDF of the texts without the word), and a control
    word that stands in the same texts and has no such senses.

    Args:
        model: an encoder.
        data: the file (`train`) and its columns: texts, and the sense that the word has in each.
        word: see `find_word`.
        out: the study's folder.
        control: a word that stands in texts of all senses; empty: the one that stands in most.
        seed: of the random weights.
        overwrite: whether an older study in the folder goes.

    Returns:
        What `result.json` holds: accuracy (mean over senses) and mean likeness by layer, the floors, and
        a sentence.

    Raises:
        UserError: the word stands in no text, or in fewer than two texts of a sense, or in texts of
            one sense only; a control word that does not stand in texts of two.
    """
    word, control = check_word(word), control and check_word(control, "--control")
    pretrained, notes = load_encoder(model), Notes()
    examples = read_examples(data.train, data, "classify", notes, numeric=False, role="train")
    rows = [(e.text, str(e.label)) for e in examples if isinstance(e, TextExample)]
    holding = _holding(rows, word, data.train, "--word")
    other = control or _control_word(pretrained, holding, word)
    if other:
        _holding(holding, other, data.train, "--control")
    folder = Path(out)
    with locked(folder):
        kept = {
            "study": "contexts",
            "word": word,
            "control": control,
            "seed": seed,
            "model": pretrained.digest,
            "data": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
        }
        open_folder(folder, kept, overwrite)
        write_json(folder / "study.json", kept)
        random = _random_weights(pretrained, seed)
        own = _places(pretrained, holding, word)
        series = {"word": own, "random weights": _places(random, holding, word)}
        if other:
            series["control"] = _places(pretrained, holding, other, once=True)
        senses = Counter(sense for _, sense in holding)
        tables = {name: _judged(one) for name, one in series.items()}
        result: dict[str, Any] = {
            "kind": "study-contexts",
            "word": word,
            "control": other,
            "texts": dict(sorted(senses.items())),
            "places": len(own.senses),
            "chance": 1 / len(senses),
            "words around": _words_around(holding, word),
            "layers": tables,
            "notes": notes.lines,
        }
        result["finding"] = _finding(result)
        result["figure"] = str(
            draw_contexts(folder, result, own.found, own.senses, own.texts, own.apart)
        )
        write_json(folder / "result.json", result)
    return result


def _holding(
    rows: Sequence[tuple[str, str]], word: str, path: str, flag: str
) -> list[tuple[str, str]]:
    """The texts with the word, and their senses; a text that is there again counts once.

    Raises:
        UserError: there is none, or too few of a sense.
    """
    holding = [row for row in dict.fromkeys(rows) if find_word(row[0], word)]
    counts = Counter(sense for _, sense in holding)
    if not counts:
        mend = "is it written otherwise there?  Upper and lower case are one"
        raise UserError(f"'{word}' stands in none of the texts", where=path, mend=mend)
    if len(counts) < 2:
        what = f"'{word}' stands in texts of one label alone, '{holding[0][1]}'"
        raise UserError(what, where=path, mend=f"name another {flag}, or the column of its senses")
    rare = min(counts, key=lambda sense: (counts[sense], sense))
    if counts[rare] < _FEWEST:
        what = f"'{word}' stands in a single text labelled '{rare}': no other could be near to it"
        raise UserError(what, where=path, mend="add texts, or leave that label out")
    return holding


def _places(
    pretrained: Pretrained, holding: Sequence[tuple[str, str]], word: str, once: bool = False
) -> _Places:
    """A word's places; with `once`, the first of each text."""
    texts = [text for text, _ in holding]
    found = word_vectors(pretrained, texts, word, precision="auto")
    if once:
        first = np.unique(found.texts, return_index=True)[1]
        found = WordVectors(found.texts[first], found.spans[first], found.layers[:, first])
    numbers = found.texts.tolist()
    return _Places(found, [holding[n][1] for n in numbers], [texts[n] for n in numbers])


def _random_weights(pretrained: Pretrained, seed: int) -> Pretrained:
    device = next(pretrained.model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedLanguageModel(pretrained.config)
    return replace(pretrained, model=model.eval().to(device))


def _control_word(pretrained: Pretrained, holding: Sequence[tuple[str, str]], word: str) -> str:
    """A token of letters that stands as a word in many texts of every sense; empty: there is none.

    The one whose share of a sense's texts is largest in the sense where it is smallest.
    """
    tokenizer = pretrained.tokenizer
    senses = Counter(sense for _, sense in holding)
    shares: dict[int, Counter[str]] = {}
    rows = tokenizer.encode_batch([text for text, _ in holding], special=False)
    for ids, (_, sense) in zip(rows, holding, strict=True):
        for id in np.unique(ids).tolist():
            shares.setdefault(id, Counter())[sense] += 1

    def least(counts: Counter[str]) -> float:
        return min(counts[sense] / count for sense, count in senses.items())

    best, most = "", 0.0
    ranked = sorted(shares, key=lambda id: (-least(shares[id]), id))
    for id in ranked[:_TRIED]:
        text = tokenizer.decode([id]).strip()
        if not text.isalpha() or _overlap(text, word):
            continue
        counts = Counter(sense for body, sense in holding if find_word(body, text))
        if min(counts[sense] for sense in senses) >= _FEWEST and least(counts) > most:
            best, most = text, least(counts)
    return best


def _overlap(a: str, b: str) -> bool:
    a, b = a.casefold(), b.casefold()
    return a in b or b in a


def _judged(places: _Places) -> list[dict[str, float]]:
    """For each layer, how well nearest places tell the sense, and mean likeness within and between senses."""
    senses = np.unique(places.senses, return_inverse=True)[1]
    apart, same = places.apart, senses[:, None] == senses[None]
    rows = []
    for vectors in places.found.layers:
        near = likeness(vectors)
        rows.append(
            {
                "accuracy": nearest_accuracy(np.where(apart, near, -np.inf), senses),
                "within": float(near[apart & same].mean()),
                "between": float(near[apart & ~same].mean()),
            }
        )
    return rows


def nearest_accuracy(near: NDArray[np.float64], senses: NDArray[Any]) -> float:
    """The share of places whose nearest other has their sense: the mean over senses.

    Args:
        near: (places, places) likeness; minus infinity where a place may not be the nearest.
        senses: (places,).
    """
    right = senses[near.argmax(1)] == senses
    return float(np.mean([right[senses == sense].mean() for sense in np.unique(senses)]))


def _words_around(holding: Sequence[tuple[str, str]], word: str) -> float:
    """The same question to TF-IDF of the texts, from which the word is cut."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rest = [_without(text, word) for text, _ in holding]
    parts = choose_analyzer(rest)
    vectorizer = TfidfVectorizer(
        analyzer=parts,
        ngram_range=(1, 2) if parts == "word" else (1, 3),
        token_pattern=r"(?u)\w+" if parts == "word" else None,
        sublinear_tf=True,
    )
    senses = np.array([sense for _, sense in holding])
    try:
        features = vectorizer.fit_transform(rest)
    except ValueError:  # nothing but the word
        return 1 / len(set(senses.tolist()))
    near = np.asarray((features @ features.T).todense())
    np.fill_diagonal(near, -np.inf)
    return nearest_accuracy(near, senses)


def _without(text: str, word: str) -> str:
    at, parts = 0, []
    for begin, end in find_word(text, word):
        parts.append(text[at:begin])
        at = end
    return " ".join([*parts, text[at:]])


def _finding(result: dict[str, Any]) -> str:
    shares = {name: [row["accuracy"] for row in rows] for name, rows in result["layers"].items()}
    word = shares["word"]
    last = len(word) - 1
    said = (
        f"After the last of {last} layers, the place nearest to '{result['word']}' has its sense in "
        f"{word[last]:.0%} (chance {result['chance']:.0%}; before the first layer {word[0]:.0%}; random "
        f"weights {shares['random weights'][last]:.0%}; words around, by TF-IDF, "
        f"{result['words around']:.0%})."
    )
    if "control" not in shares:
        return f"{said} No other word stands in texts of every sense, so there is no control."
    control = shares["control"]
    ahead = [own - other for own, other in zip(word, control, strict=True)]
    widest = int(np.argmax(ahead))
    told = (
        f"{said} '{result['control']}', a word of the same texts without such senses, tells them in "
        f"{control[last]:.0%} there, by what the text is about"
    )
    if ahead[widest] < _CLEAR:
        return f"{told}: in no layer is the word's own vector clearly ahead of it."
    layer = f"after layer {widest}" if widest else "before the first layer"
    return (
        f"{told}; the word is furthest ahead of it {layer} ({word[widest]:.0%} against "
        f"{control[widest]:.0%})."
    )
