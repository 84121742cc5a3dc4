"""One run of a pipeline on this machine, from configuration to summary."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import pathlib
import signal
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any, get_args

from estimator_lib.core import files, manifest, spans, storage, stores
from estimator_lib.core.config import Cluster, Placement, RunConfiguration, Step
from estimator_lib.core.errors import PipelineError, StorageError
from estimator_lib.core.places import SCHEMES, Place
from estimator_lib.evaluation.configured import check_metric_names
from estimator_lib.export import retention
from pipelines import definitions
from pipelines.code_version import code_version
from pipelines.local import output as outputs
from pipelines.local.engine import Execution, Show, execute
from pipelines.local.warm_steps import WarmSteps

SUMMARY, REPORT = "run.json", "report.html"
"""What a run leaves at the top of its output, beside directories."""


def run(
    config: RunConfiguration,
    *,
    base_dir: pathlib.Path,
    output: stores.Where,
    show: Show,
    steps: WarmSteps | None = None,
) -> dict[str, Any]:
    """Runs the configuration's pipeline and returns the summary that `run.json` holds.

    Steps whose inputs, parameters and code did not change are taken from the cache below
    `output`. A killed run goes on where it was when it is started again.

    Args:
        config: The run configuration.
        base_dir: Where its relative file patterns start, usually the file's own directory.
        output: For everything the run leaves, a path or URI.
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
    with outputs.held(Place.parse(output)) as kept, contextlib.ExitStack() as running:
        _sweep(kept.folder / "artifacts")
        logs = storage.make_directory(kept.folder / outputs.LOGS)
        if steps is None:
            server = WarmSteps(logs / "steps.log", path=[str(p) for p in search])
            steps = running.enter_context(server)
        fingerprint = files.fingerprint([*raw, *judged_by], base_dir)
        if definitions.reads_elsewhere(config):
            fingerprint = _with_elsewhere(config, fingerprint)
        show(f"{config.name}: {len(raw)} files, data {fingerprint[:8]}, code {version[:8]}")

        # By its number, so that the cache sees a new one.
        newest = retention.newest(kept.below("serving")) or ""
        arguments = {
            "base_dir": str(base_dir.resolve()),
            "analysis_cache": kept.below("analysis"),
            "champion": newest if config.evaluate.compares else "",
            "study_root": kept.below("studies"),
            "model": newest or kept.below("serving"),
            "checkpoint_root": kept.below("checkpoints"),
            "serving_dir": kept.below("serving"),
            "data_fingerprint": fingerprint,
            "code_version": version,
        }
        build = functools.partial(definitions.build, _without_retries(config))
        execution = execute(build, arguments, output=kept, steps=steps, show=show)
        summary = {
            **_results(execution, kept),
            "cached": list(execution.cached),
            "seconds": {**execution.seconds, "total": round(time.monotonic() - began, 2)},
        }
        storage.write_json(kept.folder / SUMMARY, summary)
        kept.carry(SUMMARY)
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
        if not Place.parse(name).is_local:
            continue
        place = base_dir / name
        found += sorted(place.rglob("*.pb")) if place.is_dir() else files.expand([name], base_dir)
    return found


def _with_elsewhere(config: RunConfiguration, fingerprint: str) -> str:
    """Returns the fingerprint of what the pipeline reads, of other machines too.

    Files of stores have versions. Of anything else there may be other rows each time.
    """
    patterns = [pattern for several in definitions.patterns(config).values() for pattern in several]
    uris = [pattern for pattern in patterns if not Place.parse(pattern).is_local]
    wanted = config.data_schema
    if wanted is not None:
        for name in filter(None, (wanted.path, wanted.previous, wanted.serving)):
            if not Place.parse(name).is_local:
                uris += [name, f"{name.rstrip('/')}/**"]
    if not patterns or any(Place.parse(uri).scheme not in SCHEMES for uri in uris):
        return uuid.uuid4().hex
    versions: dict[str, str] = {}
    for uri in uris:
        plain, choose = spans.parse(uri)
        found = dict(item for one in plain for item in stores.matching(Place(one)).items())
        versions |= {name: found[name].version for name in choose(found)}
    return hashlib.sha256(storage.canonical_json([fingerprint, versions]).encode()).hexdigest()


def _without_retries(config: RunConfiguration) -> RunConfiguration:
    """KFP would try every failure again; the steps do it themselves, with those that may pass."""
    once = {name: Placement(retries=0) for name in get_args(Step)}
    return config.model_copy(update={"cluster": Cluster(steps=once)})


def _results(execution: Execution, kept: outputs.Output) -> dict[str, Any]:
    """What the pipeline's artifacts say: a model and how good it is, or predictions."""
    found = execution.outputs
    if "predict.predictions" in found:
        scored = found["predict.predictions"]
        return {"predictions": {**manifest.read(scored).metadata, "directory": str(scored)}}
    counts = manifest.read(found["preprocess.examples"], kind="examples").metadata["counts"]
    rows = {
        "read": sum(split["read"] for split in counts.values()),
        "skipped": sum(split["skipped"] for split in counts.values()),
        "splits": {name: split["kept"] for name, split in counts.items()},
    }
    evaluation = json.loads((found["evaluate.evaluation"] / "evaluation.json").read_text())
    storage.write_bytes(kept.folder / REPORT, found["evaluate.report"].read_bytes())
    kept.carry(REPORT)
    model = None
    if "export.saved_model" in found:
        exported = manifest.read(found["export.saved_model"]).metadata
        model = exported["published"]
    elif evaluation["verdict"] == "blessed":
        raise PipelineError(
            "The model was blessed but the export step did not run. See logs/kfp.log.",
        )
    return {
        **_read_search(found),
        "rows": rows,
        "evaluation": evaluation,
        "report": kept.below(REPORT),
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
