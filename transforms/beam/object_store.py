"""Object stores through Beam's file systems, and paths and URIs read and written alike."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from apache_beam.io import filesystem, filesystems

from estimator_lib.core import manifest, storage
from estimator_lib.core.errors import (
    ConfigError,
    EstimatorLibError,
    Reason,
    SecurityError,
    StorageError,
    quote,
)

EXTRAS = {"gs": "gcp", "s3": "aws", "hdfs": "hadoop", "azfs": "azure"}
"""Schemes that Beam itself has file systems for, and the extra each needs installed."""
_PLAIN = filesystem.CompressionTypes.UNCOMPRESSED


def check(uri: str) -> None:
    """Refuses a URI that no file system of Beam reads, or that is not plain.

    Raises:
        ConfigError: its file system is not installed.
        SecurityError: it has another scheme, or parts that are no path.
    """
    scheme = uri.partition(":")[0].lower()
    known = {fs.scheme() for fs in filesystem.FileSystem.get_all_subclasses()} - {None}
    known |= set(EXTRAS)
    odd = [mark for mark in ("?", "#", ";", "%", "/../", "\\") if mark in uri]
    if scheme not in known or odd or "://" not in uri:
        problem = f"contains {odd[0]!r}" if scheme in known else f"has the scheme {scheme!r}"
        raise SecurityError(
            f"URI {quote(uri)} {problem}: expected a path, or a plain URI with one of the "
            f"schemes {', '.join(sorted(known))}. Correct it.",
        )
    try:
        filesystems.FileSystems.get_filesystem(uri)
    except (ValueError, OSError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        extra = f"Install apache-beam[{EXTRAS[scheme]}], or" if scheme in EXTRAS else "Then"
        raise ConfigError(
            f"URI {quote(uri)} cannot be used: {why}. {extra} give Beam the options it asks for.",
            reason=Reason.UNSUPPORTED,
        ) from error


class BeamStore:
    """A `storage.ObjectStore` of any scheme that Beam knows."""

    def read(self, uri: str) -> bytes | None:
        with _errors("read", uri):
            if not filesystems.FileSystems.exists(uri):
                return None
            with filesystems.FileSystems.open(uri, compression_type=_PLAIN) as source:
                return cast(bytes, source.read())

    def write(self, uri: str, data: bytes) -> None:
        with _errors("write", uri), _created(uri) as sink:
            sink.write(data)

    def upload(self, path: pathlib.Path, uri: str) -> None:
        with _errors("write", uri):
            with path.open("rb") as source, _created(uri) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            size, there = path.stat().st_size, filesystems.FileSystems.match([uri])
            found = [metadata.size_in_bytes for metadata in there[0].metadata_list]
            if found != [size]:
                raise OSError(f"expected a file of {size:,} bytes there, got {found}")

    def changed(self, folder: str) -> Mapping[str, float]:
        with _errors("list", folder):
            if filesystems.FileSystems.get_filesystem(folder).has_dirs():
                return {}  # HDFS lists one directory at a time; nothing is swept there
            listed = filesystems.FileSystems.match([f"{folder}/**"])[0].metadata_list
            return {
                found.path.removeprefix(f"{folder}/"): found.last_updated_in_seconds
                for found in listed
            }

    def remove(self, folder: str) -> None:
        with _errors("delete", folder):
            system = filesystems.FileSystems.get_filesystem(folder)
            paths = [f"{folder}/{name}" for name in self.changed(folder)]
            if system.has_dirs() and system.exists(folder):
                paths = [folder]
            filesystems.FileSystems.delete(paths)


STORE = BeamStore()


def of(path: str) -> BeamStore | None:
    """Returns what reads and writes a URI; None for a path of this machine."""
    return STORE if storage.is_uri(path) else None


def committed(target: str) -> contextlib.AbstractContextManager[manifest.ArtifactWriter]:
    """`manifest.committed_artifact` of a path or URI.

    Raises:
        ConfigError: the file system for a URI is not installed.
        SecurityError: the URI is not a plain one.
    """
    if storage.is_uri(target):
        check(target)
    return manifest.committed_artifact(target, of(target))


def locate(artifact: str) -> str:
    """Returns where the files of a finished artifact are: itself, or below a URI.

    Raises:
        DataError: it is not a finished artifact.
    """
    if (store := of(artifact)) is None:
        return artifact
    return join(artifact, manifest.read(artifact, store=store).directory)


def fetch(place: str, writer: manifest.ArtifactWriter) -> None:
    """Brings what workers wrote below a URI into an artifact's own directory.

    Raises:
        StorageError: a file cannot be read, or is not what its writer said.
    """
    for name, entry in writer.written.items():
        uri, path = join(place, name), writer.directory / name
        with _errors("read", uri):
            with filesystems.FileSystems.open(uri, compression_type=_PLAIN) as source:
                storage.write_stream(path, source)
            if storage.sha256_file(path) != entry.sha256:
                raise OSError(f"expected the SHA-256 {entry.sha256[:12]}, got another")


def join(base: str, *names: str) -> str:
    """Returns the path or URI of something below `base`."""
    return "/".join([base.rstrip("/"), *names]) if of(base) else os.path.join(base, *names)


def write(path: str, data: bytes) -> None:
    """Writes a file.

    Raises:
        StorageError: it cannot be written.
    """
    if (store := of(path)) is not None:
        store.write(path, data)
    else:
        storage.write_bytes(path, data)


def read(path: str) -> bytes:
    """Returns a file's content.

    Raises:
        StorageError: it cannot be read, or is not there.
    """
    store = of(path)
    with storage.storage_errors("read", path):
        data = pathlib.Path(path).read_bytes() if store is None else store.read(path)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file")
        return data


def exists(path: str) -> bool:
    """Whether there is such a file.

    Raises:
        StorageError: nothing can be said.
    """
    if of(path) is None:
        return os.path.isfile(path)
    with _errors("read", path):
        return bool(filesystems.FileSystems.exists(path))


def remove(path: str) -> None:
    """Deletes a file; a missing one is fine.

    Raises:
        StorageError: it cannot be deleted.
    """
    if of(path) is None:
        storage.remove(path)
        return
    with _errors("delete", path):
        if filesystems.FileSystems.exists(path):
            filesystems.FileSystems.delete([path])


def matching(patterns: Sequence[str]) -> list[str]:
    """Returns the URIs that match any of some patterns.

    Raises:
        StorageError: they cannot be listed.
    """
    with _errors("list", patterns[0]):
        found = filesystems.FileSystems.match(list(patterns))
        return [metadata.path for result in found for metadata in result.metadata_list]


@contextlib.contextmanager
def _created(uri: str) -> Iterator[BinaryIO]:
    """Gives a file to write, closed only if all went well: closing is what shows it."""
    sink = filesystems.FileSystems.create(uri, compression_type=_PLAIN)
    yield sink
    sink.close()


@contextlib.contextmanager
def _errors(action: str, uri: str) -> Iterator[None]:
    """Turns whatever a store's own library raises into one StorageError."""
    try:
        yield
    except EstimatorLibError:
        raise
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
        raise StorageError(f"Cannot {action} {uri}: {type(error).__name__}: {text}.") from error
