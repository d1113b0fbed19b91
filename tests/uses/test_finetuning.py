"""Fine-tuning from files to answers: every task learns, resumes, repeats, and refuses bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfsup
from selfsup.errors import Interrupted, UserError
from selfsup.models.hub import load
from selfsup.tasks.judge import read_answers
from selfsup.tasks.reading import read_parts
from selfsup.tasks.texts import ClassCollector
from selfsup.training import progress
from selfsup.training.checkpoints import found
from selfsup.training.devices import Precision
from selfsup.uses.finetuning import finetune, fit, make_sets
from selfsup.uses.predicting import evaluate_file, predict_file
from tests.tasks.toy import (
    sentence,
    toy_config,
    write_encoder,
    write_questions,
    write_tags,
    write_texts,
)

FP32 = Precision(torch.float32, "", 0.0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("toy") / "encoder")


def files(folder: Path, task: str) -> tuple[Path, Path]:
    write: Any = {"tag": write_tags, "span": write_questions}.get(task, write_texts)
    suffix = {"tag": "conll", "span": "json"}.get(task, "tsv")
    return tuple(write(folder / f"{n}.{suffix}", seed=i) for i, n in enumerate(("train", "dev")))


CASES = {
    "classify": ({}, "accuracy", 0.9),
    "regress": ({"data": {"label_column": "number"}}, "correlation", 0.9),
    "tag": ({}, "accuracy", 0.9),
    "span": ({"train": {"budget": "150 steps"}}, "f1", 0.5),
}


@pytest.mark.parametrize("task", CASES)
def test_learns_predicts_and_scores_the_same(encoder: Path, tmp_path: Path, task: str) -> None:
    changes, main, least = CASES[task]
    train, dev = files(tmp_path, task)
    config = toy_config(encoder, task, train, dev, **changes)
    result = finetune(config, tmp_path / "run", quiet=True)
    assert result["chosen_by"] == main
    assert result["dev"][main] >= least
    assert result["dev"][main] > result["untrained"][main]
    predictor = selfsup.Predictor(tmp_path / "run", precision="fp32")
    scored = evaluate_file(predictor, str(dev), {})
    for name, value in result["dev"].items():
        if (task, name) != ("regress", "loss"):  # in training numbers have the spread 1
            assert scored[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    said = predict_file(predictor, str(dev), tmp_path / "out.jsonl", {}, overwrite=False)
    rows = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert said["examples"] == len(rows) == result_size(predictor, dev)
    if task == "regress":
        values = np.array([r["value"] for r in rows])
        assert 50 < values.min() < 300  # in the file's unit
        assert 700 < values.max() < 1000
    for tokens in (1, 37, 10_000):
        other = selfsup.Predictor(tmp_path / "run", precision="fp32", batch_tokens=tokens)
        again = evaluate_file(other, str(dev), {})
        assert again[main] == pytest.approx(scored[main], abs=1e-6)
        assert again["loss"] == pytest.approx(scored["loss"], rel=1e-4)


def result_size(predictor: selfsup.Predictor, path: Path) -> int:
    from selfsup.tasks.reading import Notes

    return len(predictor.read(str(path), {}, Notes(), labelled=True))


def test_pairs_with_classes_and_with_numbers(encoder: Path, tmp_path: Path) -> None:
    import random

    rng = random.Random(0)
    rows = []
    for _ in range(120):
        (one, a), (two, b) = sentence(rng), sentence(rng)
        rows.append((one, two, "same" if a == b else "other", 4.5 if a == b else 1.25))
    for name, part in (("train", rows[:90]), ("dev", rows[90:])):
        text = "\n".join("\t".join(map(str, row)) for row in part)
        (tmp_path / f"{name}.tsv").write_text("one\ttwo\tkind\tscore\n" + text + "\n")
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    columns = {"text_column": "one", "pair_column": "two"}
    for label, answer, main in (("kind", "class", "accuracy"), ("score", "number", "correlation")):
        data = {**columns, "label_column": label}
        parts = read_parts(toy_config(encoder, "pairs", train, dev, data=data), 96)
        assert parts.info.answer == answer
        assert parts.info.main == main
        result = finetune(
            toy_config(encoder, "pairs", train, dev, data=data), tmp_path / label, quiet=True
        )
        predictor = selfsup.Predictor(tmp_path / label)
        given = predictor([("the film is fine", "the house is warm")])
        assert ("label" in given[0]) == (answer == "class")
        assert result["dev"][main] == result["dev"][main]  # a number
        with pytest.raises(UserError, match="two texts"):
            predictor(["only one"])


def test_unanswerable_questions(encoder: Path, tmp_path: Path) -> None:
    train = write_questions(tmp_path / "train.json", impossible=True)
    config = toy_config(encoder, "span", train, train, train={"budget": "20 steps"})
    result = finetune(config, tmp_path / "run", quiet=True)
    assert "no_answer/exact_match" in result["dev"]
    predictor = selfsup.Predictor(tmp_path / "run", precision="fp32")
    scored = evaluate_file(predictor, str(train), {})
    assert scored["f1"] == pytest.approx(result["dev"]["f1"], abs=1e-6)
    plain = predictor.task.model_copy(update={"null_threshold": 0.0})
    predictor.task = plain
    assert scored["f1"] >= evaluate_file(predictor, str(train), {})["f1"]  # it was chosen here
    asked = {"question": "what is the film"}
    (answer,) = predictor([asked | {"passage": "the film is fine"}])
    assert [answer] == predictor([asked | {"context": "the film is fine"}])
    assert {"text", "begin", "end", "score", "probability", "others"} <= set(answer)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(
    encoder: Path, tmp_path: Path
) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, head={"dropout": 0.2})
    pretrained = load(encoder)
    sets = make_sets(read_parts(config, 96), pretrained)
    scores = [fit(config, pretrained, sets, seed=s).outcome.state.heldout for s in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0]["loss"] != scores[2]["loss"]


def test_scores_do_not_depend_on_batches_or_order(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "tag")
    config = toy_config(encoder, "tag", train, dev, train={"budget": "10 steps"})
    pretrained = load(encoder)
    sets = make_sets(read_parts(config, 96), pretrained)
    model = fit(config, pretrained, sets, seed=0).model
    assert sets.dev is not None
    device = torch.device("cpu")
    found_ = [read_answers(model, sets.dev, device, FP32, tokens=t) for t in (1, 64, 4096)]
    told = [list(collector.predictions()) for collector, _ in found_]
    assert told[0] == told[1] == told[2]
    assert found_[0][1] == pytest.approx(found_[2][1], rel=1e-5)


def test_predictions_tell_how_far_they_are_and_broken_off_leave_what_was_there(
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train, dev = files(tmp_path, "classify")
    finetune(toy_config(encoder, "classify", train, dev), tmp_path / "run", quiet=True)
    predictor, out = selfsup.Predictor(tmp_path / "run", batch_tokens=16), tmp_path / "out.jsonl"
    monkeypatch.setattr(progress, "COUNTED_EVERY", 0.0)
    capsys.readouterr()
    predict_file(predictor, str(dev), out, {}, overwrite=False)
    evaluate_file(predictor, str(dev), {})
    assert capsys.readouterr() == ("", "")
    whole = out.read_bytes()
    count = len(whole.splitlines())
    predict_file(predictor, str(dev), out, {}, overwrite=True, quiet=False)
    assert capsys.readouterr().err.endswith(f"read: {count} of {count} examples\n")
    evaluate_file(predictor, str(dev), {}, quiet=False)
    assert capsys.readouterr().err.endswith(f"read: {count} of {count} examples\n")
    told = ClassCollector.predictions

    def broken(collector: ClassCollector) -> Iterator[dict[str, Any]]:
        yield next(told(collector))
        assert list(tmp_path.glob(".out.jsonl.*"))  # rows are written as they are told
        raise OSError("the disk is gone")

    monkeypatch.setattr(ClassCollector, "predictions", broken)
    with pytest.raises(UserError, match="the disk is gone"):
        predict_file(predictor, str(dev), out, {}, overwrite=True)
    assert out.read_bytes() == whole
    assert not list(tmp_path.glob(".out.jsonl.*"))


def test_stopped_and_resumed_equals_uninterrupted(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.training.loop import Loop

    train, dev = files(tmp_path, "classify")
    config = toy_config(
        encoder, "classify", train, dev, head={"dropout": 0.2}, train={"save_every": "20 steps"}
    )
    whole = finetune(config, tmp_path / "whole", quiet=True)
    step = Loop.step

    def stopping(self: Loop) -> tuple[float, int]:
        if self.state.step == 27:
            raise Interrupted("pulled the plug")
        return step(self)

    monkeypatch.setattr(Loop, "step", stopping)
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "halves", quiet=True)
    monkeypatch.undo()
    assert found(tmp_path / "halves" / "checkpoints")[-1].name.endswith("20")
    halves = finetune(config, tmp_path / "halves", quiet=True)
    timed = {"minutes", "model"}
    assert {k: v for k, v in halves.items() if k not in timed} == {
        k: v for k, v in whole.items() if k not in timed
    }
    one, two = (load_weights(tmp_path / x / "model") for x in ("whole", "halves"))
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_a_model_that_is_gone_is_delivered_again_where_the_run_lies_now(
    encoder: Path, tmp_path: Path
) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, train={"budget": "12 steps"})
    first = finetune(config, tmp_path / "run", quiet=True)
    kept = load_weights(tmp_path / "run" / "model")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    told = finetune(config, moved, quiet=True)
    assert told == first | {"model": str(moved / "model")}
    shutil.rmtree(moved / "model")
    assert finetune(config, moved, quiet=True) == told
    new = load_weights(moved / "model")
    assert all(torch.equal(kept[n], new[n]) for n in kept)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_best_weights_are_kept_and_delivered(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, lr=0.2, train={"budget": "24 steps"})
    result = finetune(config, tmp_path / "run", quiet=True)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = {x["step"]: x["accuracy"] for x in lines if x["split"] == "heldout" and x["step"]}
    assert result["dev"]["accuracy"] == max(seen.values()) == seen[result["chosen_step"]]
    again = evaluate_file(selfsup.Predictor(tmp_path / "run", precision="fp32"), str(dev), {})
    assert again["loss"] == pytest.approx(result["dev"]["loss"], rel=1e-4)


def test_lora_trains_few_and_delivers_a_plain_model(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, lora={"rank": 4})
    result = finetune(config, tmp_path / "run", quiet=True)
    assert result["trained_parameters"] < result["parameters"] / 2
    assert result["dev"]["accuracy"] > 0.8
    names = set(load_weights(tmp_path / "run" / "model"))
    assert not [n for n in names if "lora" in n or n.endswith((".up", ".down"))]
    again = evaluate_file(selfsup.Predictor(tmp_path / "run", precision="fp32"), str(dev), {})
    assert again["loss"] == pytest.approx(result["dev"]["loss"], rel=1e-3)


def test_frozen_leaves_the_encoder_alone(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, frozen=True)
    finetune(config, tmp_path / "run", quiet=True)
    before, after = load_weights(encoder), load_weights(tmp_path / "run" / "model")
    body = [n for n in after if "encoder.layer" in n]
    assert body
    assert all(torch.equal(before[n], after[n]) for n in body)


def test_scratch_starts_elsewhere_and_from_the_seed(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    from selfsup.uses.finetuning import start_model

    pretrained = load(encoder)
    config = toy_config(encoder, "classify", train, dev, scratch=True)
    info = read_parts(config, 96).info
    one, same, other = (start_model(config, pretrained, info, s) for s in (0, 0, 1))
    weight = "encoder.blocks.0.attention.qkv.weight"
    values = [dict(m.named_parameters())[weight] for m in (one, same, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    kept = dict(pretrained.encoder.named_parameters())[weight.removeprefix("encoder.")]
    assert not torch.equal(values[0], kept)


def test_without_a_dev_file_a_tenth_is_held_out(encoder: Path, tmp_path: Path) -> None:
    train, _ = files(tmp_path, "classify")
    parts = read_parts(toy_config(encoder, "classify", train), 96)
    assert len(parts.train) + len(parts.dev) == 60
    counts = [sum(e.label == x for e in parts.dev) for x in ("good", "bad")]
    whole = [sum(e.label == x for e in (*parts.train, *parts.dev)) for x in ("good", "bad")]
    for held, all_ in zip(counts, whole, strict=True):
        assert abs(held - all_ / 3) <= 1  # about 20 of 60, of each class alike
    assert not {e.where for e in parts.train} & {e.where for e in parts.dev}
    assert any("held out" in line for line in parts.notes.lines)


def test_class_weights(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    parts = read_parts(toy_config(encoder, "classify", train, dev, class_weights="balanced"), 96)
    counts = [sum(e.label == x for e in parts.train) for x in parts.info.labels]
    assert parts.weights is not None
    assert (parts.weights * counts).tolist() == pytest.approx([30.0, 30.0])


def test_bad_input(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\nthe film is fine\tgood\nit was\tneither\n")
    one = tmp_path / "one.tsv"
    one.write_text("text\tlabel\nfine\tgood\nwarm\tgood\nbright\tgood\n")

    def refused(data: Path, dev: Path | None = None, task: str = "classify", **more: Any) -> str:
        config = toy_config(encoder, task, data, dev, **more)
        with pytest.raises(UserError) as error:
            finetune(config, tmp_path / "refused", quiet=True)
        return str(error.value)

    text = refused(train, other)
    assert "'neither'" in text
    assert "other.tsv:3" in text
    assert "only the class 'good'" in refused(one, one)
    assert "no such file" in refused(tmp_path / "trian.tsv")
    assert "train.tsv" in refused(tmp_path / "trian.tsv")
    assert "metric" in refused(train, dev, metric="acuracy")
    junk = tmp_path / "junk.tsv"
    lines = [f"the film is fine\t{i / 7 if i % 50 else 'n/a'}" for i in range(1, 101)]
    junk.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    text = refused(junk, task="regress")
    assert "2 of 100 rows (2 %)" in text
    assert "skip" in text
    assert not (tmp_path / "refused").exists()
    flat = tmp_path / "flat.tsv"
    flat.write_text("text\tlabel\nfine\t2\nwarm\t2\ncold\t2\nugly\t2\n")
    assert "every label is 2" in refused(flat, task="regress")


def test_labels_that_were_not_learned_may_be_left_out(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    other = tmp_path / "other.tsv"
    other.write_text(dev.read_text() + "the film is fine\tneither\t0\n")
    config = toy_config(
        encoder, "classify", train, other, data={"on_bad_row": "skip"}, train={"budget": "2 steps"}
    )
    result = finetune(config, tmp_path / "run", quiet=True)
    said = f"1 row of {other} left out, with labels that were not learned; first: {other}:62"
    few = "60 dev examples: accuracies on them are known to ±13 points"
    unknown = "of the tokens are unknown to the model and say nothing to it"
    assert result["notes"] == [said, few, f"30% {unknown}"]
    predictor = selfsup.Predictor(tmp_path / "run", precision="fp32")
    with pytest.raises(UserError, match="'neither' is no label of this model; it knows 'bad', 'go"):
        evaluate_file(predictor, str(other), {})
    again = evaluate_file(predictor, str(other), {"on_bad_row": "skip"})
    assert again["notes"] == [said, f"29% {unknown}"]
    assert again["accuracy"] == pytest.approx(result["dev"]["accuracy"])
    other.write_text("text\tlabel\nit was\tneither\n")
    with pytest.raises(UserError, match="no row has a label that was learned"):
        evaluate_file(predictor, str(other), {"on_bad_row": "skip"})


def test_tags_that_were_not_learned_may_be_left_out(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "tag")
    dev.write_text(dev.read_text().rstrip("\n") + "\n\nthe\tSTRANGE\n\n")
    data = {"data": {"on_bad_row": "skip"}}
    result = finetune(
        toy_config(encoder, "tag", train, dev, train={"budget": "2 steps"}, **data),
        tmp_path / "run",
        quiet=True,
    )
    assert "1 row of" in result["notes"][0]
    assert "not learned" in result["notes"][0]


def test_whole_numbers_are_one_label_however_they_are_written(tmp_path: Path) -> None:
    from selfsup.tasks.labelled import read_texts

    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 1.0}\n')
    assert [e.label for e in read_texts(file)] == ["1", "1"]


def test_answers_never_replace_what_they_answer(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, train={"budget": "2 steps"})
    config = config.model_copy(update={"max_length": 10})
    finetune(config, tmp_path / "run", quiet=True)
    predictor = selfsup.Predictor(tmp_path / "run")
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"text": "it was"}\n' + json.dumps({"text": "the film " * 40}) + "\n")
    before = asked.read_bytes()
    with pytest.raises(UserError, match="is the file that is read; name another"):
        predict_file(predictor, str(asked), asked, {}, overwrite=True)
    (tmp_path / "link.jsonl").symlink_to(asked)
    with pytest.raises(UserError, match="is the file that is read"):
        predict_file(predictor, str(asked), tmp_path / "link.jsonl", {}, overwrite=True)
    assert asked.read_bytes() == before
    for name in ("a.csv", "a.jsonl.gz"):
        with pytest.raises(UserError, match=r"must end in \.jsonl or \.ndjson"):
            predict_file(predictor, str(asked), tmp_path / name, {}, overwrite=False)
    said = predict_file(predictor, str(asked), tmp_path / "out.jsonl", {}, overwrite=False)
    assert said["notes"] == ["1 text is longer than 10 tokens: cut"]


def test_a_run_for_the_wrong_verb(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, train={"budget": "2 steps"})
    finetune(config, tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="without a masked-token head"):
        selfsup.fill(load(tmp_path / "run"), ["the [MASK] is fine"])
    with pytest.raises(UserError, match="not fine-tuned"):
        selfsup.Predictor(encoder)
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\nfine\tgood\nwarm\tneither\n")
    with pytest.raises(UserError, match="is no label of this model"):
        evaluate_file(selfsup.Predictor(tmp_path / "run"), str(other), {})
    with pytest.raises(UserError, match="reads a text"):
        selfsup.Predictor(tmp_path / "run")([{"question": "a", "passage": "b"}])
    with pytest.raises(UserError, match="another lr"):
        finetune(config.model_copy(update={"lr": 0.5}), tmp_path / "run", quiet=True)


# --- what a review found


def test_entities_that_only_some_looks_find(encoder: Path, tmp_path: Path) -> None:
    """Kinds that were never guessed at the last look were missing from the best look's scores."""
    words = {"fine": "B-PER", "warm": "B-LOC", "the": "O", "film": "O"}
    lines = [f"{w}\t{t}" for _ in range(20) for w, t in [*words.items(), ("", "")]]
    (tmp_path / "train.conll").write_text("\n".join(x if x.strip() else "" for x in lines))
    kept = [x for x in lines if "LOC" not in x]
    (tmp_path / "dev.conll").write_text("\n".join(x if x.strip() else "" for x in kept))
    config = toy_config(
        encoder,
        "tag",
        tmp_path / "train.conll",
        tmp_path / "dev.conll",
        train={"budget": "40 steps", "evaluate_every": 0.05},
    )
    result = finetune(config, tmp_path / "run", quiet=True)
    assert result["chosen_by"] == "f1"
    assert "PER/f1" in result["dev"]


def test_large_numbers_survive_half_precision(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "regress")
    for path in (train, dev):
        lines = path.read_text().splitlines()
        rows = [x.rsplit("\t", 1) for x in lines[1:]]
        years = [f"{a}\t{2005 + float(b) / 100 + i / 100}" for i, (a, b) in enumerate(rows)]
        path.write_text("\n".join([lines[0], *years]) + "\n")
    config = toy_config(encoder, "regress", train, dev, data={"label_column": "number"})
    finetune(config, tmp_path / "run", quiet=True)
    exact, half = (
        evaluate_file(selfsup.Predictor(tmp_path / "run", precision=p), str(dev), {})
        for p in ("fp32", "bf16")
    )
    assert half["mae"] == pytest.approx(exact["mae"], abs=0.2)


def test_parts_are_held_out_fairly(encoder: Path, tmp_path: Path) -> None:
    from selfsup.tasks.labelled import TextExample
    from selfsup.tasks.reading import hold_out
    from selfsup.tasks.squad import read_squad

    small = [TextExample(f"t{i}", None, f"c{i % 100}", "") for i in range(900)]
    train, dev = hold_out(small, 0)
    assert len(dev) == 90
    assert {e.label for e in train} == {e.label for e in small}
    lone = [*small[:300], TextExample("x", None, "only", "")]
    train, dev = hold_out(lone, 0)
    assert "only" in {e.label for e in train}
    path = write_tags(tmp_path / "tags.conll")
    with open(path, "a") as handle:
        handle.writelines(f"fine\tRARE{i}\n\n" for i in range(12))
    parts = read_parts(toy_config(encoder, "tag", path), 96)
    assert sum(label.startswith("RARE") for label in parts.info.labels) == 12
    content = json.loads(write_questions(tmp_path / "q.json", 20).read_text())
    for paragraph in content["data"][0]["paragraphs"]:
        asked = paragraph["qas"][0]
        paragraph["qas"] = [{**asked, "id": f"{asked['id']}-{i}"} for i in range(5)]
    (tmp_path / "q.json").write_text(json.dumps(content))
    train, dev = hold_out(read_squad(tmp_path / "q.json")[0], 0)
    assert dev
    assert not {q.passage for q in train} & {q.passage for q in dev}


def test_a_finished_run_of_other_data_is_refused_and_a_moved_one_is_not(
    encoder: Path, tmp_path: Path
) -> None:
    train, dev = files(tmp_path, "classify")
    short = {"budget": "4 steps"}
    first = finetune(toy_config(encoder, "classify", train, dev, train=short), tmp_path / "r")
    moved = train.rename(tmp_path / "moved.tsv")
    again = finetune(toy_config(encoder, "classify", moved, dev, train=short), tmp_path / "r")
    assert again == first
    write_texts(moved, seed=9)
    with pytest.raises(UserError, match="other labelled data"):
        finetune(toy_config(encoder, "classify", moved, dev, train=short), tmp_path / "r")


@pytest.mark.parametrize("task", ["classify", "tag", "span"])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_lengths_that_leave_no_room(encoder: Path, tmp_path: Path, task: str, length: int) -> None:
    train, dev = files(tmp_path, task)
    config = toy_config(encoder, task, train, dev, max_length=length)
    with pytest.raises(UserError, match="leave no room"):
        finetune(config, tmp_path / "run", quiet=True)


def test_windows_that_leave_no_room(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "span")
    config = toy_config(encoder, "span", train, dev, max_length=24)
    with pytest.raises(UserError, match=r"--span\.max_question"):
        finetune(config, tmp_path / "run", quiet=True)


def test_settings_that_would_be_ignored_are_refused(encoder: Path, tmp_path: Path) -> None:
    train, _ = files(tmp_path, "classify")
    for more in (
        {"epochs": 2.0},  # beside the budget of the toy settings
        {"frozen": True, "lora": {"rank": 2}},
        {"scratch": True, "lora": {"rank": 2}},
        {"data": {"format": "conllu"}},
    ):
        with pytest.raises(ValueError, match=r"budget|exclude|format"):
            toy_config(encoder, "classify", train, **more)


def test_rates() -> None:
    from selfsup.finetune_config import FinetuneConfig, with_budget

    def rate(**more: Any) -> float:
        config = FinetuneConfig.model_validate(more)
        return float(with_budget(config, 1000, 384).optimizer.lr)

    assert rate() == pytest.approx(1.2e-4)
    assert rate(frozen=True) == 1e-2
    assert rate(lora={"rank": 4}) == pytest.approx(1.2e-3)
    assert rate(lr=5e-5) == 5e-5
    assert rate(train={"optimizer": {"kind": "adamw", "lr": 3e-5}}) == 3e-5
    assert rate(lr=2e-3, train={"optimizer": {"kind": "muon"}}) == 2e-3
    assert FinetuneConfig.model_validate({"train": {"batch_size": 16}}).train.schedule.warmup == 0.1


def test_whole_numbers_of_pairs_by_their_metric(encoder: Path, tmp_path: Path) -> None:
    rows = "\n".join(f"the film\tthe song\t{i % 6}" for i in range(60))
    (tmp_path / "t.tsv").write_text(f"a\tb\tlabel\n{rows}\n")
    data = {"text_column": "a", "pair_column": "b"}
    config = toy_config(encoder, "pairs", tmp_path / "t.tsv", data=data)
    assert read_parts(config, 96).info.answer == "class"
    chosen = config.model_copy(update={"metric": "pearson"})
    assert read_parts(chosen, 96).info.answer == "number"


def test_merging_leaves_the_generator_alone(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev, lora={"rank": 2})
    torch.manual_seed(7)
    before = torch.get_rng_state()
    finetune(config, tmp_path / "run", quiet=True)
    assert torch.equal(before, torch.get_rng_state())


def test_words_that_training_never_meets_keep_their_vectors(encoder: Path, tmp_path: Path) -> None:
    train, dev = files(tmp_path, "classify")
    config = toy_config(encoder, "classify", train, dev)
    pretrained = load(encoder)
    sets = make_sets(read_parts(config, pretrained.max_length), pretrained)
    met = np.unique(np.concatenate(sets.train.objective.ids))
    before = pretrained.encoder.embeddings.tokens.weight.detach().clone()
    assert 1 < len(met) < len(before)
    fitted = fit(config, pretrained, sets, seed=0)
    after = fitted.model.encoder.embeddings.tokens.weight.detach()
    moved = (after != before).any(1).numpy()
    assert moved[met].all()
    assert moved.sum() == len(met)
    kept = fitted.loop.optimizers[0].state.values()
    assert (len(met), before.shape[1]) in {tuple(s["exp_avg"].shape) for s in kept}
    assert len(before) not in {len(s["exp_avg"]) for s in kept}


def test_how_little_a_small_dev_says(encoder: Path, tmp_path: Path) -> None:
    rows = [f"{'good' if i % 2 else 'bad'} word {i}\t{i % 2}" for i in range(60)]
    train = tmp_path / "train.tsv"
    train.write_text("\n".join(["text\tlabel", *rows]) + "\n")
    notes = read_parts(toy_config(encoder, "classify", train), 64).notes.lines
    assert "20 dev examples: accuracies on them are known to ±22 points" in notes
