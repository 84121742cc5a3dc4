"""Imports that happen when a module is first used, so that `--help` answers at once.

    with defer_imports(__name__):
        from pipelines.cluster import client

binds `client` to a stand-in that imports the module when an attribute of it is asked for. (The
standard library's LazyLoader puts unloaded modules into `sys.modules`, where whoever looks at all
modules, such as `inspect`, loads them in the middle of another's import.)
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class _StandIn(types.ModuleType):
    """A module that is imported when it is used."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)


@contextlib.contextmanager
def defer_imports(importer: str) -> Iterator[None]:
    """Defers `from package import module` inside the block.

    Args:
        importer: Name of the module that has the block; other imports happen as ever.
    """
    at_once = builtins.__import__

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if globals is None or globals.get("__name__") != importer or not fromlist:
            return at_once(name, globals, locals, fromlist or (), level)
        return types.SimpleNamespace(**{one: _StandIn(f"{name}.{one}") for one in fromlist})

    builtins.__import__ = import_
    try:
        yield
    finally:
        builtins.__import__ = at_once
