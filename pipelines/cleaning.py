"""What runs leave behind, and which of it is no longer needed.

Served models, and what tells where they come from, are never looked at: `export.keep_versions`
says how many of those stay. What a living process holds stays, as does everything that a run
which stays took from the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason
from pipelines.local import output

RUNS, CACHE, CHECKPOINTS, ANALYSES = "artifacts", "cache", "checkpoints", "analysis"
STUDIES = os.path.join("studies", "searches")
"""Where a run keeps what, below its output directory or on a cluster's volume."""
_RUN = re.compile(r".+-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-\d{6})")
"""The name that kfp gives a run's directory: the pipeline's, and when it began."""
_ENTRY = re.compile(r"[0-9a-f]{64}\.json")
_ANALYSIS = re.compile(r"[0-9a-f]{64}\.arrow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What stays. What both bounds would delete is deleted, and never the newest of a kind.

    Attributes:
        keep: How many of each kind stay, the newest; None for any number.
        older_than_s: Seconds without use after which something may go; None for none.

    Raises:
        ConfigError: neither is given.
    """

    keep: int | None = None
    older_than_s: float | None = None

    def __post_init__(self) -> None:
        if self.keep is None and self.older_than_s is None:
            raise ConfigError(
                "Nothing says what may go. Give --keep, --older-than or both.",
                reason=Reason.MISSING_VALUE,
            )

    def old(self, used: Sequence[float], now: float) -> list[int]:
        """Returns which may go.

        Args:
            used: When each of a kind was used last (Unix time), newest first.
            now: Unix time.
        """
        return [
            number
            for number, time in enumerate(used)
            if number >= (1 if self.keep is None else self.keep)
            and (self.older_than_s is None or now - time > self.older_than_s)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something that is no longer needed.

    Attributes:
        kind: "run", "cached step", "training", "search" or "analysis".
        path: Its file or directory.
        used: When it was used last, as Unix time.
        bytes: What it holds.
    """

    kind: str
    path: pathlib.Path
    used: float
    bytes: int

    def __str__(self) -> str:
        day = datetime.datetime.fromtimestamp(self.used, datetime.UTC).date()
        return f"{self.kind:<12} {size(self.bytes):>9}  {day}  {self.path}"


@contextlib.contextmanager
def held(place: pathlib.Path) -> Iterator[None]:
    """Lets no run begin in an output directory during the block.

    Raises:
        ConfigError: a place holds nothing that runs leave.
        PipelineError: a run is using it.
    """
    require_output(place)
    with output.lease(place) if (place / RUNS).is_dir() else contextlib.nullcontext():
        yield


def require_output(place: pathlib.Path) -> None:
    """Refuses a directory that is no run's.

    Raises:
        ConfigError: it has none of the directories that runs make.
    """
    known = (RUNS, CACHE, CHECKPOINTS, STUDIES, ANALYSES)
    if not any((place / name).is_dir() for name in known):
        raise ConfigError(
            f"Directory {place} is no output of a run: expected {', '.join(known)} in it. Give "
            "--output of the runs, or the directory of a volume that has these.",
            reason=Reason.FILE_NOT_FOUND,
        )


def find(place: pathlib.Path, policy: Policy, now: float) -> list[Leftover]:
    """Returns what may go, in the order in which it is to be deleted.

    Args:
        place: Output directory of runs.
        policy: What stays.
        now: Unix time.

    Raises:
        ConfigError: it is no such directory.
        StorageError: it cannot be read.
    """
    require_output(place)
    with storage.storage_errors("read", place):
        return [
            *_runs(place, policy, now),
            *_working(place / CHECKPOINTS, "training", policy, now),
            *_working(place / STUDIES, "search", policy, now),
            *_analyses(place / ANALYSES, policy, now),
        ]


def delete(leftover: Leftover) -> bool:
    """Deletes something; returns False if a living process uses it by now."""
    if leftover.kind in ("training", "search"):
        return storage.remove_unused(leftover.path)
    storage.remove(leftover.path)
    return True


def _runs(place: pathlib.Path, policy: Policy, now: float) -> Iterator[Leftover]:
    """Entries of the cache that no run which stays has used, then runs that no entry needs."""
    began = {path: time for path in _listed(place / RUNS) if (time := _began(path)) is not None}
    runs = sorted(began, key=began.__getitem__, reverse=True)
    old = {runs[number] for number in policy.old([began[path] for path in runs], now)}
    since = min((began[path] for path in runs if path not in old), default=now)
    needed: set[pathlib.Path] = set()
    for entry in _listed(place / CACHE):
        if not _ENTRY.fullmatch(entry.name):
            continue
        used = entry.stat().st_mtime
        if used < since and old:
            yield _leftover("cached step", entry, used)
        else:
            needed |= _mentioned(entry, place / RUNS)
    for path in reversed(runs):
        if path in old - needed:
            yield _leftover("run", path, began[path])


def _began(path: pathlib.Path) -> float | None:
    """When a run began, by the name of its directory; None for what is no run's."""
    named = _RUN.fullmatch(path.name)
    if named is None or not path.is_dir() or path.is_symlink():
        return None
    try:
        local_time = datetime.datetime.strptime(named[1], "%Y-%m-%d-%H-%M-%S-%f")  # noqa: DTZ007
    except ValueError:
        return None
    return local_time.timestamp()  # kfp names it in the machine's time zone


def _mentioned(entry: pathlib.Path, runs: pathlib.Path) -> set[pathlib.Path]:
    """The runs whose artifacts a cached step gives out."""
    try:
        waiting = [json.loads(entry.read_bytes())]
    except ValueError:
        return set()  # no entry of this cache: it gives out nothing
    root, found = runs.resolve(), set()
    while waiting:
        match waiting.pop():
            case dict(inner):
                waiting += inner.values()
            case list(inner):
                waiting += inner
            case str(text) if pathlib.Path(text).is_relative_to(root):
                below = pathlib.Path(text).relative_to(root).parts
                found |= {runs / below[0]} if below else set()
    return found


def _working(parent: pathlib.Path, kind: str, policy: Policy, now: float) -> Iterator[Leftover]:
    if not parent.is_dir():
        return
    folders = storage.working_directories(parent)
    used = [path.stat().st_mtime for path in folders]
    for number in policy.old(used, now):
        if not storage.is_used(folders[number]):
            yield _leftover(kind, folders[number], used[number])


def _analyses(parent: pathlib.Path, policy: Policy, now: float) -> Iterator[Leftover]:
    """By age alone: one is of a file of data, and a run may need all that there are."""
    if policy.older_than_s is None:
        return
    for path in _listed(parent):
        made = path.stat().st_mtime
        if _ANALYSIS.fullmatch(path.name) and now - made > policy.older_than_s:
            yield _leftover("analysis", path, made)


def _listed(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _leftover(kind: str, path: pathlib.Path, used: float) -> Leftover:
    files = [path, *path.rglob("*")]
    held_bytes = sum(one.lstat().st_size for one in files if one.is_symlink() or one.is_file())
    return Leftover(kind=kind, path=path, used=used, bytes=held_bytes)


def size(count: float) -> str:
    """Returns a number of bytes for people: 1.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
