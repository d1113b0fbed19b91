"""The peer of the pre-training benchmarks: transformers' BERT and Trainer, on the same rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsup import recipes
from selfsup.config import PretrainConfig
from selfsup.data.rows import Parts, assemble
from selfsup.training.progress import Progress
from selfsup.uses.preparing import Prepared, prepare

SHAPES = {
    "4x256": {"layers": 4, "hidden": 256, "heads": 4, "vocabulary": 30522},
    "6x384": {"layers": 6, "hidden": 384, "heads": 6, "vocabulary": 16384},
}


def config(source: str, shape: str, recipe: str = "bert-mini") -> PretrainConfig:
    """Our configuration of a shape: the recipe's kind of network, masked tokens alone."""
    s = SHAPES[shape]
    value = recipes.get(recipe).model_dump(mode="json")
    value["data"]["sources"] = [{"path": source}]
    value["tokenizer"]["vocab_size"] = s["vocabulary"]
    gated = value["model"]["gated"]
    value["model"].update(
        num_layers=s["layers"],
        hidden_size=s["hidden"],
        num_heads=s["heads"],
        intermediate_size=s["hidden"] * 8 // 3 // 32 * 32 if gated else 4 * s["hidden"],
    )
    value["objective"]["pairs"] = "none"
    return PretrainConfig.model_validate(value)


def prepared(chosen: PretrainConfig) -> Prepared:
    return prepare(chosen, Progress(quiet=True, title=""))


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The packed rows that ours trains on, as the peer's collator wants them."""

    def __init__(self, ready: Prepared) -> None:
        self.ready = ready
        self.order = np.random.default_rng(0).permutation(len(ready.train))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = self.ready.train
        pieces = rows.pieces_of(self.order[index : index + 1])
        whole = np.zeros(len(pieces.rows), bool)
        parts = Parts(pieces.begins, pieces.ends, pieces.rows, whole)
        text = assemble(rows.split, parts, 1, rows.length, self.ready.tokenizer)
        return {"input_ids": text.tokens[0].tolist()}


def peer_model(shape: str) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    s = SHAPES[shape]
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=s["vocabulary"],
            hidden_size=s["hidden"],
            num_hidden_layers=s["layers"],
            num_attention_heads=s["heads"],
            intermediate_size=4 * s["hidden"],
        )
    )


def trainer_arguments(folder: str, batch: int, steps: int, **options: Any) -> Any:
    """Trainer's arguments: so many steps, and nothing written or said on the way."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        max_steps=steps,
        report_to=[],
        save_strategy="no",
        logging_steps=10**9,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **options,
    )


def train_peer(
    ready: Prepared,
    model: Any,
    *,
    steps: int,
    batch: int = 32,
    on_step: Callable[[int, Any], bool] | None = None,
    schedule: Callable[[int], float] | None = None,
    **options: Any,
) -> list[float]:
    """Train with Trainer; returns the time of each step's end.

    Args:
        ready: the corpus.
        model: the network.
        steps: at most.
        batch: rows in one step.
        on_step: called after each; true stops.
        schedule: share of the learning rate at a step (LambdaLR), else Trainer's default.
        options: further TrainingArguments (learning_rate, bf16, torch_compile).
    """
    from transformers import (
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
    )

    times: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            times.append(time.perf_counter())
            if on_step is not None and on_step(state.global_step, kwargs["optimizer"]):
                control.should_training_stop = True
            return control

    with tempfile.TemporaryDirectory() as folder:
        ready.tokenizer.save(Path(folder) / "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
        arguments = trainer_arguments(folder, batch, steps, **options)
        trainer = Trainer(
            model,
            arguments,
            train_dataset=Rows(ready),
            data_collator=DataCollatorForLanguageModeling(tokenizer),
            callbacks=[Watch()],
        )
        if schedule is not None:
            trainer.create_optimizer()
            trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, schedule)
        trainer.train()
    return times


def peer_heldout(ready: Prepared, model: Any) -> float:
    """The peer's loss on our held-out rows with our fixed masks; rows read whole, as it trained."""
    from selfsup.data.sampler import Examples
    from selfsup.training.evaluation import HELDOUT_KEY

    training, total, count = model.training, 0.0, 0.0
    model.eval()
    rows, epochs = ready.evaluation.examples
    with torch.no_grad():
        for first in range(0, len(rows), 32):
            part = Examples(rows[first : first + 32], epochs[first : first + 32])
            batch = ready.evaluation.objective.batch(part, HELDOUT_KEY)
            tokens = batch.sequences.tokens.view(len(part.rows), -1)
            mask = (tokens != ready.tokenizer.pad_id).long()
            logits = model(input_ids=tokens, attention_mask=mask).logits.float().flatten(0, 1)
            losses = torch.nn.functional.cross_entropy(
                logits[batch.scored], batch.targets, reduction="none"
            )
            total += float((losses * batch.weights).sum())
            count += float(batch.weights.sum())
    model.train(training)
    return total / count
