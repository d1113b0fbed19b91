"""Several batches at once: the same numbers in the same order, and torch's threads as they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from selfsup.config import TransformerConfig
from selfsup.data.batching import by_length
from selfsup.models.transformer import Transformer
from selfsup.nn.sequences import Sequences
from selfsup.nn.side_by_side import read_texts, side_by_side


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    was = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(was)


def encoder() -> Transformer:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    return Transformer(TransformerConfig(vocab_size=50, max_length=96, **shape)).eval()


def test_keeps_the_order_whoever_is_first() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0.0)
        return number * number

    assert list(side_by_side(slow_first, range(9), 3)) == [n * n for n in range(9)]
    assert list(side_by_side(slow_first, [], 3)) == []


def test_readers_share_torchs_threads_and_read_without_gradients() -> None:
    both = threading.Barrier(2, timeout=20)  # passed only by two readers at once

    def look(_: int) -> tuple[int, bool, str]:
        both.wait()
        name = threading.current_thread().name
        return torch.get_num_threads(), torch.is_inference_mode_enabled(), name

    found = list(side_by_side(look, range(4), 2))
    assert {(count, inference) for count, inference, _ in found} == {(2, True)}
    assert len({name for *_, name in found}) == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


@pytest.mark.parametrize(("items", "count"), [(1, 3), (5, 1)])
def test_a_single_item_or_reader_needs_no_other_thread(items: int, count: int) -> None:
    def look(_: int) -> tuple[int, bool]:
        assert threading.current_thread() is threading.main_thread()
        return torch.get_num_threads(), torch.is_inference_mode_enabled()

    assert list(side_by_side(look, range(items), count)) == [(4, True)] * items


def test_few_are_under_way_and_none_is_begun_behind_an_error() -> None:
    taken: list[int] = []
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def fails(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise ValueError("number 1")
        return number

    found = side_by_side(fails, items(), 2)
    assert next(found) == 0
    assert len(taken) == 4
    with pytest.raises(ValueError, match="number 1"):
        next(found)
    assert max(begun) <= 4


def test_a_reader_who_stops_early_leaves_nothing_behind() -> None:
    found = side_by_side(lambda n: n, range(50), 2)
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_texts_get_the_vectors_that_they_get_alone(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=50,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        max_length=96,
    )
    model = Transformer(config).eval()
    draws = np.random.default_rng(0)
    ids = [draws.integers(0, 50, n) for n in draws.integers(1, 97, 200)]

    def read(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
        batch = Sequences.from_lists([ids[i] for i in rows])
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return rows, model(batch, places=batch.starts[:-1]).float()

    vectors = torch.zeros(200, 32)
    batches = 0
    for rows, found in read_texts(read, [len(row) for row in ids], model, dtype, 4096):
        vectors[torch.from_numpy(rows)] = found
        batches += 1
    assert batches == 4
    with torch.inference_mode():
        alone = torch.cat([read(np.array([i]))[1] for i in range(200)])
    bound = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(vectors, alone, atol=bound, rtol=bound)


def test_compiled_layers_are_asked_by_one_thread() -> None:
    config = TransformerConfig(
        vocab_size=50,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        intermediate_size=32,
        max_length=32,
    )
    model = Transformer(config).eval()
    model.blocks[0]._compiled_call_impl = model.blocks[0]._call_impl  # as `compile` does

    def who(_: NDArray[np.int64]) -> str:
        return threading.current_thread().name

    found = set(read_texts(who, [32] * 500, model, torch.float32, 512))
    assert found == {threading.main_thread().name}


@pytest.mark.parametrize("readers", [1, 2, 3, 8])
@pytest.mark.parametrize("limit", [64, 512, 4096])
def test_batches_hold_every_text_once_and_at_most_the_limit(readers: int, limit: int) -> None:
    draws = np.random.default_rng(limit)
    for count in (0, 1, 7, 300, 2000):
        lengths = draws.integers(1, 65, count).tolist()
        batches = list(by_length(lengths, limit, readers))
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        sizes = [sum(lengths[i] for i in batch) for batch in batches]
        assert all(size <= limit or len(b) == 1 for size, b in zip(sizes, batches, strict=True))
        flat = [lengths[i] for batch in batches for i in batch]
        assert flat == sorted(flat, reverse=True)


def test_readers_have_equally_much_to_do() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 400).tolist()  # some 13,000 tokens
    plain = [sum(lengths[i] for i in batch) for batch in by_length(lengths, 4096)]
    shared = [sum(lengths[i] for i in batch) for batch in by_length(lengths, 4096, 2)]
    assert (len(plain), len(shared)) == (4, 4)
    assert min(plain) < 0.5 * max(plain)
    assert min(shared) > 0.97 * max(shared)
    assert len(list(by_length([100] * 19, 4096, 2))) == 1  # too little for two
    assert len(list(by_length([100] * 21, 4096, 2))) == 2


def test_readings_at_the_same_time_leave_the_threads_as_they_were() -> None:
    begun, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def first(number: int) -> int:
        begun.set()
        assert done.wait(20)
        return number

    def second() -> None:
        assert begun.wait(20)
        seen.extend(side_by_side(lambda n: torch.get_num_threads(), range(4), 2))
        done.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert list(side_by_side(first, range(4), 4)) == [0, 1, 2, 3]
    thread.join()
    assert seen == [2, 2, 2, 2]  # of the four that there are, not of the one that a reader has
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]
