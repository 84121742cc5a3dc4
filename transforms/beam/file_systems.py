"""Raw data where only Beam reads: its own file systems, such as HDFS.

They make a client per call and write in ways that show half a file, so that all else goes through
`estimator_lib.core.stores`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from apache_beam.io import filesystem, filesystems

from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, StorageError
from estimator_lib.core.places import Place

_EXTRAS = {"hdfs": "hadoop"}
"""Scheme -> the extra of Beam that it needs."""


def open_file(place: Place) -> BinaryIO:
    """Opens a file's bytes as they are, still compressed if they are.

    Raises:
        ConfigError: its file system is not installed.
        OSError: it cannot be opened.
    """
    _require(place)
    opened = filesystems.FileSystems.open(
        place.given, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
    )
    return cast(BinaryIO, opened)


def matching(place: Place, patterns: Sequence[str]) -> list[str]:
    """Returns the URIs that match any of some patterns.

    Args:
        place: What was given for them.
        patterns: Of the same file system.

    Raises:
        ConfigError: it is not installed.
        StorageError: it cannot be listed.
    """
    _require(place)
    with _errors("list", patterns[0]):
        found = filesystems.FileSystems.match(list(patterns))
        return [metadata.path for result in found for metadata in result.metadata_list]


def _require(place: Place) -> None:
    try:
        filesystems.FileSystems.get_filesystem(place.given)
    except (ValueError, OSError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"URI {place} cannot be used: {why}. Install apache-beam[{_EXTRAS[place.scheme]}], or "
            "give Beam the options it asks for.",
            reason=Reason.UNSUPPORTED,
        ) from error


@contextlib.contextmanager
def _errors(action: str, uri: str) -> Iterator[None]:
    """Turns whatever a file system's own library raises into one StorageError."""
    try:
        yield
    except EstimatorLibError:
        raise
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
        raise StorageError(f"Cannot {action} {uri}: {type(error).__name__}: {text}.") from error
