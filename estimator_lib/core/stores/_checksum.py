"""The checksum that a store compares what it got with."""

from __future__ import annotations

import base64
import os

import google_crc32c


def of(data: bytes) -> str:
    """Returns the CRC32C of bytes, as stores write it: in base 64."""
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def of_file(source: int) -> str:
    """Returns the CRC32C of an open file."""
    checksum, at = google_crc32c.Checksum(), 0
    while data := os.pread(source, 8 << 20, at):
        checksum.update(data)
        at += len(data)
    return base64.b64encode(checksum.digest()).decode()
