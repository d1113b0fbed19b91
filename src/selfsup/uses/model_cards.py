"""Model cards: what a model folder says about itself, in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selfsup.config import PretrainConfig
from selfsup.errors import visible
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.checkpoint_names import family
from selfsup.models.decoder_names import decoder_family


def model_card(config: PretrainConfig, result: Mapping[str, Any]) -> str:
    """A model card, Markdown."""
    model = config.model
    if config.objective.kind == "replaced-tokens":
        task, name, what, opener = "feature-extraction", "encoder", "An encoder", "AutoModel"
        how = " to tell\nreplaced tokens from true ones (ELECTRA, Clark et al. 2020)"
        open_with = "`selfsup embed`"
        measured = _detection_scores(result)
    elif config.objective.kind == "next-token":
        task, name, what = "text-generation", "language model", "A language model"
        opener, how, open_with = "AutoModelForCausalLM", "", "`selfsup generate`"
        measured = _next_token_scores(result)
    else:
        task, name, what = "fill-mask", "masked language model", "A masked language model"
        opener, how, open_with = "AutoModelForMaskedLM", "", "`selfsup fill` and `selfsup embed`"
        measured = _masked_scores(result)
    elsewhere = ""
    if decoder_family(model):
        elsewhere = f" or with\n`transformers.{opener}`"
    elif family(model):
        elsewhere = (
            f", with `transformers.{opener}` or\n"
            "`sentence_transformers.SentenceTransformer` (mean pooling)"
        )
    sources = "\n".join(f"- {_as_it_is(s.path)} (weight {s.weight:g})" for s in config.data.sources)
    begun = f"the weights of `{config.init}`" if config.init else "random weights"
    return f"""---
library_name: selfsup
pipeline_tag: {task}
---

# {config.recipe or name}

{what} with {result["parameters"]:,} parameters ({model.num_layers} layers x
{model.hidden_size}, vocabulary {model.vocab_size:,}), pre-trained from {begun} with `selfsup`{how}.

{measured}

Training: {result["steps"]:,} steps, {result["tokens"]:,} tokens ({result["epochs"]} epochs),
{result["minutes"]} minutes, {result["precision"]}, {config.train.optimizer.kind}.

Data:

{sources}

Open it with {open_with}{elsewhere}.  It repeats what its data says, right or
wrong.
"""


def _as_it_is(name: str) -> str:
    """A name of somebody else's in Markdown, where `<unk>` would be HTML and `_x_` slanted."""
    words = visible(" ".join(name.split()))
    if "`" not in words:
        return f"`{words}`"
    marks = "`" * (1 + max(map(len, re.findall("`+", words))))
    return f"{marks} {words} {marks}"


def _rows(rows: Mapping[str, Mapping[str, float]], columns: Iterable[str]) -> str:
    """Lines of a Markdown table; what was not measured is `nan`."""
    names = tuple(columns)
    return "\n".join(
        f"| {name} | {' | '.join(f'{row.get(c, math.nan):.3f}' for c in names)} |"
        for name, row in rows.items()
    )


def _masked_scores(result: Mapping[str, Any]) -> str:
    rows = {
        "this model": result["heldout"],
        "before training": result["untrained"],
        "guessing by word frequency": result["unigram"],
    }
    return f"""| | held-out loss (nats) | accuracy |
| --- | --- | --- |
{_rows(rows, ("masked_loss", "masked_accuracy"))}

Measured on documents that were never trained on, 15 % of the tokens hidden by a fixed key."""


def _next_token_scores(result: Mapping[str, Any]) -> str:
    rows = {
        "this model": result["heldout"],
        "before training": result["untrained"],
        "guessing by word frequency": result["unigram"],
    }
    return f"""| | held-out loss (nats a token) | accuracy | bits per byte |
| --- | --- | --- | --- |
{_rows(rows, ("loss", "accuracy", "bits_per_byte"))}

Measured on documents that were never trained on."""


def _detection_scores(result: Mapping[str, Any]) -> str:
    columns = ("detection_loss", "detection_accuracy", "detection_recall")
    rows = {
        "this model": result["heldout"],
        "guessing the share of replaced tokens": {"detection_recall": 0.0, **result["base_rate"]},
        "before training": result["untrained"],
    }
    share = result["heldout"].get("replaced_share", math.nan)
    return f"""| | held-out loss (nats) | accuracy | replaced tokens found |
| --- | --- | --- | --- |
{_rows(rows, columns)}

Measured on documents that were never trained on.  A generator, which is not part of this folder,
filled some of their tokens, as many as are 15 % of a row with what stands around and between the texts in
it.  That is neither filled nor asked about: of the tokens that were asked about, {100 * share:.1f} % differed
from the true ones and were to be found.  Before training the generator was untrained too, and its
replacements easier to see.  The model has no head that fills blanks."""


def task_card(
    config: FinetuneConfig,
    answer: str,
    labels: Sequence[str],
    result: Mapping[str, Any],
    architecture: str,
) -> str:
    """A fine-tuned model's card, Markdown.

    Args:
        config: of the run.
        answer: what the head says.
        labels: names of classes or tags.
        result: with the scores.
        architecture: the model's name in the ecosystem; `TaskModel`: it has none.
    """
    tag = {
        "class": "text-classification",
        "number": "text-classification",
        "tag": "token-classification",
        "span": "question-answering",
    }[answer]
    parts = [name for name in ("dev", "test") if name in result]
    names = [n for n in result["dev"] if "/" not in n]
    rows = "\n".join(
        f"| {n} | " + " | ".join(f"{result[part].get(n, math.nan):.4f}" for part in parts) + " |"
        for n in names
    )
    chosen = (
        f"The weights were chosen by {result['chosen_by']} on dev, so dev flatters them; test chose nothing."
        if result["select"] == "best"
        else "The weights are the last ones; nothing was chosen by these scores."
    )
    elsewhere = (
        f"`transformers.{architecture}` opens it too.\n"
        if architecture != "TaskModel"
        else "Only `selfsup` knows this head: transformers would open the encoder with a new, random one.\n"
    )
    said = f"\nAnswers: {', '.join(map(_as_it_is, labels))}.\n" if labels else ""
    return f"""---
library_name: selfsup
pipeline_tag: {tag}
---

# {config.task}, fine-tuned from {result["started_from"]}

{result["examples"]:,} labelled examples from {_as_it_is(config.data.train)}, {result["steps"]:,} steps
({result["epochs"]} epochs), {result["parameters"]:,} parameters, of which
{result["trained_parameters"]:,} were trained.
{said}
| | {" | ".join(parts)} |
| --- |{" --- |" * len(parts)}
{rows}

{chosen}
{elsewhere}
Use it with `selfsup predict` and `selfsup evaluate`.
"""
