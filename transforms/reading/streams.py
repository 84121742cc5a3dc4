"""Streams of a file's bytes: with their digest, or a stretch of them."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO


class Digested(io.RawIOBase):
    """Reads a stream and keeps the SHA-256 and the number of bytes that went by."""

    def __init__(self, source: BinaryIO, *, wanted: bool) -> None:
        self._source = source
        self._hash = hashlib.sha256() if wanted else None
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        if self._hash is not None:
            self._hash.update(data)
        self.size += len(data)
        return len(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest() if self._hash is not None else ""

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class Stretch(io.RawIOBase):
    """Reads some bytes, and then a stretch of a stream that it closes at the end."""

    def __init__(self, header: bytes, source: BinaryIO, begin: int, end: int) -> None:
        self._header = io.BytesIO(header)
        self._source = source
        self._left = end - begin
        source.seek(begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._header.read(len(buffer))
        if not data:
            data = self._source.read(min(len(buffer), self._left))
            self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
