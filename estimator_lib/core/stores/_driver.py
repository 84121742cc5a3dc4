"""What differs between the stores: single requests, and what their errors mean.

A driver tries nothing twice and knows no deadline: `_remote` does that for all of them.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Protocol

from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry

ABSENT = ""
"""A condition: there is no such file. Any other is the version that it must have."""


class Meaning(enum.Enum):
    """What an error of a client means."""

    MISSING = enum.auto()
    """There is no such file, or bucket."""
    CONDITION = enum.auto()
    """A condition does not hold."""
    DENIED = enum.auto()
    """Credentials are missing, wrong or of one who may not."""
    PASSING = enum.auto()
    """The same may succeed later."""
    FINAL = enum.auto()
    """Anything else: the same fails again."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """What an error means, and in a few words, without credentials, what it is."""

    meaning: Meaning
    text: str


@dataclasses.dataclass(frozen=True)
class Found:
    """A file, and the mark that its writer left on it."""

    entry: Entry
    writer: str


@dataclasses.dataclass(frozen=True)
class Piece:
    """A range of a file's bytes, with the size of the whole file and its version."""

    data: bytes
    size: int
    version: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a file of `size` bytes: the `number`th, from 1, which starts at `begin`."""

    number: int
    begin: int
    data: bytes
    size: int


class Driver(Protocol):
    """The requests of one store.

    Attributes:
        advice: What to set where access is denied.
        parallel: How many parts of one upload may be sent at a time.
    """

    advice: str
    parallel: int

    async def look(self, place: Place) -> Found | None: ...

    async def get(self, place: Place, begin: int, end: int, version: str | None) -> Piece:
        """Returns bytes from `begin` to before `end`, or to the file's end before that."""
        ...

    async def page(self, folder: Place, after: str | None) -> tuple[dict[str, Entry], str | None]:
        """Returns files below a folder, by key, and what to ask for the next of them with."""
        ...

    async def put(self, place: Place, data: bytes, writer: str, condition: str | None) -> None: ...

    async def begin(self, place: Place, writer: str, condition: str | None, crc32c: str) -> str:
        """Begins an upload in parts of a file with a checksum, and returns its name."""
        ...

    async def part(self, place: Place, upload: str, part: Part, *, again: bool) -> str:
        """Sends a part, perhaps not for the first time, and returns its name.

        Where that cannot be done twice, the upload is `MISSING`: it must be begun anew.
        """
        ...

    async def finish(
        self, place: Place, upload: str, parts: list[str], writer: str, condition: str | None
    ) -> None: ...

    async def abort(self, place: Place, upload: str) -> None: ...

    async def delete(self, place: Place) -> None: ...

    async def has_bucket(self, place: Place) -> bool: ...

    def fault(self, error: Exception) -> Fault: ...
