"""Zstandard files as streams: several frames, and a truncated one is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

ZSTD_BYTES = 1 << 13
"""Packed bytes that are unpacked at once: of zeros alone, they are 256 MB."""


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Unpacked pieces of a zstd file of one or more frames.

    By hand, because `stream_reader` takes a truncated file for a complete one.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    unpacking = decompressor.decompressobj()
    begun = False
    while data := file.read(ZSTD_BYTES):
        while data:
            begun = True
            yield unpacking.decompress(data)
            data = b""
            if unpacking.eof:
                data = unpacking.unused_data
                unpacking = decompressor.decompressobj()
                begun = False
    if begun:
        raise EOFError("the last frame is not complete")


class ZstdFile(io.RawIOBase):
    """A zstd file as a readable stream, for `io.BufferedReader`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._chunks = _zstd_chunks(self._file)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, and their number; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Close the packed file too."""
        self._file.close()
        super().close()
