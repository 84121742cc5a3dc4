"""KFP's cache of finished steps, which believes only whole artifacts.

Whoever imports this imports kfp, which prints as it loads: `engine` does it where that is hidden.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

from kfp.local import cache

from estimator_lib.core import manifest, storage
from estimator_lib.core.errors import DataError, SecurityError, StorageError
from estimator_lib.export import retention
from pipelines.local.output import CACHE, Output


class VerifiedCache(cache.LocalCache):  # type: ignore[misc, unused-ignore]
    """A cache that knows steps by name, and gives out only what is whole.

    Args:
        output: Of the run; it keeps entries for runs elsewhere.
        taken: Called with the name of each step that is taken from it.

    Attributes:
        outputs: Of every step that was taken or has run, by its name.
    """

    def __init__(self, output: Output, taken: Callable[[str], None]) -> None:
        self._output = output
        self._root = str(output.folder / CACHE)
        super().__init__(self._root)
        self.outputs: dict[str, dict[str, Any]] = {}
        self._taken = taken
        self._names: dict[str, str] = {}

    def compute_key(self, component_name: str, *args: object, **kwargs: object) -> str:
        key: str = super().compute_key(component_name, *args, **kwargs)
        self._names[key] = component_name.removeprefix("comp-")
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        try:
            self._output.bring(f"{key}.json")
            found: dict[str, Any] | None = super().get(key)
            whole = found is not None and all(map(_is_whole, found.values()))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None  # what lies there is no entry of this cache
        if found is None or not whole:
            return None
        with storage.storage_errors("touch", self._root):
            os.utime(self._entry_path(key))  # used now, which `cleaning` looks at
        if not self._output.has(f"{key}.json"):
            self._output.keep(f"{key}.json", _paths(found))
        self.outputs[self._names[key]] = found
        self._taken(self._names[key])
        return found

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        self.outputs[self._names[key]] = outputs
        with storage.storage_errors("write", self._root):
            super().put(key, outputs)
        self._output.keep(f"{key}.json", _paths(outputs))


def _paths(outputs: dict[str, Any]) -> list[pathlib.Path]:
    """The files and directories of a step's outputs."""
    return [pathlib.Path(value.path) for value in outputs.values() if hasattr(value, "path")]


def _is_whole(value: object) -> bool:
    """Whether a cached output may be used again: every file is read once a run, about 1 GB/s."""
    path = getattr(value, "path", None)
    if path is None:
        return True
    published = getattr(value, "metadata", {}).get("published")
    if published and not retention.is_whole(published):
        return False
    if not os.path.isdir(path):
        return os.path.exists(path)
    try:
        manifest.verify(path, deep=True)
    except (DataError, SecurityError, StorageError):
        return False
    return True
