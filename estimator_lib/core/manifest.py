"""Manifests: what a finished artifact directory holds.

Layer 0. A directory is an artifact when it holds `manifest.json`, which is written last and
lists every file with size and SHA-256. Readers open only files that the manifest lists, so
left-overs of an earlier attempt are never read.

An object store renames nothing. There every attempt writes a directory of its own, which is an
artifact as any other; then the `manifest.json` above it, one object, says which of them it is:

    gs://bucket/examples/manifest.json                 the same, with "directory": "attempt-5f0c"
    gs://bucket/examples/attempt-5f0c/manifest.json
    gs://bucket/examples/attempt-5f0c/train-00000-of-00001.parquet

No file is written twice, so that attempts at the same time cannot mix, and the object above is
created only if there is none: of two attempts with other content one is refused. What dead ones
left is removed by the next one that ends a day later.

Directories are paths or URIs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from estimator_lib.core import storage, stores, strict_json
from estimator_lib.core.errors import DataError, Reason, StorageError, quote
from estimator_lib.core.places import Place

NAME = "manifest.json"
LINEAGE = "lineage.json"
"""File of a published model that says what made it, beside its manifest."""
ATTEMPT = "attempt-"
_MADE_OF = "made_of"
DEAD_S = 86_400.0
"""An attempt in an object store that wrote nothing for so long, and is no artifact, is dead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of an artifact: size in bytes, SHA-256 and, for tables, its rows."""

    size: int
    sha256: str
    rows: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished artifact directory holds.

    Attributes:
        kind: What the artifact is, such as "examples" or "model".
        files: Path below the directory (with "/") to its entry.
        metadata: Strict JSON: row counts, parents, configuration.
        directory: In an object store, where below the manifest the artifact is; else "".
    """

    kind: str
    files: Mapping[str, FileEntry]
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    directory: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over kind, files and metadata; equal artifacts have equal digests."""
        return hashlib.sha256(storage.canonical_json(self._as_json()).encode()).hexdigest()

    def is_made_of(self, made_of: str) -> bool:
        """Whether an `ArtifactWriter` with this `made_of` has written it."""
        return self.metadata.get(_MADE_OF) == _hash(made_of)

    def _as_json(self) -> dict[str, Any]:
        files = {name: dataclasses.asdict(entry) for name, entry in self.files.items()}
        return {"kind": self.kind, "files": files, "metadata": dict(self.metadata)}


def write(
    directory: pathlib.Path,
    *,
    kind: str,
    metadata: Mapping[str, Any] | None = None,
    rows: Mapping[str, int] | None = None,
    written: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Lists every file below `directory` and writes its manifest, last.

    Args:
        directory: A complete, staged artifact.
        kind: What the artifact is.
        metadata: Strict JSON to keep with it.
        rows: Row counts of the files that are tables.
        written: Files whose writer said what they hold; they may be elsewhere.
    """
    counts = rows or {}
    files = dict(written or {})
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != NAME and name not in files:
            files[name] = FileEntry(
                size=path.stat().st_size,
                sha256=storage.sha256_file(path),
                rows=counts.get(name),
            )
    manifest = Manifest(kind=kind, files=dict(sorted(files.items())), metadata=metadata or {})
    storage.write_json(directory / NAME, manifest._as_json())
    return manifest


def read(directory: str | os.PathLike[str], *, kind: str | None = None) -> Manifest:
    """Returns the manifest of a finished artifact.

    Args:
        directory: Where the artifact is.
        kind: What it must be.

    Raises:
        DataError: there is no manifest, it is not one, or it is of another kind.
    """
    manifest = finished(directory)
    if manifest is None:
        raise DataError(
            f"Directory {directory} is not a finished artifact: it has no {NAME}. "
            "Run the step that writes it again.",
            reason=Reason.FILE_NOT_FOUND,
        )
    if manifest.directory and Place.parse(directory).is_local:
        raise DataError(
            f"Directory {directory} is a copy of an object store's, with the artifact below it. "
            f"Give {pathlib.Path(directory) / manifest.directory}.",
            reason=Reason.FILE_NOT_FOUND,
        )
    if kind is not None and manifest.kind != kind:
        raise DataError(
            f"Artifact {directory} is of another kind: expected {kind!r}, got {manifest.kind!r}.",
            reason=Reason.TYPE_MISMATCH,
        )
    return manifest


def finished(directory: str | os.PathLike[str]) -> Manifest | None:
    """Returns the manifest of an artifact, or None where there is no finished one.

    Raises:
        DataError: it is damaged.
    """
    path = Place.parse(directory) / NAME
    data = stores.find(path)
    if data is None:
        return None
    try:
        content = strict_json.parse(data)
        return Manifest(
            kind=_typed(content["kind"], str),
            files={name: _entry(**entry) for name, entry in content["files"].items()},
            metadata=_typed(content["metadata"], dict),
            directory=_typed(content.get("directory", ""), str),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"Manifest {path} is damaged: {error}. Run the step that writes it again.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def _entry(size: Any, sha256: Any, rows: Any = None) -> FileEntry:
    known = None if rows is None else _typed(rows, int)
    return FileEntry(size=_typed(size, int), sha256=_typed(sha256, str), rows=known)


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, got {quote(value)}")
    return value


def verify(directory: str | os.PathLike[str], *, deep: bool = False) -> Manifest:
    """Checks that every listed file is there with its size (and, if `deep`, its digest).

    Raises:
        DataError: a file is missing, has another size or another digest.
    """
    manifest = read(directory)
    for name, entry in manifest.files.items():
        path = storage.safe_join(directory, name)
        with storage.storage_errors("read", path):
            size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            found = "no file" if size is None else f"{size} bytes"
            raise DataError(
                f"Artifact file {path} is not what its manifest lists: expected "
                f"{entry.size} bytes, got {found}. Run the step that writes it again.",
                reason=Reason.CORRUPT_FILE,
            )
        with storage.storage_errors("read", path):
            same = not deep or storage.sha256_file(path) == entry.sha256
        if not same:
            raise DataError(
                f"Artifact file {path} has changed since it was written: its SHA-256 is not "
                f"{entry.sha256[:12]}... Run the step that writes it again.",
                reason=Reason.DIGEST_MISMATCH,
            )
    return manifest


@contextlib.contextmanager
def committed_artifact(target: str | os.PathLike[str]) -> Iterator[ArtifactWriter]:
    """Yields a writer whose staging directory becomes the artifact `target` when the block ends.

    A second commit of identical content is fine (a retried step), and of content that was
    `made_of` the same: the first one stays. An existing directory that is not a finished artifact
    is replaced, for it is what a killed attempt left.

    Args:
        target: The artifact's directory, or URI.

    Raises:
        ConfigError: nothing can be written where `target` is.
        StorageError: `target` holds a finished artifact with other content.
    """
    place = Place.parse(target)
    if not place.is_local:
        with _committed_objects(place, stores.of(place)) as writer:
            yield writer
        return
    final = place.path
    with storage.staging(final.parent, final.name) as staged:
        writer = ArtifactWriter(staged.path)
        yield writer
        made = writer.finish()
        # Looked at only now: another attempt may have finished while this one worked.
        while not _is_there(final, made, whole(final)) and not staged.commit(final):
            _clear(final)


def _clear(final: pathlib.Path) -> None:
    """Removes what a killed attempt left in place of an artifact.

    One at a time: while what was left is there nobody can commit, so that nothing finished goes.
    """
    with storage.leased(final.parent, f".{final.name}.clearing", what="Artifact in", wait_s=30):
        if os.path.lexists(final) and whole(final) is None:
            storage.remove(final)


def _is_there(target: object, manifest: Manifest, found: Manifest | None) -> bool:
    """Whether an artifact is finished already; raises if one with other content is."""
    if found is None or found.digest == manifest.digest:
        return found is not None
    made_of = manifest.metadata.get(_MADE_OF)
    if made_of is not None and (found.kind, found.metadata.get(_MADE_OF)) == (
        manifest.kind,
        made_of,
    ):
        return True
    refusal = StorageError(
        f"Artifact {target} is finished already, with other content: expected digest "
        f"{manifest.digest[:12]}, got {found.digest[:12]}. Give the step a new directory.",
        reason=Reason.ALREADY_EXISTS,
    )
    refusal.retryable = False
    raise refusal


@contextlib.contextmanager
def _committed_objects(target: Place, store: stores.ObjectStore) -> Iterator[ArtifactWriter]:
    attempt = f"{ATTEMPT}{uuid.uuid4().hex}"
    place = target / attempt
    with storage.temporary_directory("artifact-") as folder:
        writer = ArtifactWriter(pathlib.Path(folder), str(place))
        try:
            yield writer
            manifest = writer.finish()
            paths = [path for path in writer.directory.rglob("*") if path.is_file()]
            for path in sorted(paths, key=lambda path: (path.name == NAME, path)):
                store.upload(path, place / path.relative_to(folder).as_posix())
        except BaseException:
            with contextlib.suppress(StorageError):
                store.remove(place)
            raise
    artifact = _point(target, manifest, attempt, store)
    with contextlib.suppress(StorageError):
        if artifact != attempt:
            store.remove(place)
        _sweep(target, store, artifact)


def _point(target: Place, manifest: Manifest, attempt: str, store: stores.ObjectStore) -> str:
    """Makes an attempt the artifact unless there is one; returns the directory of the one there is.

    Until the store has refused it the attempt may be the artifact, whatever fails meanwhile.
    """
    pointer = target / NAME
    data = storage.canonical_json({**manifest._as_json(), "directory": attempt}).encode()
    created = store.create(pointer, data)
    while not created:
        there = store.look(pointer)
        known = whole(target)
        try:
            if _is_there(target, manifest, known) and known is not None:
                return known.directory
        except StorageError:
            with contextlib.suppress(StorageError):
                store.remove(target / attempt)
            raise
        if there is None:
            created = store.create(pointer, data)
        else:  # damaged, as it was when it was looked at
            created = store.replace_if(pointer, data, there.version)
    return attempt


def whole(target: str | os.PathLike[str]) -> Manifest | None:
    """Returns `finished`, or None for a damaged manifest too: it may be half written."""
    try:
        return finished(target)
    except DataError:
        return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sweep(target: Place, store: stores.ObjectStore, artifact: str) -> None:
    """Removes attempts that wrote nothing for a day."""
    newest: dict[str, float] = {}
    for name, entry in store.listed(target).items():
        attempt = name.partition("/")[0]
        if attempt.startswith(ATTEMPT) and attempt != artifact:
            newest[attempt] = max(newest.get(attempt, 0.0), entry.changed)
    for attempt, changed in newest.items():
        if changed < time.time() - DEAD_S:
            store.remove(target / attempt)


def locate(directory: str | os.PathLike[str]) -> Place:
    """Returns where the files of a finished artifact are: itself, or below a URI.

    Raises:
        DataError: it is not a finished artifact.
    """
    place = Place.parse(directory)
    return place if place.is_local else place / read(place).directory


class ArtifactWriter:
    """A staged artifact: write below `directory`, set `kind`, `metadata` and `rows`.

    Files that are written elsewhere than on this machine go below `place`, which is `directory`
    unless that is an object store's, and are told in `written`.

    `made_of` is what decides an artifact whose bytes differ from attempt to attempt all the same
    (times, the order of a graph): its inputs and configuration.
    """

    def __init__(self, directory: pathlib.Path, place: str = "") -> None:
        self.directory = directory
        self.place = place or str(directory)
        self.kind = "artifact"
        self.metadata: dict[str, Any] = {}
        self.rows: dict[str, int] = {}
        self.written: dict[str, FileEntry] = {}
        self.made_of: str | None = None

    def finish(self) -> Manifest:
        """Writes the manifest; called by `committed_artifact`."""
        if self.made_of is not None:
            self.metadata[_MADE_OF] = _hash(self.made_of)
        return write(
            self.directory,
            kind=self.kind,
            metadata=self.metadata,
            rows=self.rows,
            written=self.written,
        )
