"""Fine-tuned models as folders: under the ecosystem's names where it has them, else under ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.models.checkpoint_names import family, to_family, write_settings
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.model_folder import find_model_folder, model_settings, read_weights
from selfsup.models.settings_values import count, section
from selfsup.models.task_model import HeadSpec, Pooling, TaskModel
from selfsup.models.tensors import compare_tensors, write_tensors
from selfsup.nn.device import choose_device

Answer = Literal["class", "number", "tag", "span"]

_ARCHITECTURES = {
    "class": "ForSequenceClassification",
    "number": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_CLASSES = {"bert": "Bert", "modernbert": "ModernBert"}
_TOGETHER = "config.json and model.safetensors do not belong together"
_HEADS = ("task_head.", "classifier.", "qa_outputs.", "head.")
"""How the names of a head's tensors begin: ours, and the ecosystem's."""


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model that was opened."""

    model: TaskModel
    tokenizer: Tokenizer
    answer: Answer
    labels: tuple[str, ...]
    """Names of classes or tags, in order."""
    max_length: int
    path: Path
    task: dict[str, Any]
    """What `config.json` says under `selfsup.task`; empty for a model of another maker."""
    origin: dict[str, Any]


def is_finetuned(folder: Path) -> bool:
    """Whether a model folder holds a task's head."""
    settings = model_settings(folder)
    named = str((settings.get("architectures") or [""])[0])
    return "head" in (settings.get("selfsup") or {}) or named.endswith(
        tuple(_ARCHITECTURES.values())
    )


def head_parameters(folder: Path) -> int:
    """How many numbers the head of a fine-tuned model's folder has, be it one that we open or not."""
    return sum(t.numel() for n, t in read_weights(folder).items() if n.startswith(_HEADS))


def _theirs(kind: str | None, spec: HeadSpec, answer: Answer) -> dict[str, str] | None:
    """Our head tensors' names in the ecosystem; None: it has no such head."""
    if kind == "bert" and not spec.dense:
        if spec.unit == "sequence" and spec.pooling != "pooler":
            return None
        name = "qa_outputs" if answer == "span" else "classifier"
        return {f"output.{x}": f"{name}.{x}" for x in ("weight", "bias")}
    if kind == "modernbert" and spec.dense and spec.pooling != "pooler":
        return {
            "dense.weight": "head.dense.weight",
            "norm.weight": "head.norm.weight",
            "output.weight": "classifier.weight",
            "output.bias": "classifier.bias",
        }
    return None


def architecture(kind: str | None, spec: HeadSpec, answer: Answer) -> str:
    """The ecosystem's name for an encoder with a head; `TaskModel`: it has none."""
    known = kind and _theirs(kind, spec, answer)
    return _CLASSES[str(kind)] + _ARCHITECTURES[answer] if known else "TaskModel"


def save_finetuned(
    folder: Path,
    model: TaskModel,
    tokenizer: Tokenizer,
    *,
    answer: Answer,
    labels: Sequence[str],
    task: Mapping[str, Any],
    max_length: int,
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write a fine-tuned model (into an existing, empty folder).

    Args:
        folder: where to.
        model: encoder and head.
        tokenizer: of the encoder.
        answer: what the head says.
        labels: names of classes or tags.
        task: what `predict` needs to know.
        max_length: tokens that it was trained to read at once; the tokenizer cuts there.
        origin: of the run that made it.
        card: the model card, Markdown.
    """
    config = model.encoder.config
    kind = family(config)
    special = {"pad": tokenizer.pad_id, "cls": tokenizer.cls_id, "sep": tokenizer.sep_id}
    tensors = {n: p.detach().cpu().contiguous() for n, p in model.used_parameters().items()}
    body = {n: t for n, t in tensors.items() if n.startswith("encoder.")}
    head = {n: t for n, t in tensors.items() if n not in body}
    names = _theirs(kind, model.spec, answer)
    settings: dict[str, Any] = {"model_type": "selfsup"}
    if kind is not None:
        body = to_family(kind, body)
        settings = write_settings(kind, config, special)
    renamed = {names[n] if names else f"task_head.{n}": t for n, t in head.items()}
    settings |= _head_settings(kind, model.spec, answer, labels)
    settings["selfsup"] = {
        **origin,
        "model": config.model_dump(mode="json"),
        "tokenizer": tokenizer.fingerprint,
        "head": asdict(model.spec),
        "task": dict(task),
    }
    write_tensors(folder / "model.safetensors", {**body, **renamed})
    (folder / "config.json").write_text(
        json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    tokenizer.save(folder, max_length, types=config.type_vocab_size > 1)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _head_settings(
    kind: str | None, spec: HeadSpec, answer: Answer, labels: Sequence[str]
) -> dict[str, Any]:
    """What the ecosystem's `config.json` says of a head."""
    names = list(labels) or (["value"] if answer == "number" else [])
    settings: dict[str, Any] = {
        "architectures": [architecture(kind, spec, answer)],
        "classifier_dropout": spec.dropout,
    }
    if names:
        settings["id2label"] = {str(i): name for i, name in enumerate(names)}
        settings["label2id"] = {name: i for i, name in enumerate(names)}
    if answer == "number":
        settings["problem_type"] = "regression"
    if kind == "modernbert":
        settings["classifier_pooling"] = spec.pooling
    return settings


def load_finetuned(name: str | Path, device: str | torch.device = "cpu") -> Finetuned:
    """Open a fine-tuned model: selfsup's, or a BERT or ModernBERT of Hugging Face's with a head.

    Args:
        name: a run folder, a model folder, or, with the extra `hub`, a hub name.
        device: where the weights go: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Raises:
        UserError: no model, one without a task's head, or a head of another kind.
    """
    folder = find_model_folder(name)
    settings = model_settings(folder)
    body = load_encoder(folder)
    if not is_finetuned(folder):
        raise UserError(
            "this model was pre-trained but not fine-tuned",
            where=str(folder),
            mend="`selfsup finetune MODEL --task … --train FILE` makes one that predicts",
        )
    own = dict(settings.get("selfsup") or {})
    spec, answer, labels = _head(settings, own, body, folder)
    if spec.asks_pooler and not body.has_pooler:
        what = "the head asks for a pooler, which this encoder lacks"
        raise UserError(what, where=str(folder), mend=_TOGETHER)
    tensors = read_weights(folder)
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    if spec.outputs > longest:
        what = f"the head has {spec.outputs} outputs, and the weights nothing longer than {longest}"
        raise UserError(what, where=str(folder / "config.json"), mend=_TOGETHER)
    with torch.random.fork_rng(devices=[]):
        model = TaskModel(body.encoder, spec)
    _put_head(model, tensors, _theirs(family(body.config), spec, answer), folder)
    task = dict(own.get("task") or {})
    said = f"{folder / 'config.json'}: selfsup.task"
    reads = count(task, "max_length", said) if task.get("max_length") else body.max_length
    if reads > body.config.max_length:
        what = f"max_length is {reads}, and the encoder reads {body.config.max_length}"
        raise UserError(what, where=said)
    return Finetuned(
        model=model.eval().to(choose_device(device)),
        tokenizer=body.tokenizer,
        answer=answer,
        labels=labels,
        max_length=reads,
        path=folder,
        task=task,
        origin=own,
    )


def _head(
    settings: Mapping[str, Any], own: Mapping[str, Any], body: Pretrained, folder: Path
) -> tuple[HeadSpec, Answer, tuple[str, ...]]:
    labels = _labels(settings, str(folder / "config.json"))
    if "head" in own:
        spec, answer = _own_head(own, f"{folder / 'config.json'}: selfsup")
        return spec, answer, labels if answer in {"class", "tag"} else ()
    named = str((settings.get("architectures") or [""])[0])
    outputs = len(labels) or 2  # transformers leaves the names out where there are two
    labels = labels or tuple(f"LABEL_{i}" for i in range(outputs))
    kind = str(settings.get("model_type", ""))
    modern = kind == "modernbert"
    if named.endswith("ForSequenceClassification"):
        _refuse_several(settings, outputs, folder)
        pooling: Pooling = settings.get("classifier_pooling", "cls") if modern else "pooler"
        if modern and pooling not in {"cls", "mean"}:
            where = f"{folder / 'config.json'}: classifier_pooling"
            raise UserError(f"must be cls or mean, not {pooling!r}", where=where)
        answer = "number" if outputs == 1 else "class"
        spec = HeadSpec("sequence", outputs, pooling, dense=modern)
        return spec, answer, labels if answer == "class" else ()
    if named.endswith("ForTokenClassification"):
        return HeadSpec("token", outputs, dense=modern), "tag", labels
    if outputs != 2:
        raise UserError(f"a {named} with {outputs} outputs is not supported", where=str(folder))
    return HeadSpec("token", 2, dense=modern), "span", ()


def _labels(settings: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of a head's outputs, in order."""
    names = section(settings, "id2label", where)
    labels = tuple(str(names[key]) for key in map(str, range(len(names))) if key in names)
    if len(labels) < len(names):
        what = f"must name the outputs 0 to {len(names) - 1}, not {', '.join(map(str, names))}"
        raise UserError(what, where=f"{where}: id2label")
    if twice := next((x for x, times in Counter(labels).items() if times > 1), None):
        mend = "name them apart; answers are told by name"
        raise UserError(f"two outputs are called '{twice}'", where=f"{where}: id2label", mend=mend)
    return labels


def _own_head(own: Mapping[str, Any], where: str) -> tuple[HeadSpec, Answer]:
    """What `config.json` says under `selfsup` of the head and its answer.

    Raises:
        UserError: something is missing, or a value that cannot be.
    """
    from pydantic import TypeAdapter, ValidationError

    head, task = section(own, "head", where), section(own, "task", where)
    try:
        if unknown := set(head) - {f.name for f in fields(HeadSpec)}:
            raise UserError(f"unknown key '{min(unknown)}'", where=f"{where}.head")
        count(head, "outputs", f"{where}.head")
        answer: Answer = TypeAdapter(Answer).validate_python(task["answer"])
        return TypeAdapter(HeadSpec).validate_python(dict(head)), answer
    except KeyError as error:
        raise UserError(f"the key {error} is missing", where=where) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "answer"
        raise UserError(f"{key}: {first['msg']}", where=where) from None


def _refuse_several(settings: Mapping[str, Any], count: int, folder: Path) -> None:
    """Refuse heads that give several labels or numbers at once."""
    kind = str(settings.get("problem_type") or "")
    several = {
        "multi_label_classification": "any number of labels for a text",
        "regression": f"{count} numbers for a text" if count > 1 else "",
    }.get(kind, "")
    if several:
        mend = f"selfsup answers with one; open it with transformers (problem_type '{kind}')"
        raise UserError(f"this model gives {several}", where=str(folder), mend=mend)


def _put_head(
    model: TaskModel, tensors: Mapping[str, Tensor], names: Mapping[str, str] | None, folder: Path
) -> None:
    own = {n: p for n, p in model.named_parameters() if not n.startswith("encoder.")}
    where = {n: names[n] if names else f"task_head.{n}" for n in own}
    found = {n: tensors[there] for n, there in where.items() if there in tensors}
    compare_tensors(found, {n: tuple(p.shape) for n, p in own.items()}, folder)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])
