"""Child processes: the one place that knows forks, signals, sessions and exit codes.

Layer 0. A child is forked from a process that has imported what is needed, and used none of it:
it starts at once, its memory is gone when it ends, and one that is killed ends alone. Trials of a
search, steps of a run on this machine and the check of an export are such children. Nothing is
orphaned: the kernel kills a child when its parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import multiprocessing
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import IO, Any, NoReturn

from estimator_lib.core import storage
from estimator_lib.core.errors import EstimatorLibError, Failure, PipelineError, Reason

INTERRUPTED = 130
_PR_SET_PDEATHSIG = 1
_ROOT = str(pathlib.Path(__file__).parents[2])
_START = (
    "import importlib, sys; sys.path.append(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(*sys.argv[3:])"
)


def interpreter(
    module: str,
    *arguments: str,
    stdin: int | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `main(*arguments)` of a module of this project in a new interpreter.

    Its path never begins with the current directory, where a file may have the name of one of
    Python's own modules.

    Args:
        module: Its full name.
        arguments: What its `main` is given.
        stdin: As of `subprocess.Popen`.
        stdout: As of `subprocess.Popen`.
        stderr: As of `subprocess.Popen`.
        environment: All variables; by default those of this process.
    """
    command = [sys.executable, "-P", "-c", _START, _ROOT, module, *arguments]
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment
    )


def fork(
    body: Callable[[], object],
    *,
    outlive: bool = False,
    session: bool = False,
    streams: Mapping[int, int] | None = None,
) -> int:
    """Forks a child that runs `body` and ends; returns its process id.

    Its exit code is that of a SystemExit, 130 after an interrupt, 1 after another exception, whose
    stack trace it prints, else 0. It runs no exit handlers: thread pools of TensorFlow and Beam
    would hold them up.

    Args:
        body: What the child does.
        outlive: Whether it may end after this process, which then it watches itself.
        session: Whether it leaves the terminal's process group, and so gets no Ctrl-C of its own.
        streams: Descriptors of the child and what they become copies of; standard input is empty.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(body, None if outlive else parent, session, streams or {})
    return child


def _become(
    body: Callable[[], object], parent: int | None, session: bool, streams: Mapping[int, int]
) -> NoReturn:
    code = 1
    try:
        if parent is not None:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before it could be watched
                os._exit(code)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if session:
            os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in {0: null, **streams}.items():
            os.dup2(source, target)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
        body()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001 - the boundary of the process: report and leave
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait_or_stop(child: int, client: int, *, grace_s: float) -> int:
    """Returns a child's exit code when it has ended; negative is the signal that killed it.

    Args:
        child: Its process id.
        client: A descriptor that becomes readable when nobody waits for the child any more: it is
            interrupted then.
        grace_s: How long an interrupted child may take to clean up; then it is killed.
    """
    handle = os.pidfd_open(child)
    if handle not in select.select([handle, client], [], [])[0]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)
        if not select.select([handle], [], [], grace_s)[0]:
            os.kill(child, signal.SIGKILL)
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def describe(code: int) -> str:
    """Returns how a process ended, by its exit code, such as "exit code 1" or "SIGSEGV"."""
    if code >= 0:
        return f"exit code {code}"
    hint = "; it may have run out of memory" if code == -signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}"


@dataclasses.dataclass(frozen=True)
class Message:
    """What a child says on its way: a JSON value."""

    content: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """What a child says last.

    Attributes:
        value: What its function returned, a JSON value.
        failure: Why it did not return; the child's own error where it raised one.
        code: The exit code of a child that died without a word; negative is the signal that
            killed it.
    """

    value: Any = None
    failure: EstimatorLibError | None = None
    code: int | None = None


class Parent:
    """The other end of a child's pipe, as its function gets it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, content: object) -> None:
        """Tells the parent a JSON value."""
        self._connection.send_bytes(json.dumps({"content": content}).encode())

    def hear(self) -> Any:
        """Waits for what the parent says; a parent that has gone ends the process."""
        try:
            return json.loads(self._connection.recv_bytes())
        except EOFError as error:
            raise SystemExit(1) from error


class Child:
    """A forked process that talks with this one.

    Args:
        name: What messages call it, such as "trial 3".
        body: What it does; what it returns, or the error that it raises, is its last word.
        output: A descriptor that its standard output and error become copies of; by default the
            output is dropped, and errors go where ours go.
        session: See `fork`.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[Parent], object],
        *,
        output: int | None = None,
        session: bool = False,
    ) -> None:
        self._name = name
        self._connection, theirs = multiprocessing.Pipe()

        def run() -> None:
            self._connection.close()
            theirs.send_bytes(json.dumps(_last_word(lambda: body(Parent(theirs)))).encode())

        null = os.open(os.devnull, os.O_WRONLY)
        streams = {1: null} if output is None else {1: output, 2: output}
        self._pid: int | None = fork(run, session=session, streams=streams)
        os.close(null)
        theirs.close()

    def fileno(self) -> int:
        """Returns a descriptor that becomes readable when there is something to hear."""
        return self._connection.fileno()

    def say(self, content: object) -> None:
        """Tells the child a JSON value; if it has died, that is the next thing to hear."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(content).encode())

    def hear(self, timeout_s: float | None = None) -> Message | Ended:
        """Waits for what the child says next; after its last word it has ended.

        Args:
            timeout_s: After which a silent child is killed; None waits for ever.
        """
        try:
            if not self._connection.poll(timeout_s):
                self.kill()
                return self._failed("gave no answer in time")
            said = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            code = self._join()
            return self._failed(f"was ended by {describe(code)}", code)
        if "content" in said:
            return Message(said["content"])
        self._join()
        if "value" in said:
            return Ended(value=said["value"])
        return Ended(failure=Failure(*said["failure"]).error())

    def wait(self, timeout_s: float | None = None) -> Ended:
        """Waits for the end of a child that says nothing before it; see `hear`."""
        said = self.hear(timeout_s)
        if isinstance(said, Message):
            raise TypeError(f"{self._name} said {said.content!r}; expected its last word")
        return said

    def ask_to_end(self) -> None:
        """Sends SIGTERM to a child that has not ended."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the child at once."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._join()

    def _join(self) -> int:
        self._connection.close()
        if self._pid is None:
            return 0
        pid, self._pid = self._pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _failed(self, how: str, code: int | None = None) -> Ended:
        problem = f"The process of {self._name} {how}."
        return Ended(failure=PipelineError(problem), code=code)


def _last_word(body: Callable[[], object]) -> dict[str, object]:
    try:
        with storage.errors_of_libraries():
            return {"value": body()}
    except EstimatorLibError as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - the parent decides what it means
        sys.excepthook(*sys.exc_info())
        problem = f"{type(error).__name__}: {error}"
        failure = PipelineError(problem)
    return {"failure": Failure.of(failure)}


@contextlib.contextmanager
def ending_on_sigterm(what: str) -> Iterator[None]:
    """Makes SIGTERM an error that asks to run again; a second one ends the process at once.

    Training notes it itself, and saves first. A library that the error is raised into may swallow
    it, or make another of it (as TensorFlow does while it traces): it is raised at the end anyway.

    Args:
        what: Who is asked to end, "step" or "command".

    Raises:
        PipelineError: `retryable`; the reason is INTERRUPTED.
    """
    asked: list[PipelineError] = []

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        error = PipelineError(
            f"The {what} was asked to end by SIGTERM. Run it again; nothing half-written is left.",
            reason=Reason.INTERRUPTED,
        )
        error.retryable = True
        asked.append(error)
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except Exception as error:
        if asked and error is not asked[0]:
            raise asked[0] from error
        raise
    else:
        if asked:
            raise asked[0]
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Raises an interrupt after the block: while a process forks, Python would lose it."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
