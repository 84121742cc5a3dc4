"""File patterns -> the input files of a job, in a stable order."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from estimator_lib.core import files as local_files
from estimator_lib.core import spans, storage, stores
from estimator_lib.core.errors import DataError, Reason, StorageError
from estimator_lib.core.places import RAW_DATA_SCHEMES, Place


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Part:
    """A stretch of a large file that is read by itself.

    Attributes:
        begin: First byte, or row group.
        end: The one behind it.
        line: Of CSV, the line on which it starts.
        header: Of CSV, the bytes of the file's header, where they are not in the stretch.
    """

    begin: int
    end: int
    line: int = 1
    header: bytes = b""


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class InputFile:
    """One input file, or a part of one.

    Attributes:
        name: How messages and fingerprints call it: relative to the base directory if below it.
        path: Where it is; a local path or a URI.
        split: The split all its rows belong to; "" where rows decide.
        part: The part of it that is meant; None means all of it.
        version: Of a URI, the version that was found, where its store tells; another is refused.
    """

    name: str
    path: str
    split: str = ""
    part: Part | None = None
    version: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return Place.parse(self.path).is_local

    @property
    def key(self) -> str:
        """What tells it from all other input: its name, and where the part begins."""
        return self.name if self.part is None else f"{self.name}#{self.part.begin}"

    def open(self) -> BinaryIO:
        """Opens the file's bytes as they are, still compressed if they are.

        Raises:
            DataError: it cannot be opened.
        """
        place = Place.parse(self.path)
        try:
            if place.is_local:
                return open(self.path, "rb")
            if place.scheme in RAW_DATA_SCHEMES:
                from transforms.beam import file_systems

                return file_systems.open_file(place)
            return stores.of(place).open(place, self.version or None)
        except StorageError as error:
            if error.reason is not Reason.FILE_NOT_FOUND:
                raise
            raise DataError(error.message, reason=Reason.FILE_NOT_FOUND) from error
        except OSError as error:
            raise self.unread(error) from error

    def unread(self, error: OSError) -> DataError:
        """Returns the error of a file that cannot be read; `retryable` if its disk may be back."""
        found = DataError(
            f"File {self.name} cannot be read: {error.strerror or error}.",
            reason=Reason.FILE_NOT_FOUND if isinstance(error, FileNotFoundError) else Reason.IO,
        )
        found.retryable = storage.may_pass(error)
        return found


def find(patterns: Mapping[str, Sequence[str]], base_dir: str) -> list[InputFile]:
    """Returns the files that the patterns match, sorted by split and name.

    Args:
        patterns: Split ("" where rows decide) to patterns with `*`, `?`, `[...]`, `**`, and
            `{date}` or a range of days, see `core.spans`:
            paths relative to `base_dir`, which may not lead out of it by `..` or a symbolic
            link; absolute paths, for data that lies elsewhere on purpose; or URIs.
        base_dir: Directory of the run configuration.

    Raises:
        DataError: a pattern matches no file, or one file belongs to two splits.
        SecurityError: a relative pattern leads out of `base_dir`, or a URI is not allowed.
        ConfigError: what reads a URI is not installed.
        StorageError: a store cannot be listed.
    """
    found: dict[str, InputFile] = {}
    for split, several in patterns.items():
        for pattern in several:
            versions = _expand(pattern, base_dir)
            if not versions:
                raise DataError(
                    f"File pattern {pattern!r} matches no file. Correct the pattern or put the "
                    "files there.",
                    reason=Reason.FILE_NOT_FOUND,
                )
            for path, version in versions.items():
                name = _name(path, base_dir)
                file = InputFile(name=name, path=path, split=split, version=version)
                known = found.setdefault(path, file)
                if known.split != split:
                    raise DataError(
                        f"File {file.name} is in two splits, {known.split!r} and {split!r}: "
                        "expected each file in one. Correct the patterns in data.split.files.",
                        reason=Reason.CONFLICT,
                    )
    return sorted(found.values(), key=lambda f: (f.split, f.name))


def _expand(pattern: str, base_dir: str) -> dict[str, str]:
    """The paths or URIs that match a pattern, and the version of each in its store."""
    place = Place.parse(pattern)
    if place.is_local:
        found = local_files.expand([pattern], base_dir)
        return {os.path.abspath(path): "" for path in found}
    plain, choose = spans.parse(pattern)
    if place.scheme in RAW_DATA_SCHEMES:
        from transforms.beam import file_systems

        versions = dict.fromkeys(file_systems.matching(place, plain), "")
    else:
        listed = [stores.matching(Place(one)) for one in plain]
        versions = {uri: entry.version for one in listed for uri, entry in one.items()}
    return {uri: versions[uri] for uri in sorted(choose(versions))}


def _name(path: str, base_dir: str) -> str:
    if not Place.parse(path).is_local:
        return path
    base = pathlib.Path(base_dir).resolve()
    resolved = pathlib.Path(path)
    return resolved.relative_to(base).as_posix() if resolved.is_relative_to(base) else path
