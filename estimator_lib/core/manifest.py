"""Manifests: what a finished artifact directory holds.

Layer 0. A directory is an artifact when it holds `manifest.json`, which is written last and
lists every file with size and SHA-256. Readers open only files that the manifest lists, so
left-overs of an earlier attempt are never read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from estimator_lib.core import storage
from estimator_lib.core.errors import DataError, Reason, StorageError

NAME = "manifest.json"


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
    """

    kind: str
    files: Mapping[str, FileEntry]
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over kind, files and metadata; equal artifacts have equal digests."""
        return hashlib.sha256(storage.canonical_json(self._as_json()).encode()).hexdigest()

    def _as_json(self) -> dict[str, Any]:
        files = {name: dataclasses.asdict(entry) for name, entry in self.files.items()}
        return {"kind": self.kind, "files": files, "metadata": dict(self.metadata)}


def write(
    directory: pathlib.Path,
    *,
    kind: str,
    metadata: Mapping[str, Any] | None = None,
    rows: Mapping[str, int] | None = None,
) -> Manifest:
    """Lists every file below `directory` and writes its manifest, last.

    Args:
        directory: A complete, staged artifact.
        kind: What the artifact is.
        metadata: Strict JSON to keep with it.
        rows: Row counts of the files that are tables.
    """
    counts = rows or {}
    files = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != NAME:
            files[name] = FileEntry(
                size=path.stat().st_size,
                sha256=storage.sha256_file(path),
                rows=counts.get(name),
            )
    manifest = Manifest(kind=kind, files=files, metadata=metadata or {})
    storage.write_json(directory / NAME, manifest._as_json())
    return manifest


def read(directory: str | pathlib.Path, *, kind: str | None = None) -> Manifest:
    """Returns the manifest of a finished artifact.

    Raises:
        DataError: there is no manifest, it is not one, or it is of another kind.
    """
    path = pathlib.Path(directory) / NAME
    try:
        content = json.loads(path.read_text())
        manifest = Manifest(
            kind=content["kind"],
            files={name: FileEntry(**entry) for name, entry in content["files"].items()},
            metadata=content["metadata"],
        )
    except FileNotFoundError as error:
        raise DataError(
            f"Directory {directory} is not a finished artifact: it has no {NAME}. "
            "Run the step that writes it again.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"Manifest {path} is damaged: {error}. Run the step that writes it again.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    if kind is not None and manifest.kind != kind:
        raise DataError(
            f"Artifact {directory} is of another kind: expected {kind!r}, got {manifest.kind!r}.",
            reason=Reason.TYPE_MISMATCH,
        )
    return manifest


def verify(directory: str | pathlib.Path, *, deep: bool = False) -> Manifest:
    """Checks that every listed file is there with its size (and, if `deep`, its digest).

    Raises:
        DataError: a file is missing, has another size or another digest.
    """
    manifest = read(directory)
    for name, entry in manifest.files.items():
        path = storage.safe_join(directory, name)
        if not path.is_file() or path.stat().st_size != entry.size:
            found = f"{path.stat().st_size} bytes" if path.is_file() else "no file"
            raise DataError(
                f"Artifact file {path} is not what its manifest lists: expected "
                f"{entry.size} bytes, got {found}. Run the step that writes it again.",
                reason=Reason.CORRUPT_FILE,
            )
        if deep and storage.sha256_file(path) != entry.sha256:
            raise DataError(
                f"Artifact file {path} has changed since it was written: its SHA-256 is not "
                f"{entry.sha256[:12]}... Run the step that writes it again.",
                reason=Reason.DIGEST_MISMATCH,
            )
    return manifest


@contextlib.contextmanager
def committed_artifact(target: str | pathlib.Path) -> Iterator[ArtifactWriter]:
    """Yields a writer whose staging directory becomes the artifact `target` when the block ends.

    A second commit of identical content is fine (a retried step); an existing directory that
    is not a finished artifact is replaced, for it is what a killed attempt left.

    Raises:
        StorageError: `target` holds a finished artifact with other content.
    """
    final = pathlib.Path(target)
    finished = (final / NAME).exists()
    writer: ArtifactWriter | None = None
    try:
        with storage.staged_directory(final, replace=not finished) as staged:
            writer = ArtifactWriter(staged)
            yield writer
            manifest = writer.finish()
            # Looked at again: another attempt may have finished while this one worked.
            if (final / NAME).exists():
                found = read(final).digest
                if found == manifest.digest:
                    raise _SameContentError
                refusal = StorageError(
                    f"Artifact {final} is finished already, with other content: expected digest "
                    f"{manifest.digest[:12]}, got {found[:12]}. Give the step a new directory.",
                    reason=Reason.ALREADY_EXISTS,
                )
                refusal.retryable = False
                raise refusal
    except _SameContentError:
        return


class _SameContentError(Exception):
    """Leaves the staging block without a commit: the target holds this content already."""


class ArtifactWriter:
    """A staged artifact: write below `directory`, set `kind`, `metadata` and `rows`."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.kind = "artifact"
        self.metadata: dict[str, Any] = {}
        self.rows: dict[str, int] = {}

    def finish(self) -> Manifest:
        """Writes the manifest; called by `committed_artifact`."""
        return write(self.directory, kind=self.kind, metadata=self.metadata, rows=self.rows)
