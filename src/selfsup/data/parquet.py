"""Parquet files by DuckDB: one file, its own columns, a batch of rows at a time."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfsup.data.files import import_extra
from selfsup.errors import UserError

_BATCH = 1024
# DuckDB else takes columns from folders that are called `name=value`.
_TABLE = "FROM read_parquet($1, hive_partitioning=false)"


class Parquet:
    """A parquet file, open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # DuckDB takes a name for a pattern, and `~` for the home.
        self._pattern = glob.escape(str(path.absolute()))
        self._duckdb = import_extra("duckdb", "data", str(path))

    def __enter__(self) -> Parquet:
        try:
            self.path.open("rb").close()
        except OSError as error:
            what = error.strerror or str(error)
            raise UserError(what, where=str(self.path)) from error
        settings = {"autoinstall_known_extensions": "false"}
        self._connection = self._duckdb.connect(config=settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return [str(name) for name, *_ in self._answer(f"DESCRIBE SELECT * {_TABLE}")]

    def rows(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The values of some columns, row by row."""
        chosen = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        return self._answer(f"SELECT {chosen} {_TABLE}")

    def _answer(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            answer = self._connection.execute(query, [self._pattern])
            while batch := answer.fetchmany(_BATCH):
                yield from batch
        except self._duckdb.Error as error:
            why = str(error).splitlines()[0]
            for name in (self._pattern, str(self.path.absolute())):
                why = why.replace(name, self.path.name)
            what = f"cannot be read as parquet ({why})"
            raise UserError(what, where=str(self.path), mend="fetch or write it again") from error
