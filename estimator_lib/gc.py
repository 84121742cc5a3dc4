"""Which versions below a directory to keep: filters over paths, as tf.estimator had them.

Layer 3. A filter takes a list of `Path` and returns, sorted, those that it keeps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from estimator_lib.tensorflow_internals import gfile


class Path(NamedTuple):
    """A path and the number of the version that it holds, None if it holds none."""

    path: str
    export_version: int | None


Filter = Callable[[list[Path]], list[Path]]


def largest_export_versions(n: int) -> Filter:
    """Returns the filter that keeps the `n` largest versions."""

    def keep(paths: list[Path]) -> list[Path]:
        return sorted(_numbered(paths), key=lambda path: path.export_version or 0)[-n:]

    return keep


def one_of_every_n_export_versions(n: int) -> Filter:
    """Returns the filter that keeps the largest version of each interval of `n`.

    The intervals are [0, n], (n, 2n], (2n, 3n] and so on.
    """

    def keep(paths: list[Path]) -> list[Path]:
        largest: dict[int, Path] = {}
        for path in sorted(_numbered(paths), key=lambda path: path.export_version or 0):
            largest[max(0, math.ceil((path.export_version or 0) / n) - 1)] = path
        return sorted(largest.values())

    return keep


def mod_export_version(n: int) -> Filter:
    """Returns the filter that keeps versions divisible by `n`."""

    def keep(paths: list[Path]) -> list[Path]:
        return sorted(path for path in _numbered(paths) if (path.export_version or 0) % n == 0)

    return keep


def union(one: Filter, other: Filter) -> Filter:
    """Returns the filter that keeps what either keeps."""

    def keep(paths: list[Path]) -> list[Path]:
        return sorted({*one(paths), *other(paths)})

    return keep


def negation(filter_: Filter) -> Filter:
    """Returns the filter that keeps what another does not."""

    def keep(paths: list[Path]) -> list[Path]:
        return sorted(set(paths) - set(filter_(paths)))

    return keep


def get_paths(base_dir: Any, parser: Callable[[Path], Path | None]) -> list[Path]:
    """Returns what `parser` makes of the entries of a directory, sorted, without None."""
    folder = os.fsdecode(base_dir)
    names = [os.fsdecode(name).rstrip("/") for name in gfile.ListDirectory(folder)]
    found = (parser(Path(os.path.join(folder, name), None)) for name in names)
    return sorted(path for path in found if path is not None)


def _numbered(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.export_version is not None]
