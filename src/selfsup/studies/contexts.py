"""Does a word's vector follow its meaning?  One word in many contexts, layer by layer, beside floors."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.scripts import is_word
from selfsup.errors import UserError, counted
from selfsup.finetune_config import LabelledConfig
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.studies.contexts_figure import draw_contexts
from selfsup.studies.study_folder import open_folder
from selfsup.tasks.baselines import ngram_weights
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.reading import Notes, read_examples
from selfsup.training.lock import locked
from selfsup.uses.run_folder import write_json
from selfsup.uses.word_vectors import (
    WordVectors,
    check_word,
    find_word,
    likeness,
    nearest_others,
    word_vectors,
)

_MOST = 4000
"""Texts that are compared, each with each."""
_TRIED = 40
"""Frequent tokens that are looked at to find a control word."""
_CLEAR = 0.05
"""Accuracy by which a word must be ahead of its control in some layer."""
_FEWEST = 2
"""Texts of a sense: one has no other to be near to."""


@dataclass(frozen=True)
class _Places:
    """A word's first place in each text, its vectors, and the sense that the text names."""

    found: WordVectors
    senses: list[str]
    texts: list[str]


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

    A text counts once, with the word's first place in it.  At each layer, for each of these places, the
    nearest other (by `likeness`, in float32) is looked up.  Labels often go together with the kind of
    text, so three floors stand beside it: the same network with random weights, the words around (TF-IDF
    of the texts without the word), and a control word that stands in the same texts and has no such senses.

    Args:
        model: an encoder.
        data: the file (`train`) and its columns: texts, and the sense that the word has in each.
        word: see `find_word`.
        out: the study's folder.
        control: a word that stands in texts of all senses; empty: the one that stands in most.
        seed: of the random weights, and of what is drawn of more than 4,000 texts.
        overwrite: whether an older study in the folder goes.

    Returns:
        What `result.json` holds: accuracy (mean over senses) and mean likeness by layer, the floors, and
        a sentence.

    Raises:
        UserError: the word stands in no text, in texts of one sense only, or in fewer than two of a sense;
            a control word in fewer than two of a sense that the word has, or one that overlaps it.
    """
    word, control = check_word(word), control and check_word(control, "--control")
    if control and _overlap(control, word):
        what = f"'{control}' and '{word}' hold one another"
        raise UserError(what, where="--control", mend="name a word that has no such senses")
    pretrained, notes = load_encoder(model), Notes()
    examples = read_examples(data.train, data, "classify", notes, numeric=False, role="train")
    rows = _once([e for e in examples if isinstance(e, TextExample)], notes)
    holding = _holding(rows, word)
    senses = _check_senses(Counter(holding.values()), word, data.train)
    if len(holding) > _MOST:
        holding = _some(holding, _MOST // len(senses), seed)
        notes.add(f"{len(holding):,} of the texts with '{word}' are compared, drawn at random")
    folder = Path(out)
    kept = {
        "study": "contexts",
        "word": word,
        "control": control,
        "seed": seed,
        "model": pretrained.digest,
        "data": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
    }
    with locked(folder):
        open_folder(folder, kept, overwrite)
        other = control or _control_word(pretrained, holding, word)
        random = _random_weights(pretrained, seed)
        own = _places(pretrained, holding, word, senses, data.train)
        series = {"word": own}
        if other:
            texts = _holding(holding, other)
            series["control"] = _places(pretrained, texts, other, senses, data.train)
        series["random weights"] = _places(random, holding, word, senses, data.train)
        result = _result(series, word, other, _words_around(holding, word), notes)
        write_json(folder / "study.json", kept)
        drawn = draw_contexts(folder, result, own.found, own.senses, own.texts)
        result["figure"] = str(drawn.path)
        if drawn.stand_ins:
            result["stand-ins"] = drawn.stand_ins
            named = ", ".join(f"'{short}' is '{name}'" for short, name in drawn.stand_ins.items())
            notes.add(
                f"names that the fonts here cannot draw stand otherwise in the figure: {named}"
            )
        write_json(folder / "result.json", result)
    return result


def _result(
    series: Mapping[str, _Places], word: str, control: str, around: float, notes: Notes
) -> dict[str, Any]:
    """What `result.json` holds, but for the figure."""
    texts = Counter(series["word"].senses)
    result: dict[str, Any] = {
        "kind": "study-contexts",
        "word": word,
        "control": control,
        "texts": dict(sorted(texts.items())),
        "texts with the control": len(series["control"].senses) if control else 0,
        "chance": 1 / len(texts),
        "words around": around,
        "layers": {name: _judged(one) for name, one in series.items()},
        "notes": notes.lines,
    }
    return {**result, "finding": _finding(result)}


def _once(examples: Sequence[TextExample], notes: Notes) -> dict[str, str]:
    """Each text once, with its sense; those with two senses are left out."""
    senses: dict[str, set[str]] = {}
    for example in examples:
        senses.setdefault(example.text, set()).add(str(example.label))
    if unclear := sum(len(found) > 1 for found in senses.values()):
        verb = "text stands" if unclear == 1 else "texts stand"
        notes.add(f"{unclear} {verb} there with more than one label: left out")
    return {text: next(iter(found)) for text, found in senses.items() if len(found) == 1}


def _holding(rows: Mapping[str, str], word: str) -> dict[str, str]:
    return {text: sense for text, sense in rows.items() if find_word(text, word)}


def _some(holding: Mapping[str, str], most: int, seed: int) -> dict[str, str]:
    """At most so many texts of each sense, but two at least, drawn at random."""
    left = dict.fromkeys(holding.values(), max(most, _FEWEST))
    texts, drawn = list(holding), set()
    for number in np.random.default_rng(seed).permutation(len(texts)).tolist():
        if left[holding[texts[number]]]:
            left[holding[texts[number]]] -= 1
            drawn.add(texts[number])
    return {text: sense for text, sense in holding.items() if text in drawn}


def _check_senses(
    counts: Mapping[str, int], word: str, path: str, wanted: Collection[str] = ()
) -> list[str]:
    """The senses that texts with a word have.

    Raises:
        UserError: there is none or one, a single text of one, or none of a sense that is wanted.
    """
    if not counts:
        mend = "is it written otherwise there?  Upper and lower case are one"
        raise UserError(f"'{word}' stands in none of the texts", where=path, mend=mend)
    if len(counts) < 2:
        what = f"'{word}' stands in texts of one label alone, '{next(iter(counts))}'"
        raise UserError(what, where=path, mend="name another word, or the column of its senses")
    senses = sorted(wanted or counts)
    rare = min(senses, key=lambda sense: counts.get(sense, 0))
    if counts.get(rare, 0) < _FEWEST:
        number = counted(counts.get(rare, 0), "text")
        what = f"'{word}' stands in {number} labelled '{rare}', {_FEWEST} at least are needed"
        raise UserError(what, where=path, mend="add texts, leave that label out, or another word")
    return senses


def _places(
    pretrained: Pretrained, texts: Mapping[str, str], word: str, senses: list[str], path: str
) -> _Places:
    """The word's first place in each text.

    Raises:
        UserError: the tokenizer knows it in too few texts.
    """
    given = list(texts)
    found = word_vectors(pretrained, given, word, first=True)
    own = [given[number] for number in found.texts.tolist()]
    _check_senses(Counter(texts[text] for text in own), word, path, senses)
    return _Places(found, [texts[text] for text in own], own)


def _random_weights(pretrained: Pretrained, seed: int) -> Pretrained:
    device = next(pretrained.model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedLanguageModel(pretrained.config)
    return replace(pretrained, model=model.eval().to(device))


def _control_word(pretrained: Pretrained, holding: Mapping[str, str], word: str) -> str:
    """A token of letters that stands as a word in many texts of every sense; empty: there is none.

    The one whose share of a sense's texts is largest in the sense where it is smallest.
    """
    senses = Counter(holding.values())
    shares: dict[int, Counter[str]] = {}
    texts = list(holding)
    encodings = pretrained.tokenizer.inner.encode_batch(texts, add_special_tokens=False)
    rows = [np.array(encoding.ids, np.int64) for encoding in encodings]
    for ids, sense in zip(rows, holding.values(), strict=True):
        for id in np.unique(ids).tolist():
            shares.setdefault(id, Counter())[sense] += 1

    def least(counts: Counter[str]) -> float:
        return min(counts[sense] / count for sense, count in senses.items())

    def written(id: int) -> str:
        """How texts write a token, where it is a word; a tokenizer may read letters without their marks."""
        found: Counter[str] = Counter()
        having = (row for row, ids in enumerate(rows) if id in ids)
        for row in islice(having, _TRIED):
            for place in np.flatnonzero(rows[row] == id).tolist():
                begin, end = encodings[row].offsets[place]
                part = texts[row][begin:end]
                begin += len(part) - len(part.lstrip())
                part = part.strip()
                if is_word(part) and (begin, begin + len(part)) in find_word(texts[row], part):
                    found[part] += 1
        return max(found, key=found.__getitem__, default="")

    best, most = "", 0.0
    ranked = sorted(shares, key=lambda id: (-least(shares[id]), id))
    for id in ranked[:_TRIED]:
        text = written(id)
        if not text or _overlap(text, word):
            continue
        counts = Counter(_holding(holding, text).values())
        if min(counts[sense] for sense in senses) >= _FEWEST and least(counts) > most:
            best, most = text, least(counts)
    return best


def _overlap(a: str, b: str) -> bool:
    a, b = a.casefold(), b.casefold()
    return a in b or b in a


def _judged(places: _Places) -> list[dict[str, float]]:
    """For each layer, how well nearest places tell the sense, and mean likeness within and between senses."""
    senses = np.unique(places.senses, return_inverse=True)[1]
    others, same = ~np.eye(len(senses), dtype=bool), senses[:, None] == senses[None]
    rows = []
    for vectors in places.found.layers:
        near = likeness(vectors)
        rows.append(
            {
                "accuracy": nearest_accuracy(near, senses),
                "within": float(near[others & same].mean()),
                "between": float(near[~same].mean()),
            }
        )
    return rows


def nearest_accuracy(near: NDArray[np.float64], senses: NDArray[Any]) -> float:
    """The share of places whose nearest other has their sense: the mean over senses.

    Args:
        near: (places, places) likeness; that with itself does not count.
        senses: (places,).
    """
    right = senses[nearest_others(near)] == senses
    return float(np.mean([right[senses == sense].mean() for sense in np.unique(senses)]))


def _words_around(holding: Mapping[str, str], word: str) -> float:
    """The same question to TF-IDF of the texts, from which the word is cut."""
    rest = [_without(text, word) for text in holding]
    senses = np.array(list(holding.values()))
    try:
        features = ngram_weights(rest).fit_transform(rest)
    except ValueError:  # nothing but the word
        return 1 / len(set(senses.tolist()))
    return nearest_accuracy(np.asarray((features @ features.T).todense()), senses)


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
        return f"{said} No control word was found: none of the frequent ones stands in texts of every sense."
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
