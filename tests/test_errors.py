from __future__ import annotations

import pytest

from selfsup.errors import Interrupted, NonFiniteLoss, RunLocked, UserError, check_seed, nearest


@pytest.mark.parametrize(
    ("where", "mend", "text"),
    [
        ("", "", "no text"),
        ("a.txt:3", "", "a.txt:3: no text"),
        ("", "give some", "no text; give some"),
        ("a.txt:3", "give some", "a.txt:3: no text; give some"),
    ],
)
def test_a_message_is_place_fault_and_mend(where: str, mend: str, text: str) -> None:
    error = UserError("no text", where=where, mend=mend)
    assert str(error) == text
    assert (error.what, error.where, error.mend) == ("no text", where, mend)


def test_what_the_command_line_tells_apart() -> None:
    assert issubclass(NonFiniteLoss, UserError)
    assert issubclass(RunLocked, UserError)
    assert not issubclass(Interrupted, UserError)


def test_nearest() -> None:
    assert nearest("warmpup", ["decay", "warmup"]) == "did you mean 'warmup'?"
    assert nearest("zzz", ["decay", "warmup"]) == ""
    assert nearest("x", []) == ""


def test_a_seed_fits_every_generator() -> None:
    check_seed(0)
    check_seed(2**32 - 1)
    for seed, said in ((-1, "least 0"), (2**32, "most 4294967295"), (10**23, "most 4294967295")):
        with pytest.raises(UserError, match=f"--seed: must be at {said}, not "):
            check_seed(seed)
