"""One run of a pipeline on this machine, from configuration to summary."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import pathlib
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from estimator_lib.core import files, manifest, storage
from estimator_lib.core.config import Cluster, Placement, RunConfiguration, Step
from estimator_lib.core.errors import PipelineError, Reason, StorageError
from estimator_lib.evaluation.configured import check_metric_names
from estimator_lib.export import retention
from pipelines import definitions
from pipelines.code_version import code_version
from pipelines.local.engine import Execution, Show, execute
from pipelines.local.warm_steps import WarmSteps


def run(
    config: RunConfiguration,
    *,
    base_dir: pathlib.Path,
    output: pathlib.Path,
    show: Show,
    steps: WarmSteps | None = None,
) -> dict[str, Any]:
    """Runs the configuration's pipeline and returns the summary that `run.json` holds.

    Steps whose inputs, parameters and code did not change are taken from the cache below
    `output`. A killed run goes on where it was when it is started again.

    Args:
        config: The run configuration.
        base_dir: Where its relative file patterns start, usually the file's own directory.
        output: Directory for everything the run leaves.
        show: Called with each line for the user.
        steps: A step server to use; by default one is started for this run.

    Raises:
        EstimatorLibError: a step failed, with the step's own message and exit code; or another
            run is using `output`.
    """
    began = time.monotonic()
    check_metric_names(config)
    inputs = files.expand_splits(definitions.local_patterns(config), base_dir)
    search = (base_dir.resolve(), pathlib.Path.cwd())
    version = code_version(definitions.functions(config), search)
    raw = [path for paths in inputs.values() for path in paths]
    judged_by = schema_files(config, base_dir)
    output = output.resolve()
    with lease(output), contextlib.ExitStack() as running:
        _sweep(output / "artifacts")
        logs = storage.make_directory(output / "logs")
        if steps is None:
            server = WarmSteps(logs / "steps.log", path=[str(p) for p in search])
            steps = running.enter_context(server)
        fingerprint = files.fingerprint([*raw, *judged_by], base_dir)
        if definitions.reads_elsewhere(config):
            fingerprint = uuid.uuid4().hex  # there may be other rows each time
        show(f"{config.name}: {len(raw)} files, data {fingerprint[:8]}, code {version[:8]}")

        # By its number, so that the cache sees a new one.
        newest = retention.newest(output / "serving") or ""
        arguments = {
            "base_dir": str(base_dir.resolve()),
            "analysis_cache": str(output / "analysis"),
            "champion": newest if config.evaluate.compares else "",
            "study_root": str(output / "studies"),
            "model": newest or str(output / "serving"),
            "checkpoint_root": str(output / "checkpoints"),
            "serving_dir": str(output / "serving"),
            "data_fingerprint": fingerprint,
            "code_version": version,
        }
        build = functools.partial(definitions.build, _without_retries(config))
        execution = execute(build, arguments, output=output, steps=steps, show=show)
        summary = {
            **_results(execution, output),
            "cached": list(execution.cached),
            "seconds": {**execution.seconds, "total": round(time.monotonic() - began, 2)},
        }
        storage.write_json(output / "run.json", summary)
    return summary


def schema_files(config: RunConfiguration, base_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files here that the data is judged by: schema, statistics to compare with.

    Raises:
        DataError: one of them is not there.
    """
    wanted = config.data_schema
    if wanted is None:
        return []
    found: list[pathlib.Path] = []
    for name in filter(None, (wanted.path, wanted.previous, wanted.serving)):
        if storage.is_uri(name):
            continue
        place = base_dir / name
        found += sorted(place.rglob("*.pb")) if place.is_dir() else files.expand([name], base_dir)
    return found


def _without_retries(config: RunConfiguration) -> RunConfiguration:
    """KFP would try every failure again; the steps do it themselves, with those that may pass."""
    once = {name: Placement(retries=0) for name in get_args(Step)}
    return config.model_copy(update={"cluster": Cluster(steps=once)})


def _results(execution: Execution, output: pathlib.Path) -> dict[str, Any]:
    """What the pipeline's artifacts say: a model and how good it is, or predictions."""
    outputs = execution.outputs
    if "predict.predictions" in outputs:
        scored = outputs["predict.predictions"]
        return {"predictions": {**manifest.read(scored).metadata, "directory": str(scored)}}
    counts = manifest.read(outputs["preprocess.examples"], kind="examples").metadata["counts"]
    rows = {
        "read": sum(split["read"] for split in counts.values()),
        "skipped": sum(split["skipped"] for split in counts.values()),
        "splits": {name: split["kept"] for name, split in counts.items()},
    }
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
        )
    return {
        **_read_search(outputs),
        "rows": rows,
        "evaluation": evaluation,
        "report": str(report),
        "model": model,
    }


def _read_search(outputs: Mapping[str, pathlib.Path]) -> dict[str, Any]:
    """What a search found, if there was one."""
    best = outputs.get("tune.best", outputs.get("choose.best"))
    if best is None:
        return {}
    found = json.loads((best / "best.json").read_text())
    told = ("trial", "metric", "value", "arguments")
    return {"tuned": {name: found[name] for name in told} | {"trials": len(found["trials"])}}


@contextlib.contextmanager
def lease(output: pathlib.Path) -> Iterator[None]:
    """Holds `output` for one run; the kernel gives it up when the process dies."""
    storage.make_directory(output)
    path = output / ".lock"
    with contextlib.ExitStack() as held:
        with storage.storage_errors("lock", path):
            lock = held.enter_context(open(path, "a", encoding="utf-8"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PipelineError(
                    f"Another run is using {output}. Wait for it, or give another --output.",
                    reason=Reason.LEASED,
                ) from error
        yield


def _sweep(artifacts: pathlib.Path) -> None:
    """Removes what steps of earlier runs were writing when they were killed."""
    for step in artifacts.glob("*/*/"):
        with contextlib.suppress(StorageError):  # it is in nobody's way
            storage.sweep_staging(step)


def interruptible() -> None:
    """Makes SIGTERM leave as Ctrl-C does: steps are stopped and clean up.

    Another SIGTERM changes nothing, or it might meet Python when that has let go of its handlers.
    """

    def leave(number: int, _: object) -> None:
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def terminal(line: str) -> None:
    """Shows one line on the terminal, whatever standard output is redirected to."""
    out = sys.__stdout__
    if out is not None:
        out.write(line + "\n")
        out.flush()
