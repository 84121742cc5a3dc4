"""Which code a step runs: a part of every cache key, so that editing a source reruns it."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterable

from estimator_lib.core import files
from estimator_lib.core.errors import ConfigError, Reason, quote

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("estimator_lib", "transforms", "components")


def code_version(function: str | None, search: Iterable[pathlib.Path]) -> str:
    """Returns a digest of the libraries' sources and of the user's own model, if any.

    Args:
        function: `module:function` of the configuration, or None.
        search: Directories that the module is looked for in, before the installed ones.

    Raises:
        ConfigError: the module is nowhere to be found.
    """
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    digest = files.fingerprint(sources, ROOT)
    if function is None:
        return digest[:16]
    module = function.partition(":")[0]
    own = _find(module, search)
    return f"{digest[:16]}-{files.fingerprint([own], own.parent)[:16]}"


def _find(module: str, search: Iterable[pathlib.Path]) -> pathlib.Path:
    places = list(search)
    for place in places:
        stem = place.joinpath(*module.split("."))
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise ConfigError(
            f"estimator.function: module {quote(module)} was not found in "
            f"{', '.join(str(p) for p in places)} nor among the installed packages.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return pathlib.Path(found.origin)
