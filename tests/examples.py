"""Serialized tf.Examples, and the TFRecord files that hold them."""

import struct
from collections.abc import Mapping
from typing import Any

import google_crc32c
import tensorflow as tf


def example(row: Mapping[str, Any]) -> bytes:
    """Returns a serialized Example: integers, floats and texts, or lists of one kind."""
    found = tf.train.Example()
    for name, value in row.items():
        feature = found.features.feature[name]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                feature.int64_list.value.append(one)
            elif isinstance(one, float):
                feature.float_list.value.append(one)
            else:
                feature.bytes_list.value.append(one.encode())
    serialized: bytes = found.SerializeToString()
    return serialized


def framed(data: bytes) -> bytes:
    """Returns a record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def checksum(data: bytes) -> bytes:
    """Returns the masked CRC-32C of TFRecord."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
