"""Columns of tables: numbers, words and gaps in whatever form they were given."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.errors import UserError, nearest

Columns = Mapping[str, NDArray[Any]]
"""A table: each column's values by its name."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that models compute with; what is larger is as good as infinite."""

_NO_NUMBERS = (np.datetime64, complex, np.complexfloating)
_NO_VALUE = ("NAType", "NaTType")
"""The types of what pandas has for a gap."""
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})

_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))? ?(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
"""A date, its time, and what may follow: seconds, a fraction of them, a zone."""


def as_columns(table: Any, where: str = "") -> dict[str, NDArray[Any]]:
    """A mapping, a data frame or a two-dimensional array as columns by name.

    Raises:
        UserError: another shape, columns of unequal length or of complex numbers, or no row.
    """
    if isinstance(table, Mapping):
        refuse_twins([str(name) for name in table], where)
        columns = {str(name): np.atleast_1d(values) for name, values in table.items()}
    elif hasattr(table, "columns"):
        refuse_twins([str(name) for name in table.columns], where)
        columns = {str(name): np.asarray(table[name]) for name in table.columns}
    else:
        array = np.asarray(table)
        if array.ndim != 2:
            raise UserError(f"a table has two dimensions, this has {array.ndim}", where=where)
        columns = {str(i): array[:, i] for i in range(array.shape[1])}
    for name, values in columns.items():
        refuse_complex(values, where, name)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise UserError("the columns have unequal lengths", where=where)
    if not columns or lengths == {0}:
        raise UserError("the table has no rows", where=where)
    return columns


def refuse_complex(values: NDArray[Any], where: str = "", name: str = "") -> None:
    """Refuse complex numbers, which have no order."""
    if values.dtype.kind == "c":
        what = f"{f'column {name!r}' if name else 'the array'} holds complex numbers"
        raise UserError(what, where=where, mend="give real and imaginary parts as columns")


def refuse_twins(names: list[str], where: str = "") -> None:
    """Refuse two columns of one name."""
    for name, times in Counter(names).items():
        if times > 1:
            what = f"column '{name}' occurs {times} times"
            raise UserError(what, where=where, mend="give each column a name of its own")


def as_numbers(raw: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column as numbers, gaps as NaN; None when some value is no number.

    Decimals may all stand behind a comma (`decimal_comma`).
    """
    if raw.dtype.kind in "fiub":
        return raw.astype(np.float64)
    if raw.dtype.kind in "Mc":
        return None
    if raw.dtype.kind == "m":  # spans of time, in seconds whatever their unit
        return np.asarray(raw / np.timedelta64(1, "s"), np.float64)
    found = numbers_or_gaps(raw)
    return _with_commas(raw) if found is None else found


def numbers_or_gaps(raw: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64] | None:
    """Values each of which is a number or a gap (NaN) by itself; None when one is neither."""
    plain = _plain_texts(raw)
    if plain is not None:
        return plain
    values = np.empty(len(raw))
    for i, value in enumerate(raw):
        if is_missing(value):
            values[i] = np.nan
            continue
        number = None if isinstance(value, _NO_NUMBERS) else _float(value)
        if number is None:
            return None
        values[i] = number
    return values


def _plain_texts(raw: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64] | None:
    """Texts that are numbers throughout, as most columns of files are: several times as fast; else None."""
    if not all(isinstance(value, str) and "_" not in value for value in raw):
        return None
    try:
        return np.fromiter(map(float, raw), np.float64, len(raw))
    except ValueError:
        return None


def settle_numbers(columns: dict[str, NDArray[Any]], names: Iterable[str]) -> None:
    """Turn columns that are numbers into float64 in place, once, so that their texts need not be kept.

    Args:
        columns: of a table.
        names: which of them may be numbers.
    """
    for name in names:
        raw = columns[name]
        if raw.dtype == object and not are_truths(raw) and (found := as_numbers(raw)) is not None:
            columns[name] = found


def _float(value: Any) -> float | None:
    """A number of a cell, also an infinite one; None when it is none.  A span of time is its seconds."""
    if isinstance(value, str) and "_" in value:
        return None  # float() takes 1_000
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "s"))
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return None


def too_large(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where numbers are infinite, or larger than `LARGEST`; NaN is not."""
    large: NDArray[np.bool_] = np.abs(values) > LARGEST
    return large


def fits(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where numbers are finite in float32."""
    small: NDArray[np.bool_] = np.abs(values) <= LARGEST  # nor is NaN
    return small


def refuse_large(values: NDArray[np.float64], name: str, where: str = "") -> None:
    """Refuse a column with a number that is `too_large`, by its first row."""
    for row in np.flatnonzero(too_large(values))[:1]:
        value = values[row]
        what = "the value is infinite" if np.isinf(value) else f"{value:g} is too large (float32)"
        mend = "mend it, or take such values as gaps (`detect`: --missing impute, `pretrain`: "
        mend += "--data.infinite missing)"
        raise UserError(f"column '{name}', row {row + 1}: {what}", where=where, mend=mend)


def refuse_gaps(gaps: NDArray[np.bool_], name: str, where: str = "") -> None:
    """Refuse a column with a gap, by its first row."""
    for row in np.flatnonzero(gaps)[:1]:
        what = f"column '{name}', row {row + 1}: the value is missing (NaN or empty)"
        mend = "fill it in, or let gaps be imputed (`detect`: --missing impute, `pretrain`: "
        raise UserError(what, where=where, mend=f"{mend}--data.missing impute)")


def _with_commas(raw: NDArray[Any]) -> NDArray[np.float64] | None:
    """Numbers with decimal commas, where a column is written so; else None."""
    present = [value for value in raw if not is_missing(value)]
    if not all(isinstance(value, str) for value in present) or not decimal_comma(present):
        return None
    numbers = [None if is_missing(value) else number_of(value, comma=True) for value in raw]
    if any(n is None and not is_missing(v) for n, v in zip(numbers, raw, strict=True)):
        return None
    return np.array([np.nan if number is None else number for number in numbers])


def has_comma(value: Any) -> bool:
    """Whether a value is digits, a comma and digits."""
    return isinstance(value, str) and _COMMA.fullmatch(value.strip()) is not None


def number_of(value: Any, *, comma: bool = False) -> float | None:
    """A finite number; None when it is none.

    Args:
        value: of a cell.
        comma: whether decimals may stand behind a comma.
    """
    if isinstance(value, bool):
        return None
    if comma and has_comma(value):
        value = value.replace(",", ".")
    number = _float(value)
    return number if number is not None and math.isfinite(number) else None


def decimal_comma(values: Sequence[Any]) -> str:
    """The first number with a decimal comma, in a column whose numbers are written so; else "".

    They are when no number has a point, and some comma cannot part thousands (`1,234` could).
    """
    commas = [value.strip() for value in values if has_comma(value)]
    if all(_THOUSANDS.fullmatch(text) for text in commas):
        return ""
    points = any(
        number_of(value) is not None and (isinstance(value, float) or "." in str(value))
        for value in values
    )
    return "" if points else commas[0]


def as_texts(raw: Sequence[Any] | NDArray[Any], *, truths: bool = False) -> list[str | None]:
    """A column as words, gaps as None.

    Args:
        raw: its values.
        truths: whether they are those of `are_truths`: then `true` and `false` have one spelling.
    """
    words: dict[str, str | None] = {}  # a column's words are few, and each is worked out once
    texts: list[str | None] = []
    for value in raw:
        if type(value) is not str:
            texts.append(None if is_missing(value) else _word(value))
            continue
        if value not in words:
            words[value] = None if is_missing(value) else _word(value)
        texts.append(words[value])
    if not truths:
        return texts
    return [text.lower() if text is not None and _is_truth(text) else text for text in texts]


def are_truths(values: Sequence[Any] | NDArray[Any]) -> bool:
    """Whether a column says true or false and nothing else, in any case: JSON and parquet give truth
    values, CSV files words.
    """
    present = (value for value in values if not is_missing(value))
    first = next(present, None)
    return first is not None and _is_truth(first) and all(map(_is_truth, present))


def _is_truth(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "false")


def truths_as_numbers(raw: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column of `are_truths` as 1 and 0, gaps as NaN; None when it is another."""
    if not are_truths(raw):
        return None
    numbers = {None: math.nan, "true": 1.0, "false": 0.0}
    return np.array([numbers[text] for text in as_texts(raw, truths=True)])


def _word(value: Any) -> str:
    """A value as a category's name; 3.0 and 3 are the same, and so are a moment's ways to be written."""
    if isinstance(value, (np.datetime64, date)):
        return _moment(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return _one_way(text) if isinstance(value, str) else text


def _moment(value: np.datetime64 | date) -> str:
    """A date, with its time where it has one: `2020-01-05`, `2020-01-05T13:30:00.5`."""
    if not isinstance(value, np.datetime64):
        return _one_way(value.isoformat())
    coarse = np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "D", "h", "m")
    return _one_way(str(value.astype("datetime64[s]") if coarse else value))


def _one_way(text: str) -> str:
    """A text that is a whole moment in the one way to write it, any other as it is.

    pandas, databases and JSON part date and time by a space or by `T`, and write a zone as `Z`, `+00`,
    `+0000` or `+00:00`: with a zone it is the moment in UTC, `2020-01-05T13:30:00+00:00`; midnight
    without a zone is the date.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        return text
    day, minute, second, fraction, zone = found.groups()
    if fraction and not second:
        return text
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}")
        if zone:
            moment -= _ahead(zone)
    except (ValueError, OverflowError):  # no such day or hour, or before the year 1
        return text
    written = moment.isoformat()
    if fraction := (fraction or "").rstrip("0"):
        written += f".{fraction}"
    return f"{written}+00:00" if zone else written.removesuffix("T00:00:00")


def _ahead(zone: str) -> timedelta:
    """How far a zone's clocks are ahead of UTC: `Z`, `UTC`, `+02`, `-0330`, `-03:30`."""
    if zone[0] not in "+-":
        return timedelta()
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:].removeprefix(":") or 0))
    return -ahead if zone[0] == "-" else ahead


def is_missing(value: Any) -> bool:
    """Whether a value stands for a gap: None, NaN, pandas' own, or a word such as `NA` or `?`."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    if isinstance(value, (float, np.floating, np.datetime64, np.timedelta64)):
        return bool(np.isnan(value))
    return type(value).__name__ in _NO_VALUE


def no_such_column(name: str, known: list[str], where: str) -> UserError:
    """The error for a column that is not there, with the nearest name."""
    shown = ", ".join(known[:8])
    return UserError(
        f"there is no column '{name}'", where=where, mend=nearest(name, known) or f"it has {shown}"
    )


def no_number(raw: NDArray[Any], name: str, where: str) -> UserError:
    """The error for a column of numbers that holds something else, with its first row.

    In a column that says true or false as well, which may have been learned as numbers, another value is
    at fault.
    """
    wrong = [(i, v) for i, v in enumerate(raw, 1) if not is_missing(v) and _float(v) is None]
    others = [(row, value) for row, value in wrong if not _is_truth(value)]
    for row, value in (others or wrong)[:1]:
        what = f"column '{name}', row {row}: '{value}' is no number, as it was in training"
        mend = "give a number, or leave it empty for a gap"
        return UserError(what, where=where, mend=mend)
    return UserError(f"column '{name}' holds no numbers", where=where)
