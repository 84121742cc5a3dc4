"""Runs a pipeline on this machine through kfp.local, warm, cached and quiet.

KFP interprets the graph: order, conditions, retries, caching, artifacts. Three of its seams are
used here, and `tests/contract/test_kfp_seams.py` fails when a KFP release moves one of them:

* `subprocess_task_handler.run_local_subprocess` starts a step; ours asks the step server.
* the cache singleton; ours also verifies manifests, so that a damaged artifact is made again.
* KFP's own log lines go to a file; the terminal shows the steps.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from components.step import ERROR_MARK
from estimator_lib.core import files, manifest, storage
from estimator_lib.core.config import Cluster, Placement, RunConfiguration, Step
from estimator_lib.core.errors import DataError, EstimatorLibError, PipelineError, Reason
from pipelines.code_version import code_version
from pipelines.warm_steps import WarmSteps

Show = Callable[[str], None]
_TAIL_LINES = 5
_ATTEMPTS = 3
"""How often a step is started while it ends with the exit code that asks for a retry."""


def run(
    config: RunConfiguration, *, base_dir: pathlib.Path, output: pathlib.Path, show: Show
) -> dict[str, Any]:
    """Runs the training pipeline and returns the summary that `run.json` holds.

    Steps whose inputs, parameters and code did not change are taken from the cache below
    `output`. A killed run goes on where it was when it is started again.

    Args:
        config: The run configuration.
        base_dir: Where its relative file patterns start, usually the file's own directory.
        output: Directory for everything the run leaves.
        show: Called with each line for the user.

    Raises:
        EstimatorLibError: a step failed, with the step's own message and exit code; or another
            run is using `output`.
    """
    began = time.monotonic()
    inputs = files.expand_splits(config.data.patterns(), base_dir)
    search = (base_dir, pathlib.Path.cwd())
    version = code_version(config.estimator.function, search)
    raw = [path for paths in inputs.values() for path in paths]
    fingerprint = files.fingerprint(raw, base_dir)
    output = output.resolve()
    with _lease(output):
        logs = storage.make_directory(output / "logs")
        show(f"{config.name}: {len(raw)} files, data {fingerprint[:8]}, code {version[:8]}")
        with WarmSteps(logs / "steps.log", path=[str(p) for p in search]) as steps:
            arguments = {
                "base_dir": str(base_dir.resolve()),
                "checkpoint_root": str(output / "checkpoints"),
                "serving_dir": str(output / "serving"),
                "data_fingerprint": fingerprint,
                "code_version": version,
            }
            session = _Session(steps, logs, show)
            outputs = _run_pipeline(config, arguments, output, session)
        summary = _summary(outputs, output, session, time.monotonic() - began)
        storage.write_json(output / "run.json", summary)
    return summary


class _Session:
    """One run: starts steps, remembers how they ended and which came from the cache."""

    def __init__(self, steps: WarmSteps, logs: pathlib.Path, show: Show) -> None:
        self._steps = steps
        self._logs = logs
        self._show = show
        self.failure: EstimatorLibError | None = None
        self.cached: list[str] = []
        self.seconds: dict[str, float] = {}

    def run_step(
        self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None
    ) -> int:
        """Stands in for `run_local_subprocess`: same arguments, same result."""
        script = next(i for i, part in enumerate(full_command) if "ephemeral_component.py" in part)
        rest = list(full_command[script + 1 :])
        name = rest[rest.index("--function_to_execute") + 1]
        log = self._logs / f"{name}.log"
        self._show(f"\n{name}")
        for attempt in range(_ATTEMPTS):
            code = self._attempt(name, rest, env_vars or {}, log)
            if code == 0 or (self.failure is not None and not self.failure.retryable):
                break
            if attempt + 1 < _ATTEMPTS:
                self._show(f"  {self.failure} Trying again.")
        return code

    def _attempt(
        self, name: str, rest: Sequence[str], environment: Mapping[str, str], log: pathlib.Path
    ) -> int:
        said: list[str] = []

        def line(text: str) -> None:
            if text.startswith(ERROR_MARK):
                said.append(text.removeprefix(ERROR_MARK))
            else:
                self._show(f"  {text}")

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
        self.seconds[name] = round(time.monotonic() - began, 2)
        if code == 0:
            self.failure = None
            self._show(f"  done in {self.seconds[name]:.1f} s")
        else:
            self.failure = _failure(name, code, said, log)
        return code

    def from_cache(self, name: str) -> None:
        """Notes that a step's outputs were taken from the cache."""
        self.cached.append(name)
        self._show(f"\n{name}\n  from cache: nothing it reads has changed")


def _failure(name: str, code: int, said: Sequence[str], log: pathlib.Path) -> EstimatorLibError:
    if said:
        return PipelineError.from_exit(said[-1], code)
    if code < 0:
        cause = f"was killed by {signal.Signals(-code).name}"
        hint = " It may have run out of memory." if code == -signal.SIGKILL else ""
    else:
        cause, hint = f"failed with exit code {code}", ""
    tail = log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    last = f" Its last word: {tail[-1].strip()}" if tail else ""
    return PipelineError.from_exit(f"Step {name} {cause}.{hint}{last} See {log}.", code)


def _run_pipeline(
    config: RunConfiguration,
    arguments: Mapping[str, str],
    output: pathlib.Path,
    session: _Session,
) -> dict[str, pathlib.Path]:
    """Runs the graph and returns the directory of each finished artifact, by task and name."""
    with _quiet_kfp(output / "logs" / "kfp.log"):
        from kfp import local
        from kfp.local import cache, subprocess_task_handler

        from pipelines import training

        class VerifiedCache(cache.LocalCache):  # type: ignore[misc]
            """KFP's cache, which knows steps by name and believes only whole artifacts."""

            def __init__(self, cache_root: str) -> None:
                super().__init__(cache_root)
                self.names: dict[str, str] = {}
                self.outputs: dict[str, dict[str, Any]] = {}

            def compute_key(self, component_name: str, *args: Any, **kwargs: Any) -> str:
                key: str = super().compute_key(component_name, *args, **kwargs)
                self.names[key] = component_name.removeprefix("comp-")
                return key

            def get(self, key: str) -> dict[str, Any] | None:
                found: dict[str, Any] | None = super().get(key)
                if found is None or not all(_is_whole(value) for value in found.values()):
                    return None
                self.outputs[self.names[key]] = found
                session.from_cache(self.names[key])
                return found

            def put(self, key: str, outputs: dict[str, Any]) -> None:
                self.outputs[self.names[key]] = outputs
                super().put(key, outputs)

        store = str(output / "cache")
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(output / "artifacts"),
            enable_caching=True,
            cache_root=store,
        )
        known = VerifiedCache(store)
        original = subprocess_task_handler.run_local_subprocess
        cache._cache_singleton, cache._cache_singleton_root = known, store
        subprocess_task_handler.run_local_subprocess = session.run_step
        try:
            training.build(_without_retries(config))(**arguments)
        except RuntimeError as error:
            raise session.failure or error from error
        finally:
            subprocess_task_handler.run_local_subprocess = original
            cache.reset_local_cache_singleton()
    return {
        f"{task}.{name}": pathlib.Path(value.path)
        for task, outputs in known.outputs.items()
        for name, value in outputs.items()
        if hasattr(value, "path")
    }


def _without_retries(config: RunConfiguration) -> RunConfiguration:
    """KFP retries every failure, with minutes between; here only those that may pass are."""
    once = {name: Placement(retries=0) for name in get_args(Step)}
    return config.model_copy(update={"cluster": Cluster(steps=once)})


def _is_whole(value: Any) -> bool:
    """Whether a cached output may be used again."""
    path = getattr(value, "path", None)
    if path is None:
        return True
    published = value.metadata.get("published")
    if published and not os.path.isdir(published):
        return False
    if not os.path.isdir(path):
        return os.path.exists(path)
    try:
        manifest.verify(path)
    except DataError:
        return False
    return True


def _summary(
    outputs: Mapping[str, pathlib.Path], output: pathlib.Path, session: _Session, seconds: float
) -> dict[str, Any]:
    rows = manifest.read(outputs["preprocess.examples"], kind="examples").metadata["counts"]
    evaluation = json.loads((outputs["evaluate.evaluation"] / "evaluation.json").read_text())
    report = output / "report.html"
    storage.write_bytes(report, outputs["evaluate.report"].read_bytes())
    model = None
    if "export.saved_model" in outputs:
        exported = manifest.read(outputs["export.saved_model"]).metadata
        model = exported["published"]
    elif evaluation["verdict"] == "blessed":
        raise PipelineError(
            "The model was blessed but the export step did not run. See logs/kfp.log.",
            reason=Reason.STEP_FAILED,
        )
    return {
        "rows": rows,
        "evaluation": evaluation,
        "report": str(report),
        "model": model,
        "cached": session.cached,
        "seconds": {**session.seconds, "total": round(seconds, 2)},
    }


@contextlib.contextmanager
def _quiet_kfp(log: pathlib.Path) -> Iterator[None]:
    """Sends what KFP prints and logs to a file."""
    import warnings

    with (
        open(log, "a", encoding="utf-8") as sink,
        contextlib.redirect_stdout(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _lease(output: pathlib.Path) -> Iterator[None]:
    """Holds `output` for one run; the kernel gives it up when the process dies."""
    storage.make_directory(output)
    with open(output / ".lock", "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PipelineError(
                f"Another run is using {output}. Wait for it, or give another --output.",
                reason=Reason.LEASED,
            ) from error
        yield


def interruptible() -> None:
    """Makes SIGTERM leave as Ctrl-C does: steps are stopped and clean up."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def terminal(line: str) -> None:
    """Shows one line on the terminal, whatever standard output is redirected to."""
    out = sys.__stdout__
    if out is not None:
        out.write(line + "\n")
        out.flush()
