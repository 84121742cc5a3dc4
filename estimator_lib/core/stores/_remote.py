"""An `ObjectStore` over any driver: one deadline, one way to try again, whole files only."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import io
import itertools
import os
import pathlib
import random
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, BinaryIO, TypeVar, cast

from fsspec import asyn

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.core.stores import DEADLINE, Entry, _checksum, missing
from estimator_lib.core.stores._driver import ABSENT, Driver, Found, Meaning, Part, Piece

T = TypeVar("T")

_DEADLINE_S = 60.0
_ATTEMPT_S = 20.0
"""A request without an answer is given up, and made again, after this."""
_LONGEST_PAUSE_S = 5.0
_ABORT_S = 5.0
_PART = 8 << 20
"""Bytes of one request: each must get through within the deadline."""
_PARTS = 9_000
"""Stores take 10,000 parts of a file, and more than that of Azure."""
_BEGINS = 5
"""How often an upload whose server forgot it is begun anew."""
_AT_A_TIME = 16


class _Refused(Exception):
    """A condition does not hold."""


class _Missing(Exception):
    """There is no such file."""


class RemoteStore:
    """An `ObjectStore` over the requests of a driver.

    Args:
        make: Makes the driver, in the thread that its requests are made in.
    """

    def __init__(self, make: Callable[[], Driver]) -> None:
        self._loop = asyn.get_loop()
        self._buckets: set[str] = set()
        try:
            self._driver = make()
        except EstimatorLibError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise ConfigError(
                f"The client of a store cannot be made: {kind}: {_first_line(error)}.",
                reason=Reason.UNSUPPORTED,
            ) from error

    def read(self, place: Place) -> bytes | None:
        try:
            return self._wait(self._whole(place))
        except _Missing:
            return None

    def open(self, place: Place, version: str | None = None) -> BinaryIO:
        try:
            first = self._wait(self._get(place, 0, _PART, version))
        except _Missing:
            raise missing(place) from None
        get = functools.partial(self._range, place, first.version)
        return cast(BinaryIO, io.BufferedReader(_Reader(first, get), _PART // 2))

    def look(self, place: Place) -> Entry | None:
        found = self._wait(self._look(place))
        return found.entry if found else None

    def listed(self, folder: Place) -> Mapping[str, Entry]:
        return self._wait(self._listed(folder))

    def create(self, place: Place, data: bytes) -> bool:
        return self._wait(self._put(place, data, ABSENT))

    def replace_if(self, place: Place, data: bytes, version: str) -> bool:
        return self._wait(self._put(place, data, version))

    def write(self, place: Place, data: bytes) -> None:
        self._wait(self._put(place, data, None))

    def upload(self, path: pathlib.Path, place: Place, *, only_if_absent: bool = False) -> bool:
        with storage.storage_errors("read", path), open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            condition = ABSENT if only_if_absent else None
            if size <= _PART:
                return self._wait(self._put(place, source.read(), condition))
            return self._wait(self._parts(source.fileno(), size, place, condition))

    def download(self, place: Place, path: pathlib.Path) -> None:
        with storage.storage_errors("write", path):
            sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            self._wait(self._download(place, sink))
        except BaseException as error:
            storage.remove(path)
            if isinstance(error, _Missing):
                raise missing(place) from None
            if isinstance(error, OSError):
                raise storage.storage_error("write", path, error) from error
            raise
        finally:
            os.close(sink)

    def remove(self, place: Place) -> None:
        self._wait(self._remove(place))

    # --- Requests ------------------------------------------------------------------------------

    async def _look(self, place: Place) -> Found | None:
        try:
            return await self._try("read", place, lambda: self._driver.look(place))
        except _Missing:
            return None

    async def _get(self, place: Place, begin: int, end: int, version: str | None) -> Piece:
        try:
            return await self._try(
                "read", place, lambda: self._driver.get(place, begin, end, version)
            )
        except (_Refused, _Missing):
            if version is None:
                raise
            raise StorageError(
                f"Cannot read {place}: it was replaced while it was used. Run again.",
                reason=Reason.IO,
            ) from None

    def _range(self, place: Place, version: str, begin: int, end: int) -> bytes:
        return self._wait(self._get(place, begin, end, version)).data

    async def _whole(self, place: Place) -> bytes:
        first = await self._get(place, 0, _PART, None)
        data = bytearray(first.data)
        while len(data) < first.size:
            piece = await self._get(place, len(data), len(data) + _PART, first.version)
            data += piece.data
        return bytes(data)

    async def _download(self, place: Place, sink: int) -> None:
        first = await self._get(place, 0, _PART, None)

        async def fetch(begin: int) -> None:
            piece = await self._get(place, begin, begin + _PART, first.version)
            _write_at(sink, piece.data, begin)

        _write_at(sink, first.data, 0)
        begins = range(len(first.data), first.size, _PART)
        await _together((functools.partial(fetch, begin) for begin in begins), 4)
        os.fsync(sink)

    async def _listed(self, folder: Place) -> dict[str, Entry]:
        prefix = f"{folder.key}/" if folder.key else ""
        found: dict[str, Entry] = {}
        after: str | None = None
        try:
            while True:
                request = functools.partial(self._driver.page, folder, after)
                entries, after = await self._try("list", folder, request)
                for key, entry in entries.items():
                    if not key.endswith("/"):  # which is how consoles show an empty folder
                        found[key.removeprefix(prefix)] = entry
                if after is None:
                    return dict(sorted(found.items()))
        except _Missing:
            return {}

    async def _put(self, place: Place, data: bytes, condition: str | None) -> bool:
        writer = uuid.uuid4().hex
        return await self._decided(
            place,
            writer,
            condition,
            lambda: self._try(
                "write", place, lambda: self._driver.put(place, data, writer, condition)
            ),
        )

    async def _parts(self, source: int, size: int, place: Place, condition: str | None) -> bool:
        writer = uuid.uuid4().hex
        step = max(_PART, -(-size // _PARTS // (1 << 20)) * (1 << 20))
        driver = self._driver
        begins = range(0, size, step)
        names = [""] * len(begins)
        crc32c = _checksum.of_file(source)

        async def send(upload: str, at: int, begin: int) -> None:
            data = os.pread(source, step, begin)
            if len(data) != min(step, size - begin):
                raise StorageError(f"Cannot write {place}: its source has changed. Run again.")
            part, tries = Part(at + 1, begin, data, size), itertools.count()

            def request() -> Awaitable[str]:
                return driver.part(place, upload, part, again=next(tries) > 0)

            names[at] = await self._try("write", place, request)

        async def transfer() -> None:
            for _ in range(_BEGINS):
                with contextlib.suppress(_Missing):
                    return await attempt()
            raise StorageError(f"Cannot write {place}: the upload is lost. Run again.")

        async def attempt() -> None:
            begin = functools.partial(driver.begin, place, writer, condition, crc32c)
            upload = await self._try("write", place, begin)
            try:
                sends = (functools.partial(send, upload, at, b) for at, b in enumerate(begins))
                await _together(sends, driver.parallel)
                finish = functools.partial(driver.finish, place, upload, names, writer, condition)
                await self._try("write", place, finish)
            except BaseException:
                await self._abort(place, upload)
                raise

        return await self._decided(place, writer, condition, transfer)

    async def _abort(self, place: Place, upload: str) -> None:
        """Gives up an upload, as well as it goes: what is left of it shows nowhere."""
        try:
            await asyncio.wait_for(self._driver.abort(place, upload), _ABORT_S)
        except Exception:  # noqa: BLE001 - the error that led here is the one to tell
            return

    async def _decided(
        self, place: Place, writer: str, condition: str | None, act: Callable[[], Awaitable[Any]]
    ) -> bool:
        """Whether a write was done under its condition.

        Where the answer to a write was lost, a second try is refused for the first one's sake:
        the mark on the file says whose it is.
        """
        try:
            await act()
        except _Refused:
            found = await self._look(place)
            return found is not None and found.writer == writer
        except _Missing:  # which has no version
            return False
        return True

    async def _remove(self, place: Place) -> None:
        listed = await self._listed(place)
        targets = [place / name for name in listed] + [place] * bool(place.key)

        async def delete(target: Place) -> None:
            try:
                await self._try("delete", target, lambda: self._driver.delete(target))
            except _Missing:
                return

        await _together((functools.partial(delete, target) for target in targets), _AT_A_TIME)

    # --- Trying --------------------------------------------------------------------------------

    async def _try(self, action: str, place: Place, request: Callable[[], Awaitable[T]]) -> T:
        """Makes a request until it is answered or the deadline has passed.

        Raises:
            StorageError: it was refused, or nothing answered in time.
        """
        limit = deadline_s()
        ends, pause = time.monotonic() + limit, 0.1
        while True:
            left = ends - time.monotonic()
            try:
                return await asyncio.wait_for(request(), max(min(left, _ATTEMPT_S), 0.01))
            except (EstimatorLibError, _Missing, _Refused):
                raise
            except Exception as error:
                fault = self._driver.fault(error)
                match fault.meaning:
                    case Meaning.CONDITION:
                        raise _Refused from None
                    case Meaning.MISSING:
                        await self._require_bucket(action, place)
                        raise _Missing from None
                    case Meaning.DENIED:
                        raise _final(
                            f"Cannot {action} {place}: access is denied ({fault.text}). "
                            f"{self._driver.advice}",
                            Reason.PERMISSION,
                        ) from error
                    case Meaning.FINAL:
                        raise _final(
                            f"Cannot {action} {place}: {fault.text}.", Reason.IO
                        ) from error
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
                if time.monotonic() + wait >= ends:
                    raise StorageError(
                        f"Cannot {action} {place}: {fault.text}, for {limit:g} seconds. Run again "
                        "when its store can be reached.",
                        reason=Reason.UNREACHABLE,
                    ) from error
            await asyncio.sleep(wait)

    async def _require_bucket(self, action: str, place: Place) -> None:
        if place.bucket in self._buckets:
            return
        there = True
        root = Place(f"{place.scheme}://{place.bucket}")
        try:
            there = await asyncio.wait_for(self._driver.has_bucket(root), _ATTEMPT_S)
        except Exception as error:  # noqa: BLE001 - who may not ask may read all the same
            there = self._driver.fault(error).meaning is not Meaning.MISSING
        if not there:
            raise _final(
                f"Cannot {action} {place}: there is no bucket {place.bucket!r}. Make it, or "
                "correct the URI.",
                Reason.FILE_NOT_FOUND,
            )
        self._buckets.add(place.bucket)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work in the clients' thread; who is interrupted here ends it there, too."""
        ended = threading.Event()

        async def run() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise StorageError("A request to a store was cancelled. Run again.") from None
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(2 * _ABORT_S)
            raise


class _Reader(io.RawIOBase):
    """A file of a store: what is beyond its first piece is fetched when it is asked for."""

    def __init__(self, first: Piece, get: Callable[[int, int], bytes]) -> None:
        self._first = first
        self._get = get
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._first.size}[whence]
        if base + offset < 0:
            raise ValueError(f"Cannot seek to {base + offset}: it is before the file's begin.")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + min(len(buffer), _PART), self._first.size)
        if end <= self._at:
            return 0
        if end <= len(self._first.data):
            data = self._first.data[self._at : end]
        else:
            data = self._get(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        found = bytearray()
        piece = bytearray(_PART)
        while count := self.readinto(piece):
            found += memoryview(piece)[:count]
        return bytes(found)


def deadline_s() -> float:
    """Returns how many seconds a request is tried."""
    text = os.environ.get(DEADLINE, "")
    if not text:
        return _DEADLINE_S
    try:
        seconds = float(text)
        if not 0 < seconds <= 86_400:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{DEADLINE} is {text!r}: expected seconds, more than 0 and at most a day. Correct it.",
        ) from None
    return seconds


async def _together(acts: Iterable[Callable[[], Awaitable[None]]], at_a_time: int) -> None:
    """Does all, some at a time; the first error ends the others."""
    waiting = iter(acts)

    async def work() -> None:
        for act in waiting:
            await act()

    tasks = [asyncio.ensure_future(work()) for _ in range(at_a_time)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _write_at(sink: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(sink, view, offset)
        view, offset = view[written:], offset + written


def _final(message: str, reason: Reason) -> StorageError:
    error = StorageError(message, reason=reason)
    error.retryable = False
    return error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0].rstrip(".")
