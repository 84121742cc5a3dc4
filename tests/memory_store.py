"""An object store in memory, `mem://`, that renames nothing and fails when it is told to.

Beam finds file systems by their scheme among the subclasses that are imported.
"""

import io
import pathlib
import time

from apache_beam.io import filesystem

FILES: dict[str, bytes] = {}
CHANGED: dict[str, float] = {}
WRITTEN: list[str] = []
"""The files in the order in which they became visible."""


class Outage:
    """Every call from a given one on fails; None: none does."""

    calls = 0
    first: int | None = None


def clear():
    FILES.clear()
    CHANGED.clear()
    WRITTEN.clear()
    fail_from(None)


def fail_from(call):
    Outage.calls, Outage.first = 0, call


def called():
    Outage.calls += 1
    if Outage.first is not None and Outage.calls >= Outage.first:
        raise RuntimeError("503 Service Unavailable")


def below(folder):
    return {name.removeprefix(f"{folder}/") for name in FILES if name.startswith(f"{folder}/")}


def download(folder: str, target: pathlib.Path) -> pathlib.Path:
    """What the store's own command line would copy."""
    for name in below(folder):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[f"{folder}/{name}"])
    return target


class Sink(io.BytesIO):
    """Shows a file when it is closed; what is abandoned is never seen."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def close(self):
        if not self.closed:
            called()
            FILES[self.path] = self.getvalue()
            CHANGED[self.path] = time.time()
            WRITTEN.append(self.path)
        super().close()

    def __del__(self):
        pass


class MemoryFileSystem(filesystem.FileSystem):
    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        return None

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        called()
        for path in list(FILES):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type=filesystem.CompressionTypes.AUTO):
        called()
        assert compression_type == filesystem.CompressionTypes.UNCOMPRESSED
        return Sink(path)

    def open(self, path, mime_type="", compression_type=filesystem.CompressionTypes.AUTO):
        called()
        assert compression_type == filesystem.CompressionTypes.UNCOMPRESSED
        return io.BytesIO(FILES[path])

    def copy(self, source_file_names, destination_file_names):
        raise AssertionError("nothing is copied within an object store")

    def rename(self, source_file_names, destination_file_names):
        raise AssertionError("an object store renames nothing")

    def exists(self, path):
        called()
        return path in FILES

    def size(self, path):
        return len(FILES[path])

    def last_updated(self, path):
        return CHANGED[path]

    def metadata(self, path):
        return filesystem.FileMetadata(path, len(FILES[path]), CHANGED.get(path, 0.0))

    def delete(self, paths):
        called()
        for path in paths:
            del FILES[path]
