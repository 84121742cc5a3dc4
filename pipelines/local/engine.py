"""Runs a pipeline on this machine through kfp.local, warm, cached and quiet.

KFP interprets the graph: order, conditions, retries, caching, artifacts. Three of its seams are
used here, and `tests/contract/test_kfp_seams.py` fails when a KFP release moves one of them:

* `subprocess_task_handler.run_local_subprocess` starts a step; ours asks the step server.
* the cache singleton; `verified_cache` has a damaged artifact made again.
* KFP's own log lines go to a file; the terminal shows the steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components.steps.step import ERROR_MARK, FAILURE
from estimator_lib.core import logs, storage
from estimator_lib.core.environment import RETRIES
from estimator_lib.core.errors import EstimatorLibError, PipelineError
from pipelines.local.output import CACHE, LOGS, Output
from pipelines.local.warm_steps import WarmSteps

Show = Callable[[str], None]
_TAIL_LINES = 5
_RETRY = 75
_RETRIES = 1
"""How often a step tries again by itself."""


class _Session:
    """One run: starts steps, remembers how they ended and which came from the cache."""

    def __init__(self, steps: WarmSteps, logs: pathlib.Path, show: Show) -> None:
        self._steps = steps
        self._logs = logs
        self._show = show
        self.failure: EstimatorLibError | None = None
        self.failed_step = ""
        self.cached: list[str] = []
        self.seconds: dict[str, float] = {}
        self._started: dict[str, int] = {}

    def run_step(
        self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None
    ) -> int:
        """Stands in for `run_local_subprocess`: same arguments, same result."""
        script = next(i for i, part in enumerate(full_command) if "ephemeral_component.py" in part)
        rest = list(full_command[script + 1 :])
        name = rest[rest.index("--function_to_execute") + 1]
        number = self._started[name] = self._started.get(name, 0) + 1
        log = self._logs / (f"{name}.log" if number == 1 else f"{name}-{number}.log")
        self._show(f"\n{name}")
        environment = {RETRIES: str(_RETRIES), **(env_vars or {})}
        if self.failure is not None:  # this one does not depend on it: the exit handler
            environment[FAILURE] = f"{self.failed_step}: {self.failure}"
        try:
            code, failure = self._attempt(name, rest, environment, log)
        except OSError as error:
            failure = storage.storage_error("run a step with", error.filename or log, error)
            code = failure.exit_code
        if self.failure is None:
            self.failure, self.failed_step = failure, name
        return code

    def _attempt(
        self, name: str, rest: Sequence[str], environment: Mapping[str, str], log: pathlib.Path
    ) -> tuple[int, EstimatorLibError | None]:
        said: list[str] = []

        def line(shown: str) -> None:
            text = logs.text(shown)
            if text.startswith(ERROR_MARK):
                said.append(text.removeprefix(ERROR_MARK))
            if text is not shown or not text.startswith(ERROR_MARK):
                self._show(f"  {shown}")

        self._steps.wait(line)
        began = time.monotonic()
        log.write_bytes(b"")
        code = self._steps.run(
            source=rest[0],
            function=name,
            executor_input=rest[rest.index("--executor_input") + 1],
            environment=environment,
            log=log,
            show=line,
        )
        seconds = round(time.monotonic() - began, 2)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 2)
        if code != 0:
            return code, _failure(name, code, said, log)
        self._show(f"  done in {seconds:.1f} s")
        return code, None

    def from_cache(self, name: str) -> None:
        """Notes that a step's outputs were taken from the cache."""
        if name not in self.cached:
            self.cached.append(name)
        self._show(f"\n{name}\n  from cache: nothing it reads has changed")


def _failure(name: str, code: int, said: Sequence[str], log: pathlib.Path) -> EstimatorLibError:
    if said:
        return PipelineError.from_exit("\n".join(said), code)
    if code < 0:
        cause = f"was killed by {signal.Signals(-code).name}"
        hint = " It may have run out of memory." if code == -signal.SIGKILL else ""
    else:
        cause, hint = f"failed with exit code {code}", ""
    tail = log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    last = f" Its last word: {tail[-1].strip()}" if tail else ""
    # By SIGTERM before it could say so, or twice: asked to end, which may pass.
    code = _RETRY if code == -signal.SIGTERM else code
    return PipelineError.from_exit(f"Step {name} {cause}.{hint}{last} See {log}.", code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """What a finished pipeline left.

    Attributes:
        outputs: File or directory of each artifact, by `task.name`.
        cached: Tasks whose outputs were taken from the cache.
        seconds: Time of the tasks that ran; of a task that ran several times, in all.
    """

    outputs: Mapping[str, pathlib.Path]
    cached: Sequence[str]
    seconds: Mapping[str, float]


def execute(
    build: Callable[[], Any],
    arguments: Mapping[str, Any],
    *,
    output: Output,
    steps: WarmSteps,
    show: Show,
) -> Execution:
    """Runs a pipeline and returns what it left.

    Args:
        build: Returns the KFP pipeline; called when kfp may be imported.
        arguments: Parameters by name; those that the pipeline does not have are left out.
        output: Its folder gets `artifacts/`, `cache/` and `logs/`.
        steps: The server that runs the steps.
        show: Called with each line for the user.

    Raises:
        EstimatorLibError: a step failed, with its own message and exit code.
    """
    logs = storage.make_directory(output.folder / LOGS)
    session = _Session(steps, logs, show)
    with _quiet_kfp(logs / "kfp.log"):
        from kfp import local
        from kfp.local import cache, subprocess_task_handler

        from pipelines.local.verified_cache import VerifiedCache

        store = str(output.folder / CACHE)
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(output.folder / "artifacts"),
            enable_caching=True,
            cache_root=store,
        )
        known = VerifiedCache(output, session.from_cache)
        original = subprocess_task_handler.run_local_subprocess
        cache._cache_singleton, cache._cache_singleton_root = known, store
        subprocess_task_handler.run_local_subprocess = session.run_step
        try:
            pipeline = build()
            known_names = pipeline.component_spec.inputs or {}
            pipeline(**{n: value for n, value in arguments.items() if n in known_names})
        except RuntimeError as error:
            raise session.failure or error from error
        finally:
            subprocess_task_handler.run_local_subprocess = original
            cache.reset_local_cache_singleton()
    outputs = {
        f"{task}.{name}": pathlib.Path(value.path)
        for task, values in known.outputs.items()
        for name, value in values.items()
        if hasattr(value, "path")
    }
    return Execution(outputs=outputs, cached=session.cached, seconds=session.seconds)


@contextlib.contextmanager
def _quiet_kfp(log: pathlib.Path) -> Iterator[None]:
    """Sends what KFP prints and logs to a file."""
    with (
        open(log, "a", encoding="utf-8") as sink,
        contextlib.redirect_stdout(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
