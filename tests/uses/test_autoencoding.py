"""Auto-encoders from file to use: they learn, resume exactly, and refuse what does not fit."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from selfsup import autoencoder_recipes
from selfsup.autoencoder_config import AutoEncoderConfig, CorruptionConfig, ObservationConfig
from selfsup.cli.app import main
from selfsup.data.arrays import read_array
from selfsup.data.columns import as_columns
from selfsup.data.images import channels_first
from selfsup.data.keys import Key
from selfsup.data.observations import read_observations
from selfsup.data.sampler import Examples
from selfsup.errors import UserError
from selfsup.models.autoencoder import build
from selfsup.models.autoencoder_hub import load_autoencoder
from selfsup.objectives.corruption import corrupt
from selfsup.training.metrics import read_metrics
from selfsup.uses import codes
from selfsup.uses.autoencoding import code_indices, code_use, make_loop, prepare, train_autoencoder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    found = load_digits()
    np.savez(path, images=(found.images[:400] * 15.9).astype(np.uint8), label=found.target[:400])
    return path


def tiny(path: Path, recipe: str = "autoencoder", **changes: Any) -> AutoEncoderConfig:
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value["data"] |= {"path": str(path), "key": "images" if path.suffix == ".npz" else ""}
    value["train"] |= {
        "budget": "12 steps",
        "batch_size": 32,
        "save_every": "4 steps",
        "log_every": 1,
        "evaluate_every": 0.5,
        "device": "cpu",
    }
    for key, change in changes.items():
        value[key] = value[key] | change
    return AutoEncoderConfig.model_validate(value)


@pytest.mark.parametrize("recipe", list(autoencoder_recipes.AUTOENCODERS))
def test_a_recipe_learns_saves_and_resumes_exactly(
    recipe: str, digits: Path, tmp_path: Path
) -> None:
    config = tiny(digits, recipe)
    first = train_autoencoder(config, tmp_path / "run", quiet=True)
    assert first["heldout"]["squared_error"] < first["untrained"]["squared_error"]
    (tmp_path / "run" / "result.json").unlink()
    last = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    for file in last.iterdir():
        file.unlink()
    last.rmdir()  # as if it had been killed before the last checkpoint
    again = train_autoencoder(config, tmp_path / "run", quiet=True)
    assert again["heldout"] == first["heldout"]
    fresh = train_autoencoder(config, tmp_path / "fresh", quiet=True)
    assert fresh["heldout"] == first["heldout"]
    steps = [x["step"] for x in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert max(steps) == 12
    one, two = (load_autoencoder(tmp_path / name) for name in ("run", "fresh"))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_use_of_codes_is_counted_over_the_whole_held_out_part(
    digits: Path, tmp_path: Path
) -> None:
    config = tiny(digits, "fsq-autoencoder")
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"evaluate_rows": 2})}
    )
    result = train_autoencoder(config, tmp_path / "run", quiet=True)
    prepared = prepare(config)
    assert len(prepared.heldout) > 2
    model = load_autoencoder(tmp_path / "run")
    whole = code_use(model, code_indices(model, prepared.objective.read(prepared.heldout)))
    assert {name: result["heldout"][name] for name in whole} == whole
    assert result["untrained"]["usage"] < whole["usage"]  # two examples use fewer codes


def test_training_changes_every_part_and_leaves_the_generator_alone(digits: Path) -> None:
    state = torch.random.get_rng_state()
    prepared = prepare(tiny(digits, "vae"))
    before = {n: p.detach().clone() for n, p in prepared.model.named_parameters()}
    make_loop(prepared, None, True).run()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(not torch.equal(p, before[n]) for n, p in prepared.model.named_parameters())


@pytest.mark.parametrize("recipe", ["autoencoder", "vae"])
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_a_decoder_starts_from_the_mean_training_example(
    recipe: str, kind: str, digits: Path
) -> None:
    changes = {"network": {"kind": kind}, "objective": {"likelihood": "gaussian"}}
    prepared = prepare(tiny(digits, recipe, **changes))
    model, x = prepared.model.eval(), prepared.objective.read(prepared.train)
    with torch.no_grad():
        model.decoder.last_bias.zero_()
        before = codes.reconstruct(model, x)
        model.start_from(torch.from_numpy(x))
        after = codes.reconstruct(model, x)
    mean = x.mean(0) if kind == "dense" else x.mean((0, 2, 3), keepdims=True)[0]
    np.testing.assert_allclose(after - before, np.broadcast_to(mean, after.shape), atol=1e-5)
    assert model.likelihood.log_scale is not None
    width = float(np.sqrt(np.square(x - mean).mean()))
    assert model.likelihood.log_scale.exp().tolist() == pytest.approx([width], rel=1e-4)


def test_what_stands_for_the_mean_of_a_table_is_the_mean(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["a,b,word", *(f"{a:.3f},{'' if a > 1 else round(2 * a, 3)},{'xxy'[i % 3]}"
                           for i, a in enumerate(random.normal(size=90)))]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    prepared = prepare(tiny(tmp_path / "t.csv", "vae", bottleneck={"size": 1}))
    likelihood, x = prepared.model.likelihood, prepared.objective.read(prepared.train)
    mean = likelihood.mean_of(torch.from_numpy(x))
    known = x[x[:, 2] == 0, 1]  # the third column marks gaps of the second
    assert 0 < len(known) < len(x)
    np.testing.assert_allclose(mean[:2], [x[:, 0].mean(), known.mean()], atol=1e-5)
    np.testing.assert_allclose(mean[2:], x[:, 2:].mean(0), atol=1e-5)
    likelihood.widen(torch.from_numpy(x), mean)
    assert likelihood.log_scale is not None
    expected = [float(x[:, 0].std()), float(known.std())]
    assert likelihood.log_scale.exp().tolist() == pytest.approx(expected, rel=1e-4)
    back = likelihood.mean(likelihood.outputs(mean)[None])[0]
    np.testing.assert_allclose(back, mean, atol=0.006)  # no probability is 0
    assert (np.ptp(x, axis=0) >= 1).sum() == 5  # two numbers, a mark of gaps, two words
    constant = torch.zeros(4, x.shape[1])
    likelihood.widen(constant, constant[0])
    assert likelihood.log_scale.exp().tolist() == pytest.approx([0.1, 0.1], rel=1e-4)
    assert likelihood.outputs(constant[0]).isfinite().all()


def test_the_start_helps(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss() -> float:
        prepared = prepare(tiny(digits, network={"kind": "dense"}, train={"budget": "25 steps"}))
        loop = make_loop(prepared, None, True)
        loop.run()
        return float(loop.state.heldout["loss"])

    ours = loss()
    monkeypatch.setattr("selfsup.models.autoencoder.AutoEncoder.start_from", lambda *_: None)
    assert ours < 0.97 * loss()


def test_the_loss_is_the_bound_for_each_value(digits: Path) -> None:
    prepared = prepare(tiny(digits, "vae"))
    model, objective = prepared.model.eval(), prepared.objective
    examples = Examples(np.arange(5), np.zeros(5, np.int64))
    batch = objective.batch(examples, Key(3))
    score = objective.loss(model, batch)
    output, code = model(batch.clean, batch.noise)
    p, x = torch.sigmoid(output), batch.clean
    nats = -(x * p.log() + (1 - x) * (1 - p).log()).sum()
    kl = code.stats["kl"].sum()
    assert float(score.loss_sum.detach()) == pytest.approx(
        float((nats + kl).detach()) / 64, rel=1e-4
    )
    assert float(score.metrics["negative_bound"].total) == pytest.approx(
        float((nats + kl).detach()), rel=1e-4
    )
    assert math.isclose(float(score.count), 5)


@pytest.mark.parametrize(
    ("recipe", "bottleneck"),
    [
        ("one-hot-autoencoder", {"groups": 2, "classes": 3, "style": 0}),
        ("binary-autoencoder", {"size": 4}),
    ],
)
def test_the_bound_of_a_discrete_code_is_above_the_sum_over_all_codes(
    recipe: str, bottleneck: dict[str, Any], tmp_path: Path
) -> None:
    black_and_white = (load_digits().images[:60] > 7).astype(np.uint8) * 255
    np.save(tmp_path / "x.npy", black_and_white)
    changes = {"bottleneck": bottleneck, "objective": {"likelihood": "bernoulli"}}
    prepared = prepare(tiny(tmp_path / "x.npy", recipe, **changes))
    model, objective = prepared.model.eval(), prepared.objective
    kinds = itertools.product(*map(range, model.bottleneck.sizes))
    z = model.lookup(torch.tensor(list(kinds)))
    with torch.no_grad():
        shown = model.decoder(z)
        for row in range(20):
            batch = objective.batch(Examples(np.array([row]), np.array([0])), Key(3))
            nats = model.likelihood(shown, batch.clean.expand(len(z), *batch.clean.shape[1:]))
            exact = math.log(len(z)) - float(torch.logsumexp(-nats.double(), 0))
            metrics = objective.loss(model, batch).metrics
            assert float(metrics["negative_bound"].total) >= exact
            assert float(metrics["kl"].total) == pytest.approx(math.log(len(z)), rel=1e-6)


@pytest.mark.parametrize("recipe", ["fsq-autoencoder", "vq-autoencoder", "autoencoder"])
def test_codes_without_a_prior_have_no_bound(recipe: str, digits: Path) -> None:
    prepared = prepare(tiny(digits, recipe, objective={"likelihood": "bernoulli"}))
    batch = prepared.objective.batch(Examples(np.arange(5), np.zeros(5, np.int64)), Key(3))
    metrics = prepared.objective.loss(prepared.model.eval(), batch).metrics
    assert not {"kl", "negative_bound"} & set(metrics)


def test_numbers_that_float32_cannot_hold_are_refused_in_training(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    rows[4, 1] = 1e40
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(UserError, match=r"column '1', row 5: 1e\+40 is too large"):
        prepare(tiny(tmp_path / "rows.npy"))
    images = np.random.default_rng(0).random((20, 8, 8))
    images[6, 1, 2] = 1e40
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(UserError, match="image 7 holds values that are no finite numbers"):
        prepare(tiny(tmp_path / "images.npy"))


@pytest.mark.parametrize(
    "corruption",
    ["gaussian", "salt-and-pepper", "masking", "patches", "affine"],
)
def test_corruption_is_a_function_of_example_and_key(corruption: str) -> None:
    config: CorruptionConfig = AutoEncoderConfig.model_validate(
        {"corruption": {"kind": corruption}}
    ).corruption
    x = np.random.default_rng(0).random((6, 1, 8, 9), np.float32)
    kept = x.copy()
    rows, epochs = np.arange(6), np.zeros(6, np.int64)
    whole = corrupt(config, x, Examples(rows, epochs), Key(1))
    np.testing.assert_array_equal(x, kept)
    assert not np.array_equal(whole, x)
    last = corrupt(config, x[4:], Examples(rows[4:], epochs[4:]), Key(1))
    np.testing.assert_allclose(last, whole[4:], atol=1e-6)
    later = corrupt(config, x, Examples(rows, epochs + 1), Key(1))
    assert not np.array_equal(later, whole)


def test_a_table_with_words_and_gaps_trains_and_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["a,b,c"]
    for i in range(120):
        a = rng.normal()
        gap = "" if i % 9 == 0 else f"{2 * a + 1:.4f}"
        lines.append(f"{a:.4f},{gap},{'low' if a < 0 else 'high'}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    config = tiny(tmp_path / "t.csv", train={"budget": "150 steps"}, bottleneck={"size": 2})
    result = train_autoencoder(config, tmp_path / "run", quiet=True)
    assert result["beats_training_mean"]
    assert main(["encode", str(tmp_path / "run"), "--data", str(tmp_path / "t.csv"),
                 "-o", str(tmp_path / "z.npy"), "--json"]) == 0  # fmt: skip
    assert main(["decode", str(tmp_path / "run"), str(tmp_path / "z.npy"),
                 "-o", str(tmp_path / "back.csv"), "--json"]) == 0  # fmt: skip
    back = (tmp_path / "back.csv").read_text().splitlines()
    assert back[0] == "a,b,c"
    assert len(back) == 121


def test_the_verbs_from_end_to_end(
    tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = str(tmp_path / "run"), ["--data", str(digits), "--key", "images"]
    train = ["pretrain", "vae", "--data", str(digits), "--data.key", "images", "--code-size", "4",
             "--steps", "5", "--train.batch_size", "16", "--out", run, "--json"]  # fmt: skip
    assert main(train) == 0
    assert json.loads(capsys.readouterr().out)["code_numbers"] == 4
    for verb in ("reconstruct", "interpolate", "traverse"):
        picture = tmp_path / f"{verb}.png"
        assert main([verb, run, *data, "-o", str(picture), "--json"]) == 0
        assert picture.read_bytes()[1:4] == b"PNG"
    assert main(["sample", run, "-o", str(tmp_path / "s.png"), "--count", "9", "--json"]) == 0
    mixture = ["--prior", "mixture", *data, "-o", str(tmp_path / "m.png"), "--json"]
    assert main(["sample", run, *mixture]) == 0
    hot = str(tmp_path / "hot")
    train[1], train[-2] = "one-hot-autoencoder", hot
    assert main(train) == 0
    capsys.readouterr()
    found = ["cluster", hot, *data, "--labels", "label", "-o", str(tmp_path / "c.csv"), "--json"]
    assert main(found) == 0
    assert 0 < json.loads(capsys.readouterr().out)["matched_accuracy"] <= 1
    assert main(["interpolate", hot, *data, "-o", str(tmp_path / "i.png")]) == 2
    assert "discrete codes have nothing between them" in capsys.readouterr().err


def test_as_many_images_as_asked_for(
    tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    run = str(tmp_path / "run")
    train_autoencoder(tiny(digits, "vae"), run, quiet=True)
    picture = tmp_path / "s.png"
    for count in (1, 7, 11):
        assert main(["sample", run, "-o", str(picture), "--count", str(count), "--overwrite",
                     "--json"]) == 0  # fmt: skip
        assert json.loads(capsys.readouterr().out)["images"] == count
        pixels = np.asarray(image.open(picture))
        side = 8 * 7 + 2  # each is enlarged sevenfold, with a gap of 2
        tiles = pixels[2:, 2:].reshape(len(pixels) // side, side, -1, side, 3)
        drawn = (tiles.swapaxes(1, 2) != 255).any((2, 3, 4))
        assert drawn.sum() == count
    data = ["--data", str(digits), "--key", "images", "-o", str(picture), "--overwrite", "--json"]
    for line, said in [
        (
            ["reconstruct", run, "--count", "500"],
            "500 images were asked for, the data are enough for 400",
        ),
        (["interpolate", run, "--pairs", "201", "--steps", "2"], "the data are enough for 200"),
        (
            ["traverse", run, "--dimensions", "99"],
            "99 rows were asked for, the code's numbers are enough for 32",
        ),
    ]:
        assert main([*line, *data]) == 0
        assert said in capsys.readouterr().err


def test_temperature_is_the_spread_of_draws(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(tiny(digits, "vae")).model
    monkeypatch.setattr(codes, "decode", lambda model, z: z)
    wide, half, none = (codes.sample(model, 50, temperature=t, seed=3) for t in (1, 0.5, 0))
    np.testing.assert_allclose(half, wide / 2, rtol=1e-6)
    assert not none.any()
    random = np.random.default_rng(0)
    middles = np.array([-9, 9])[random.integers(0, 2, 400), None].astype(np.float32)
    known = middles + random.normal(size=(400, 32)).astype(np.float32)
    more = {"prior": "mixture", "codes": known, "components": 2}
    wide, half = (codes.sample(model, 200, temperature=t, **more) for t in (1, 0.5))
    middle = 9 * np.sign(wide[:, :1])
    assert (np.sign(half[:, :1]) * 9 == middle).all()
    assert (half - middle).std() == pytest.approx((wide - middle).std() / 2, rel=0.05)
    for bad in ({"temperature": -0.5}, {"seed": 2**32}, {"count": 0}):
        with pytest.raises(UserError, match=f"--{next(iter(bad))}: must be "):
            codes.sample(model, **({"count": 2} | bad))


def test_fractions_are_no_bytes(digits: Path, tmp_path: Path) -> None:
    """A model of bytes refuses images from 0 to 1, and takes dark ones."""
    model = prepare(tiny(digits)).model
    given = np.load(digits)["images"][:9]

    def taken(images: Any) -> Any:
        np.save(tmp_path / "new.npy", images)
        config = ObservationConfig(path=str(tmp_path / "new.npy"))
        return codes.inputs(model, read_observations(config))

    for wrong, said in (
        ((given / 255).astype(np.float32), "0 to 0.996078, the model takes 0 to 255; multiply"),
        (given / 127.5 - 1, "the model takes 0 to 255; bring them to that range"),
        (given > 100, "0 to 1, the model takes 0 to 255; multiply them by 255"),
    ):
        with pytest.raises(UserError, match=f"new.npy: values from .*{said}"):
            taken(wrong)
    for dark in (
        given * 0,
        given > 300,
        given.astype(np.float64),
        given // 200,
        np.minimum(given, 2.5),
    ):
        right = dark.astype(np.uint8) if dark.dtype == bool else dark
        np.testing.assert_allclose(taken(right)[:, 0], right / 255, atol=1e-6)
    fractions = np.load(digits)["images"] / 255
    np.save(tmp_path / "fractions.npy", fractions)
    other = prepare(tiny(tmp_path / "fractions.npy")).model
    for bright, right in ((given, False), ((given > 100).astype(np.uint8), True)):
        np.save(tmp_path / "new.npy", bright)
        found = read_observations(ObservationConfig(path=str(tmp_path / "new.npy")))
        if right:
            np.testing.assert_array_equal(codes.inputs(other, found)[:, 0], bright)
        else:
            with pytest.raises(UserError, match="the model takes 0 to 1"):
                codes.inputs(other, found)


@pytest.mark.parametrize(
    ("data", "flag", "value", "said"),
    [
        ("t.npy", "size", "8", "is about a folder of pictures"),
        ("t.csv", "color", "grey", "is about a folder of pictures"),
        ("t.npy", "key", "x", "is about an .npz file"),
        ("pictures", "key", "x", "is about an .npz file"),
        ("t.npy", "ignore", "a", "is about a table with a header"),
        ("pictures", "ignore", "a", "is about a table with a header"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    data: str, flag: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    np.save(tmp_path / "t.npy", np.zeros((5, 8, 8), np.uint8))
    (tmp_path / "pictures").mkdir()
    path = str(tmp_path / data)
    line = ["detect", "fit", "--data", path, "--out", str(tmp_path / "run"), f"--{flag}", value]
    assert main(line) == 2
    assert f"selfsup: --{flag}: {said}, which '{path}' is not" in capsys.readouterr().err
    setting = f"[{value}]" if flag == "ignore" else value
    train = ["pretrain", "autoencoder", "--data", path, f"--data.{flag}", setting]
    assert main([*train, "--out", str(tmp_path / "run")]) == 2
    assert f"selfsup: --data.{flag}: {said}" in capsys.readouterr().err


def test_codes_that_are_none(digits: Path, tmp_path: Path) -> None:
    model = prepare(tiny(digits)).model
    good = np.zeros((2, *model.code_shape), np.float32)
    for bad, said in (
        (good[:0], "there are no codes"),
        (good + np.nan, "codes are finite numbers"),
    ):
        with pytest.raises(UserError, match=f"{said}.*give what `selfsup encode` wrote"):
            codes.decode(model, bad)
    with pytest.raises(UserError, match="codes are finite numbers"):
        codes.decode(model, good.astype(str))
    (tmp_path / "codes.txt").write_text("1 2\n")
    with pytest.raises(UserError, match=r"this is no array; known: .npy, .npz, IDX"):
        read_array(tmp_path / "codes.txt")
    with pytest.raises(UserError, match="give more than one example as --data"):
        codes.sample(model, 2, prior="mixture", codes=good[:1])


def test_codes_of_arrays_in_memory(digits: Path) -> None:
    model = prepare(tiny(digits)).model
    images = np.load(digits)["images"][:5]
    x = codes.inputs(model, images)
    np.testing.assert_array_equal(x, codes.inputs(model, images[:, None]))
    np.testing.assert_array_equal(x, codes.inputs(model, images[..., None]))
    z = codes.encode(model, x)
    for same in (x.astype(np.float64), x[::-1][::-1], x.tolist()):
        np.testing.assert_allclose(codes.encode(model, same), z, atol=1e-6)
    x.flags.writeable = False
    np.testing.assert_array_equal(codes.encode(model, x), z)
    for bad, said in (
        (x[:0], "there are no examples"),
        (x * np.nan, "examples are finite numbers"),
        (images, "examples of shape .* `inputs` makes them"),
    ):
        with pytest.raises(UserError, match=said):
            codes.encode(model, bad)
    with pytest.raises(UserError, match=r"0 to 255; multiply them by 255"):
        codes.inputs(model, images / 255)
    with pytest.raises(UserError, match="codes are finite numbers of shape"):
        codes.sample(model, 2, prior="mixture", codes=z[:, :3])


def test_counts_of_pictures_are_refused_in_one_line(digits: Path) -> None:
    model = prepare(tiny(digits)).model
    x = codes.inputs(model, np.load(digits)["images"][:4])
    for count in ({"dimensions": -1}, {"dimensions": 2.5}, {"steps": 0}):
        with pytest.raises(UserError, match=f"^{next(iter(count))}: must be"):
            codes.traverse(model, x, **count)
    for steps in (0, 1, 2.5):
        with pytest.raises(UserError, match=r"^steps: must be"):
            codes.interpolate(model, x, steps)
    with pytest.raises(UserError, match="interpolation needs two examples"):
        codes.interpolate(model, x[:1], 3)


def test_traversals_look_at_the_whole_of_a_sorted_file(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL.Image")
    run, seen = str(tmp_path / "run"), []
    train_autoencoder(tiny(digits, "vae"), run, quiet=True)
    known = codes.traverse
    monkeypatch.setattr(codes, "traverse", lambda m, x, **how: seen.append(x) or known(m, x, **how))
    images = np.repeat(np.arange(0, 250, 10, dtype=np.uint8), 100)[:, None, None]
    np.save(tmp_path / "sorted.npy", np.broadcast_to(images, (2500, 8, 8)))
    data = ["--data", str(tmp_path / "sorted.npy"), "-o", str(tmp_path / "t.png")]
    assert main(["traverse", run, *data]) == 0
    assert len(seen[0]) == 2000
    assert len(np.unique(seen[0][:, 0, 0, 0])) == 25


def test_decoded_images_keep_to_the_range_of_training(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    changes = {"objective": {"likelihood": "squared"}}
    train_autoencoder(tiny(digits, "one-hot-autoencoder", **changes), run, quiet=True)
    weights = tmp_path / "run" / "model" / "model.safetensors"
    tensors = load_file(weights)
    layers = [name for name in tensors if name.startswith("decoder.body") and "weight" in name]
    last = max(layers, key=lambda name: int(name.split(".")[2]))
    save_file({**tensors, last: 30 * tensors[last]}, weights)  # a decoder that overshoots
    data = ["--data", str(digits), "--key", "images", "-o", str(tmp_path / "c.npy")]
    assert main(["encode", run, *data]) == 0
    assert "style" not in capsys.readouterr().err
    code = np.load(tmp_path / "c.npy")
    np.save(tmp_path / "far.npy", 50 * code)
    assert main(["decode", run, str(tmp_path / "far.npy"), "-o", str(tmp_path / "b.npy")]) == 0
    back = np.load(tmp_path / "b.npy")
    assert (back.min(), back.max()) == (0, 255)
    assert main(["encode", run, *data, "--indices", "--overwrite"]) == 0
    assert "the style is not in the indices" in capsys.readouterr().err


def test_a_constant_column_is_decoded_as_it_was(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["a,const", *(f"{a:.3f},7" for a in random.normal(size=60))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    run = str(tmp_path / "run")
    train_autoencoder(tiny(tmp_path / "t.csv", bottleneck={"size": 1}), run, quiet=True)
    data = ["--data", str(tmp_path / "t.csv")]
    assert main(["encode", run, *data, "-o", str(tmp_path / "z.npy"), "--json"]) == 0
    back = tmp_path / "back.csv"
    assert main(["decode", run, str(tmp_path / "z.npy"), "-o", str(back), "--json"]) == 0
    assert {line.split(",")[1] for line in back.read_text().splitlines()[1:]} == {"7.0"}


def test_matched_accuracy_knows_its_controls() -> None:
    labels = ["a", "b", "c"] * 20
    truth = np.array([0, 1, 2] * 20)
    assert codes.matched_accuracy((truth + 1) % 3, labels) == 1
    assert codes.matched_accuracy(np.zeros(60, np.int64), labels) == pytest.approx(1 / 3)
    assert codes.matched_accuracy(np.arange(60), labels) == pytest.approx(3 / 60)
    scores = codes.compare_classes(truth, labels)
    assert scores["normalized_mutual_information"] == pytest.approx(1)
    assert scores["adjusted_rand_index"] == 1


def test_idx_files_are_read_and_broken_ones_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    whole = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + values.tobytes()
    path = tmp_path / "x-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(whole))
    np.testing.assert_array_equal(read_array(path), values)
    path.write_bytes(gzip.compress(whole[:-1]))
    with pytest.raises(UserError, match="should hold 2 x 3 x 4 values"):
        read_array(path)
    np.save(tmp_path / "o.npy", np.array([{}], object))
    np.savez(tmp_path / "o.npz", np.array([{}], object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(UserError, match="it holds Python objects"):
            read_array(tmp_path / name)
    for name in ("g.npy", "g.npz"):
        (tmp_path / name).write_bytes(b"garbage")
        with pytest.raises(UserError, match=f"not a whole .{name[2:]} file"):
            read_array(tmp_path / name)


def test_arrays_that_cannot_be_understood_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "two.npy", random.random((6, 28, 28, 2)))
    np.save(tmp_path / "complex.npy", random.random((9, 3)) + 1j)
    for name, said in (
        ("two", "which of 28 x 28 x 2 are the channels cannot be told"),
        ("complex", "the array holds complex numbers"),
    ):
        data = ["--data", str(tmp_path / f"{name}.npy"), "--out", str(tmp_path / "out")]
        for verb in (["pretrain", "autoencoder"], ["detect", "fit"]):
            assert main([*verb, *data]) == 2
            message = capsys.readouterr().err
            assert said in message
            assert message.count("\n") == 1
    for shape, channels in (((6, 2, 28, 28), 2), ((6, 28, 28, 4), 4), ((6, 4, 9, 2), 4)):
        assert channels_first(np.zeros(shape)).shape[1] == channels
    with pytest.raises(UserError, match="column 'a' holds complex numbers"):
        as_columns({"a": np.array([1j])})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere.npy"], "no such file"),
        ([], "no data"),
        (["--data", "{digits}"], "it holds 2 arrays (images, label)"),
        (["--data", "{digits}", "--data.key", "image"], "did you mean 'images'?"),
        (["--data", "{digits}", "--column", "x"], "is about texts"),
        (["--data", "{digits}", "--data.key", "images", "--code-size", "0"], "at least 1"),
        (["--bottleneck.sise", "3"], "did you mean 'size'?"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, digits: Path, tmp_path: Path, capsys: Any
) -> None:
    given = [word.format(digits=digits) for word in words]
    assert main(["pretrain", "autoencoder", *given, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_of_another_size_are_refused(digits: Path) -> None:
    model = prepare(tiny(digits)).model
    with pytest.raises(UserError, match="images of 9 x 8 with 1 channel, the model takes 8 x 8"):
        model.spec.transform(np.zeros((2, 8, 9), np.uint8), "new.npy")


def test_pictures_of_many_sizes_are_scaled_in_training_and_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for kind in ("dark", "light"):
        (folder / kind).mkdir(parents=True)
        for i in range(12):
            low = 0 if kind == "dark" else 150
            pixels = random.integers(low, low + 100, (10 + i % 3, 14, 3)).astype(np.uint8)
            image.fromarray(pixels).save(folder / kind / f"{i}.png")
    run, scale = str(tmp_path / "run"), ["--size", "8", "--color", "grey"]
    train = ["pretrain", "one-hot-autoencoder", "--data", str(folder), "--steps", "4",
             "--train.batch_size", "8", "--out", run]  # fmt: skip
    assert main(train) == 2
    assert (
        "scaled to one size (`--size 64`, in training of an auto-encoder `--data.size 64`)"
        in capsys.readouterr().err
    )
    assert main([*train, "--data.size", "8", "--data.color", "grey"]) == 0
    said = capsys.readouterr().err
    assert "examples  held out" in said
    assert "tokens" not in said
    asked = [run, "--data", str(folder), "-o", str(tmp_path / "c.csv"), "--json"]
    assert main(["cluster", *asked, *scale, "--labels", "folder"]) == 0
    numbers = [line.split(",")[0] for line in (tmp_path / "c.csv").read_text().splitlines()]
    assert numbers == ["example", *map(str, range(1, 25))]
    assert json.loads(capsys.readouterr().out)["largest_class"] == 0.5
    assert main(["cluster", *asked, *scale]) == 2
    assert "exists already; --overwrite" in capsys.readouterr().err
    asked = [*asked, "--overwrite"]
    assert main(["cluster", *asked, "--size", "8"]) == 2
    assert "with 3 channels, the model takes 8 x 8 with 1 channel" in capsys.readouterr().err
    assert main(["cluster", *asked, "--size", "3"]) == 2
    (folder / "dark" / "broken.png").write_bytes(b"no picture")
    assert main(["cluster", *asked, *scale]) == 2
    assert "broken.png: cannot be read as a picture" in capsys.readouterr().err


def test_parquet_trains_and_columns_are_left_out_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "t.parquet"
    duckdb.sql(f"""copy (select sin(i) a, case when i % 7 = 0 then null else cos(i) end b,
                   case when i % 2 = 0 then 'even' else 'odd' end c, i as number
                   from range(90) t(i)) to '{path}' (format parquet)""")
    run = str(tmp_path / "run")
    train = ["pretrain", "autoencoder", "--data", str(path), "--data.ignore", "[number]", "--steps",
             "5", "--train.batch_size", "16", "--code-size", "2", "--out", run, "--json"]  # fmt: skip
    assert main(train) == 0
    asked = ["encode", run, "--data", str(path), "-o", str(tmp_path / "z.npy"), "--json"]
    assert main([*asked, "--ignore", "number"]) == 0
    assert np.load(tmp_path / "z.npy").shape == (90, 2)
    capsys.readouterr()
    assert main([*asked, "--overwrite", "--ignore", "numbr"]) == 2
    assert "did you mean 'number'?" in capsys.readouterr().err


def test_load_opens_an_auto_encoder(digits: Path, tmp_path: Path) -> None:
    import selfsup

    selfsup.pretrain(tiny(digits), tmp_path / "run", quiet=True)
    assert isinstance(selfsup.load(tmp_path / "run"), selfsup.AutoEncoder)


@pytest.mark.parametrize("recipe", ["vae", "one-hot-autoencoder", "vq-autoencoder"])
@pytest.mark.parametrize("default", ["float64", "meta"])
def test_torchs_defaults_change_no_model(
    recipe: str, default: str, digits: Path, tmp_path: Path
) -> None:
    train_autoencoder(tiny(digits, recipe), tmp_path / "run", quiet=True)
    model = load_autoencoder(tmp_path / "run")
    x = codes.inputs(model, read_array(digits, "images")[:3])
    wanted, fresh = codes.reconstruct(model, x), build(model.config, model.spec, 5).state_dict()
    torch.set_default_device("meta" if default == "meta" else None)
    torch.set_default_dtype(torch.float64 if default == "float64" else torch.float32)
    try:
        found = codes.reconstruct(load_autoencoder(tmp_path / "run"), x)
        again = build(model.config, model.spec, 5).state_dict()
        assert torch.get_default_dtype() == getattr(torch, default, torch.float32)
        assert torch.get_default_device().type == ("meta" if default == "meta" else "cpu")
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, wanted)
    for name, tensor in fresh.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_likelihood_by_importance_sampling_meets_the_integral(digits: Path) -> None:
    """Against a sum over a fine grid of codes, for a code of one number."""
    prepared = prepare(tiny(digits, "vae", bottleneck={"size": 1}, train={"budget": "60 steps"}))
    make_loop(prepared, None, True).run()
    model = prepared.model.eval()
    x = prepared.objective.read(prepared.heldout[:4])
    grid = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        decoded = model.decoder(grid)
        truth = []
        for example in x:
            target = torch.from_numpy(example)[None].expand(len(grid), *x.shape[1:])
            nats = model.likelihood(decoded, target).double()
            prior = -0.5 * grid[:, 0].double() ** 2 - 0.5 * math.log(2 * math.pi)
            truth.append(float(torch.logsumexp(prior - nats, 0) + math.log(16 / 4000)))
    many = codes.log_likelihood(model, x, draws=4000)
    np.testing.assert_allclose(many, truth, atol=0.1)
    one = np.mean([codes.log_likelihood(model, x, draws=1, seed=s) for s in range(60)], 0)
    assert (one < np.array(truth)).all()  # the evidence bound is a bound
    np.testing.assert_array_equal(codes.log_likelihood(model, x[:2], draws=40),
                                  codes.log_likelihood(model, x, draws=40)[:2])  # fmt: skip
    with pytest.raises(UserError, match="likelihoods need a VAE"):
        codes.log_likelihood(prepare(tiny(digits)).model, x)


def test_a_finished_run_does_not_answer_for_other_data(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", random.random((60, 4)))
    first, second = (tiny(tmp_path / f"{name}.npy") for name in ("a", "b"))
    done = train_autoencoder(first, tmp_path / "run", quiet=True)
    moved = (tmp_path / "a.npy").rename(tmp_path / "moved.npy")
    assert train_autoencoder(tiny(moved), tmp_path / "run", quiet=True) == done
    with pytest.raises(UserError, match="a run on other data lies here"):
        train_autoencoder(second, tmp_path / "run", quiet=True)


def test_sixteen_bits_are_scaled_and_thirty_two_refused(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra media is not installed")
    from selfsup.data.images import read_pictures

    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    image.fromarray(ramp).save(tmp_path / "a.png")
    read = read_pictures([tmp_path / "a.png"])
    assert np.array_equal(read[0, 0], ramp // 257)
    image.fromarray(ramp.astype(np.float32)).save(tmp_path / "b.tiff")
    with pytest.raises(UserError, match="32 bits a pixel"):
        read_pictures([tmp_path / "b.tiff"])


def test_sorted_files_are_held_out_and_looked_at_evenly(tmp_path: Path) -> None:
    """Rows sorted by class: the first of the held-out ones, which are scored, are of all of them."""
    kinds = np.repeat(np.arange(10), 100)
    table = np.stack([kinds, np.random.default_rng(0).random(1000)], 1)
    np.save(tmp_path / "a.npy", table)
    prepared = prepare(tiny(tmp_path / "a.npy"))
    assert len(set(kinds[prepared.heldout[:60]])) >= 8
    assert len(set(kinds[prepared.train[:60]])) >= 8


def test_the_floor_of_a_table_leaves_gaps_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = np.where(random.random((400, 2)) < 0.5, np.nan, random.normal(7, 1, (400, 2)))
    np.save(tmp_path / "a.npy", values)
    config = tiny(tmp_path / "a.npy")
    data = config.data.model_copy(update={"scaling": "none"})
    prepared = prepare(config.model_copy(update={"data": data}))
    assert prepared.baseline == pytest.approx(1, abs=0.5)  # a gap as 0 would be 49 away


def test_no_scaling_is_none(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 60).reshape(30, 2)
    np.save(tmp_path / "a.npy", values)
    config = tiny(tmp_path / "a.npy")
    data = config.data.model_copy(update={"scaling": "none"})
    prepared = prepare(config.model_copy(update={"data": data}))
    assert np.allclose(prepared.model.spec.transform(values), values)


def test_held_out_images_lie_in_the_range_of_the_run(tmp_path: Path) -> None:
    for seed in range(4):  # the bright one is held out in one run or another
        images = np.random.default_rng(seed).normal(size=(40, 8, 8))
        images[seed] *= 30
        np.save(tmp_path / f"{seed}.npy", images)
        prepared = prepare(tiny(tmp_path / f"{seed}.npy"))
        read = prepared.objective.read(np.arange(40))
        assert read.min() >= 0
        assert read.max() <= 1


def test_residual_codebooks_do_not_compare_directions() -> None:
    value = autoencoder_recipes.get("residual-vq").model_dump()
    value["bottleneck"]["normalize"] = True
    with pytest.raises(ValueError, match="residual-vq needs normalize false"):
        AutoEncoderConfig.model_validate(value)


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("reconstruct --data X --count 0", "--count"),
        ("sample --count 0", "--count"),
        ("sample --seed -1", "--seed"),
        ("sample --seed 99999999999999999999999", "--seed"),
        ("sample --temperature -1", "--temperature"),
        ("interpolate --data X --pairs 0", "--pairs"),
        ("interpolate --data X --steps 1", "--steps"),
        ("traverse --data X --dimensions 0", "--dimensions"),
    ],
)
def test_numbers_of_the_verbs_have_a_range(
    line: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened: neither the model nor the data is there."""
    verb, *rest = line.split()
    assert main([verb, str(tmp_path / "run"), *rest, "-o", str(tmp_path / "a.png")]) == 2
    err = capsys.readouterr().err
    assert f"{flag}: must be " in err
    assert len(err.splitlines()) == 1


def test_the_picture_beside_classes_is_not_replaced(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.png").write_text("mine")
    line = ["cluster", str(tmp_path), "--data", str(digits), "-o", str(tmp_path / "classes.csv")]
    assert main(line) == 2
    assert "classes.png: exists already" in capsys.readouterr().err


def test_an_empty_file_is_no_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.npz").write_bytes(b"")
    line = ["detect", "fit", "--data", str(tmp_path / "e.npz"), "--out", str(tmp_path / "det")]
    assert main(line) == 2
    assert "not a whole .npz file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "suffix"),
    [
        ("encode", ".npy"),
        ("reconstruct", ".png"),
        ("sample", ".png"),
        ("interpolate", ".png"),
        ("traverse", ".png"),
        ("cluster", ".csv"),
    ],
)
def test_nothing_is_replaced_unasked(
    verb: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"kept{suffix}"
    file.write_text("mine")
    assert main([verb, str(tmp_path / "run"), "--data", "X", "-o", str(file)]) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_indices_that_are_none_are_told_apart(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_autoencoder(tiny(digits, "fsq-autoencoder"), tmp_path / "run", quiet=True)
    model = load_autoencoder(tmp_path / "run")
    found = code_indices(model, np.zeros((3, *model.input_shape), np.float32))
    bad = found.copy()
    bad.reshape(3, -1)[1, 0] = 10_000
    whole, fractions = tmp_path / "bad.npy", tmp_path / "fractions.npy"
    np.save(whole, bad)
    np.save(fractions, found.astype(np.float32))
    for file, said in (
        (whole, "the index 10000 of example 2 lies outside 0 to 999"),
        (fractions, "if they are indices, give them as whole numbers"),
    ):
        assert (
            main(["decode", str(tmp_path / "run"), str(file), "-o", str(tmp_path / "o.npy")]) == 2
        )
        told = capsys.readouterr().err
        assert f"{file}: " in told
        assert said in told


def test_columns_of_nearly_as_many_words_as_rows_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"n{i},{i % 7},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("name,size,kind\n" + "\n".join(lines) + "\n")
    train_autoencoder(tiny(tmp_path / "t.csv"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "column 'name' has 5" in said
    assert "--data.ignore '[name]' leaves it out" in said
    assert "'kind'" not in said
