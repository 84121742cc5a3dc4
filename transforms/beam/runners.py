"""How Beam jobs are run: the runner always named, errors as they were raised, little noise."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import re
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, TypeVar, cast

import apache_beam as beam
from apache_beam.io import filesystems
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.runners.runner import PipelineState

from estimator_lib.core import errors, processes, storage, stores
from estimator_lib.core.errors import EstimatorLibError, PipelineError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.core.progress import Progress
from transforms.beam import engines, failures

MAX_THREADS = 8
"""Threads of a job in this process at most; each holds a few blocks of rows."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def accept(given: Sequence[str]) -> None:
    """Checks Beam's options, and gives its file systems theirs, such as --hdfs_host.

    Raises:
        ConfigError: the runner cannot work with them; see `engines.check`.
    """
    engines.check(given)
    filesystems.FileSystems.set_options(engines.options(given))


@contextlib.contextmanager
def scratch(given: Sequence[str], prefix: str) -> Iterator[str]:
    """Gives the path of a file that workers write and the caller reads; it is deleted then.

    It lies below `--temp_location`, which may be a URI, or else in a directory of this machine.
    """
    with scratch_directory(given, prefix) as folder:
        yield str(Place.parse(folder) / "scratch")


@contextlib.contextmanager
def scratch_directory(given: Sequence[str], prefix: str) -> Iterator[str]:
    """Gives a directory, or a URI, below `--temp_location` if there is one; it is deleted then."""
    base = _temporary_location(given)
    if base is None or base.is_local:
        with storage.temporary_directory(prefix, base.given if base else None) as folder:
            yield folder
        return
    store, place = stores.of(base), base / f"{prefix}{uuid.uuid4().hex}"
    try:
        yield str(place)
    finally:
        with contextlib.suppress(StorageError):
            store.remove(place)


def hands_over_by_uri(given: Sequence[str]) -> bool:
    """Whether workers and this machine share an object store, and so no directory."""
    base = _temporary_location(given)
    return base is not None and not base.is_local


def _temporary_location(given: Sequence[str]) -> Place | None:
    found: str | None = engines.options(given).view_as(GoogleCloudOptions).temp_location
    return None if found is None else Place.parse(found)


def threads(given: Sequence[str]) -> int:
    """Returns how many threads a function should use that gets all files at once.

    In this process the runner has one worker; Arrow and TensorFlow work outside Python's lock,
    so one thread per CPU is of use. (The runner's own multi_threading mode sends everything
    through sockets.) With any options of the caller's, work is divided by the runner: 1.
    """
    return 1 if given else min(MAX_THREADS, os.cpu_count() or 1)


def portions(items: Sequence[Item], threads: int) -> list[tuple[Item, ...]]:
    """Returns what one call of a function gets: everything, if it has threads of its own, or one.

    Args:
        items: What there is to do.
        threads: As `threads` gave them.
    """
    return [tuple(items)] if threads > 1 else [(item,) for item in items]


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> Iterator[Result]:
    """Yields `function` of each item, in order, a few ahead of what was taken."""
    if threads == 1:
        yield from map(function, items)
        return
    with futures.ThreadPoolExecutor(threads) as pool:
        ahead: collections.deque[futures.Future[Result]] = collections.deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def run(build: Callable[[beam.Pipeline], Any], given: Sequence[str]) -> None:
    """Builds a pipeline and runs it to its end.

    A job that is left before its end, by Ctrl-C, SIGTERM or a broken connection, is cancelled on
    its engine; where that fails, a line says which job to cancel.

    Args:
        build: Called with the pipeline.
        given: Beam options, such as ["--runner=DataflowRunner", "--project=..."].

    Raises:
        ConfigError: the runner cannot work with these options.
        EstimatorLibError: what a function of the pipeline raised, as it was raised.
        PipelineError: the job failed in another way; `retryable` if a worker was lost, or the
            engine could not be reached or had no room.
    """
    engines.check(given)
    own = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with processes.ending_on_sigterm("command") if own else contextlib.nullcontext():
        try:
            with _quiet():
                pipeline = beam.Pipeline(options=engines.options(given))
                build(pipeline)
                _wait(pipeline.run())
        except Exception as error:
            original = _original(error) or _from_text(str(error))
            if original is not None:
                raise original from None
            refusal = next(filter(None, map(storage.refused, failures.chain(error))), None)
            if refusal is not None:
                place = refusal.filename or "a file"
                raise storage.storage_error("run the Beam job with", place, refusal) from error
            failed = PipelineError(f"Beam job failed: {failures.cause(error)}.")
            if failures.passes(error):
                failed.retryable, failed.reason = True, Reason.UNREACHABLE
            raise failed from error


CANCEL_S = 10.0
"""Seconds that an engine has to cancel a job; a step that is asked to end has twenty."""


START_S = 300.0
"""Seconds that a Dask scheduler has to get a worker; so long Beam waits for a job server."""


def _wait(result: Any) -> None:
    client = getattr(result, "client", None)  # Dask's: it waits for ever, and Beam leaves it open
    try:
        if client is not None:
            client.wait_for_workers(1, timeout=START_S)
        result.wait_until_finish()
    except BaseException:
        _cancel(result)
        raise
    finally:
        if client is not None:
            client.close(timeout=CANCEL_S)


def _cancel(result: Any) -> None:
    """Cancels a job unless it has ended, or says that it may go on."""
    problems: list[str] = []

    def cancel() -> None:
        try:
            if not PipelineState.is_terminal(result.state):
                result.cancel()
        except Exception as error:  # noqa: BLE001 - of any engine; it is told
            problems.append(failures.cause(error))

    asking = threading.Thread(target=cancel, name="cancel", daemon=True)
    asking.start()
    asking.join(CANCEL_S)
    if asking.is_alive():
        problems.append(f"the engine did not answer within {CANCEL_S:g} s")
    if problems:
        job = getattr(result, "_job_id", None) or getattr(result, "job_id", lambda: None)()
        named = f"The Beam job {job}" if job else "The Beam job"
        Progress("beam").line(
            f"{named} could not be cancelled: {problems[0]}. It may still run: cancel it there."
        )


def _original(error: BaseException) -> EstimatorLibError | None:
    for one in failures.chain(error):
        # One that Beam made anew, with a longer message, has lost its reason.
        if isinstance(one, EstimatorLibError) and not hasattr(one, "_tagged_with_step"):
            return one
    return None


_OWN = re.compile(r"^estimator_lib\.core\.errors\.(\w+): ", re.MULTILINE)
_WHILE = re.compile(r" \[while running '[^']*'\]")


def _from_text(text: str) -> EstimatorLibError | None:
    """Our error in the stack trace that a worker sent as text; its reason is lost on the way."""
    found = _OWN.search(text)
    kind = getattr(errors, found[1], None) if found else None
    if found is None or kind is None:
        return None
    message = _WHILE.split(text[found.end() :], maxsplit=1)[0].strip()
    return cast(EstimatorLibError, kind(message, reason=Reason.STEP_FAILED))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Beam's own notices out of the terminal; errors reach the caller as exceptions."""
    beam_log = logging.getLogger("apache_beam")
    # FnApiRunner logs every failed bundle with its stack trace through these two.
    named = [beam_log, logging.getLogger("root")]
    before = [logger.level for logger in named]
    for logger in named:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(named, before, strict=True):
            logger.setLevel(level)
