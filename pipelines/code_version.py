"""Which code a step runs: a part of every cache key, so that editing a source reruns it.

That is the sources of the libraries, the releases of what they are built on, and every module of
the user's that is imported, found by reading the sources and not by running them; with it go the
files that those sources name, such as a list of words beside them.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from estimator_lib.core import files, storage
from estimator_lib.core.errors import ConfigError, Reason, quote

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("estimator_lib", "transforms", "components")
BUILT_ON = (
    "tensorflow", "keras", "numpy", "pyarrow", "apache-beam", "tensorflow-transform", "tfx-bsl",
    "kfp", "pydantic",
)  # fmt: skip
"""Distributions whose releases change what steps compute."""
_LONGEST_NAME = 255


def code_version(functions: Iterable[str | None], search: Iterable[pathlib.Path]) -> str:
    """Returns a digest of the libraries and of the user's own code, if any.

    Args:
        functions: Each `module:function` or module of the configuration; None is left out.
        search: Directories that modules are looked for in, first one first.

    Raises:
        ConfigError: a module is nowhere to be found, cannot be parsed, or has the name of one
            of Python's own or an installed one.
    """
    sources = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.parent.name == "templates"
    ]
    releases = [f"python=={sys.version.split()[0]}", *map(_release, BUILT_ON)]
    ours = storage.canonical_json([files.fingerprint(sources, ROOT), releases])
    digest = hashlib.sha256(ours.encode()).hexdigest()[:16]
    modules = [function.partition(":")[0] for function in functions if function is not None]
    if not modules:
        return digest
    theirs = storage.canonical_json(sorted(_closure(modules, list(search)).items()))
    return f"{digest}-{hashlib.sha256(theirs.encode()).hexdigest()[:16]}"


def _release(distribution: str) -> str:
    try:
        return f"{distribution}=={importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{distribution} is not installed"


def _closure(modules: Sequence[str], search: Sequence[pathlib.Path]) -> dict[str, str]:
    """Returns what the modules are and import, with what identifies the content of each.

    Modules below `search` are read; of others that are installed the release counts.
    """
    importlib.invalidate_caches()
    own = [str(place.resolve()) for place in search]
    tops = {name.partition(".")[0] for name in modules}
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        top = name.partition(".")[0]
        spec = _find(name, own)
        if spec is not None:
            _refuse_two(top, own)
        elif top in tops:
            spec = _find_installed(name, own)
            if spec is None and name in modules:
                raise ConfigError(
                    f"Module {quote(name)} of the configuration was not found in "
                    f"{', '.join(own)} nor among the installed packages.",
                    reason=Reason.FILE_NOT_FOUND,
                )
        elif top not in sys.stdlib_module_names and _find_installed(top, own) is not None:
            found[name] = ", ".join(map(_release, sorted(_distributions().get(top, [top]))))
        if spec is None or spec.origin is None or not pathlib.Path(spec.origin).is_file():
            continue
        path = pathlib.Path(spec.origin)
        found[name] = storage.sha256_file(path)
        if path.suffix == ".py":
            tree = _parsed(path)
            waiting += _imports(tree, name, package=spec.submodule_search_locations is not None)
            found.update(_named_files(tree, [path.parent, *map(pathlib.Path, own)]))
    return found


@functools.lru_cache(maxsize=1)
def _distributions() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _find(name: str, places: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """Returns where a module is below directories, without running any code."""
    spec, inside = None, places
    for part in name.split("."):
        # By the last part: for a whole name the finder wants the parents imported.
        spec = importlib.machinery.PathFinder.find_spec(part, list(inside))
        if spec is None:
            return None
        inside = list(spec.submodule_search_locations or ())
    return spec


def _find_installed(name: str, own: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """Returns where a module is that is not below the user's directories."""
    places = [str(pathlib.Path(place or ".").resolve()) for place in sys.path]
    spec = _find(name, [place for place in places if place not in own])
    if spec is not None:
        return spec
    top, _, rest = name.partition(".")
    try:
        spec = importlib.util.find_spec(top)  # installed in some other way, such as editable
    except (ImportError, ValueError):
        return None
    if spec is None or not rest:
        return spec
    return _find(rest, list(spec.submodule_search_locations or ()))


def _refuse_two(top: str, own: Sequence[str]) -> None:
    """Refuses a name that stands for two modules: which one a step gets is chance."""
    here = _find(top, own)
    if here is None or here.origin is None:
        return
    if top in sys.stdlib_module_names:
        other = "one of Python's own"
    else:
        there = _find_installed(top, own)
        if there is None or there.origin is None:
            return
        if pathlib.Path(there.origin).resolve() == pathlib.Path(here.origin).resolve():
            return
        other = f"the installed {there.origin}"
    raise ConfigError(
        f"Module {quote(top)} is there twice: {here.origin}, which functions of the configuration "
        f"import, and {other}. Give yours another name.",
        reason=Reason.CONFLICT,
    )


def _parsed(path: pathlib.Path) -> ast.Module:
    """Returns a source.

    Raises:
        ConfigError: it is no Python.
    """
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"Module {path}{line} cannot be imported: {said}.") from error


def _named_files(tree: ast.Module, places: Sequence[pathlib.Path]) -> Iterator[tuple[str, str]]:
    """Yields the files that texts of a source name, from any of `places`, with their digests."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_NAME or "\0" in text:
            continue
        for place in places:
            with contextlib.suppress(OSError):
                if (place / text).is_file():
                    yield f"file {text}", storage.sha256_file(place / text)
                    break


def _imports(tree: ast.Module, name: str, *, package: bool) -> Iterator[str]:
    """Yields the modules that a source may import, anywhere in it; some may be no modules."""
    own = name if package else name.rpartition(".")[0]
    yield from _parents(name)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield from (alias.name, *_parents(alias.name))
            case ast.ImportFrom():
                base = node.module or ""
                if node.level:
                    above = name.split(".") if package else name.split(".")[:-1]
                    above = above[: len(above) - node.level + 1]
                    base = ".".join([*above, *filter(None, [node.module])])
                if base:
                    yield from (base, *_parents(base))
                    yield from (f"{base}.{alias.name}" for alias in node.names)
            case ast.Call(args=[ast.Constant(value=str(literal)), *_]):
                called = ast.unparse(node.func)
                if called.endswith(("import_module", "__import__")):
                    with contextlib.suppress(ImportError):
                        absolute = importlib.util.resolve_name(literal, own)
                        yield from (absolute, *_parents(absolute))


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")[:-1]
    return (".".join(parts[: number + 1]) for number in range(len(parts)))
