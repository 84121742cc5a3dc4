"""Trains the Estimator of a configuration on examples."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from kfp import dsl

import estimator_lib
from components.steps import model as artifact
from components.steps import work
from components.steps.scoring import BATCH_ROWS
from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.config import EarlyStopping, Processes, TrainPart
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.core.processes import Child
from estimator_lib.export import retention
from estimator_lib.inputs.arrays import RowsInput
from estimator_lib.inputs.parquet import examples_input
from estimator_lib.training import carry_over, devices, history
from estimator_lib.training.checkpoints import step_of
from estimator_lib.training.early_stopping import MetricStoppingHook
from estimator_lib.training.warm_start import WarmStartSettings

if TYPE_CHECKING:
    import tensorflow as tf

KEPT_TRAININGS = 3
"""How many trainings' working directories stay below checkpoint_root, newest first."""

_STOPPING = "train.early_stopping.metric"
GRACE_S = 45.0
"""How long a chief that was asked to end may take to save; a pod is given a minute."""
CURVE_POINTS = 60
"""About how many points the training curve has."""


def run(
    config: str,
    checkpoint_root: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    model: dsl.Artifact,
    champion: str = "",
) -> None:
    """Runs the step; see `components.train`."""
    part = TrainPart.from_json(config)
    prepared = manifest.verify(examples.path, deep=True)
    newest = retention.newest(champion) if part.train.warm_start else None
    serving = None if newest is None else str(retention.fetch(newest))
    parents = {
        "examples": prepared.digest,
        "transform": manifest.verify(transform.path, deep=True).digest,
        "code_version": code_version,
        **({"parent": carry_over.parent(serving)} if serving else {}),
    }
    columns = artifact.read_columns(transform.path)
    identity = storage.canonical_json([config, parents])
    with (
        work.directory(checkpoint_root, _key(identity), keep=KEPT_TRAININGS) as held,
        manifest.committed_artifact(model.path) as writer,
    ):
        checkpoint, step, metrics = fit(
            part, columns, examples.path, prepared.metadata, held.path, serving, carry=held.carry
        )
        _write(writer, identity, part, held.path, checkpoint, {"step": step, **parents})
    model.framework = "tensorflow"
    model.metadata.update(
        {
            "digest": manifest.read(model.path).digest,
            "config": hashlib.sha256(config.encode()).hexdigest(),
            "data_fingerprint": prepared.metadata["data_fingerprint"],
            "step": step,
            **parents,
            **metrics,
        }
    )


def run_role(config: str, prepared: str, directory: str, code_version: str) -> None:
    """Trains in the role that TF_CONFIG gives this process; the chief then writes the model.

    All roles see the same directories. The processes of an earlier attempt are gone on with.

    Args:
        config: A `TrainPart` with `train.cluster`, as JSON.
        prepared: What preprocess wrote: `examples` and `transform`.
        directory: Where the checkpoints go, and `model`, what the step train writes.
        code_version: Of the code; a part of what a training is told by.

    Raises:
        ConfigError: `model` is there and was made of something else.
    """
    part = TrainPart.from_json(config)
    examples, transform = (f"{prepared}/{name}" for name in ("examples", "transform"))
    role = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
    of_chief = role == "chief"
    read = functools.partial(manifest.verify, deep=True) if of_chief else manifest.read
    rows = read(examples)
    parents = {
        "examples": rows.digest,
        "transform": read(transform).digest,
        "code_version": code_version,
    }
    identity = storage.canonical_json([config, parents])
    folder = pathlib.Path(directory) / "trainings" / _key(identity)
    columns = artifact.read_columns(transform)
    if not of_chief:
        if part.train.cluster is None:
            raise TypeError("expected a configuration with train.cluster")
        _Training(
            part=part, columns=columns, examples=examples, metadata=rows.metadata, folder=folder,
            start=None, watch=None,
        ).run_in_role(part.train.cluster)  # fmt: skip
        return
    target = f"{directory}/{artifact.KIND}"
    _check_target(target, identity)
    with manifest.committed_artifact(target) as writer:
        checkpoint, step, _ = fit(part, columns, examples, rows.metadata, folder, is_chief=True)
        _write(writer, identity, part, folder, checkpoint, {"step": step, **parents})
    sys.stdout.write(f"wrote {target}\n")


def _key(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _check_target(target: str, identity: str) -> None:
    """Refuses a model of another training before this one begins."""
    found = manifest.whole(pathlib.Path(target))
    if found is not None and not found.is_made_of(identity):
        raise ConfigError(
            f"{target} is the model of another training: another configuration, data or code. "
            "Remove it, or write the manifest with another --directory.",
            reason=Reason.CONFLICT,
        )


def _write(
    writer: manifest.ArtifactWriter,
    identity: str,
    part: TrainPart,
    folder: pathlib.Path,
    checkpoint: str,
    declared: Mapping[str, Any],
) -> None:
    """Writes the model that was trained in `folder`."""
    writer.kind, writer.made_of = artifact.KIND, identity
    for path in sorted(folder.glob(f"{checkpoint}.*")):
        storage.copy(path, writer.directory / path.name)
    for name in artifact.BESIDE:
        if (folder / name).is_file():
            storage.copy(folder / name, writer.directory / name)
    declaration = {
        "config": part.model_dump(exclude_none=True),
        "checkpoint": checkpoint,
        **declared,
    }
    storage.write_json(writer.directory / artifact.DECLARATION, declaration)


def fit(
    part: TrainPart,
    columns: Mapping[str, Any],
    examples_dir: str,
    metadata: Mapping[str, Any],
    folder: pathlib.Path,
    serving: str | None = None,
    *,
    watch: Callable[[estimator_lib.Estimator, int], estimator_lib.Hook] | None = None,
    carry: Callable[[], None] | None = None,
    is_chief: bool = False,
) -> tuple[str, int, dict[str, float]]:
    """Trains in `folder`, or goes on there; returns the final checkpoint, step and metrics.

    `watch` returns one more hook for an Estimator that is evaluated every so many steps. `carry` is
    called after each save, and after the evaluation of what was saved. With `is_chief` the other
    processes of `train.cluster` run elsewhere, and TF_CONFIG has their addresses.
    """
    options = part.train
    start = None
    if serving is not None:
        start = carry_over.settings(serving, columns, part.estimator, str(folder / "warm_start"))
    training = _Training(
        part=part, columns=columns, examples=examples_dir, metadata=metadata, folder=folder,
        start=start, watch=watch,
    )  # fmt: skip
    if options.cluster is None:
        spread = devices.choose(options.batch_size)
        estimator = training.estimator(spread.strategy)
        with carry_over.explain_errors(serving, estimator):
            metrics, _ = training.run(estimator, spread.batch_size, carry)
    else:
        if is_chief:
            _as_chief(training, options.cluster)
        else:
            _in_cluster(training, options.cluster, carry)
        estimator = training.estimator(None)
        metrics = estimator.evaluate(training.validation())
    if options.early_stopping is not None:
        check_metric(estimator, options.early_stopping.metric, _STOPPING)
    by_head = labels.heads(labels.from_json(metadata["label"]))
    for head, label in by_head.items() if options.calibration else ():
        if isinstance(label, labels.ClassLabel):
            estimator = estimator_lib.calibrate(
                estimator,
                training.validation(),
                method=str(options.calibration),
                weight_column=metadata["weight"],
                head=head or None,
            )
    path = estimator.latest_checkpoint()
    numbers = {
        f"{training.validation_split}_{name}": float(value)
        for name, value in metrics.items()
        if name != "global_step" and math.isfinite(value)
    }
    storage.touch(folder)
    return pathlib.Path(path).name, step_of(path), numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Training:
    """What is trained, on what and how far, in whatever process.

    Attributes:
        folder: Where it works.
        start: Where the weights begin; None begins anew.
        watch: See `fit`.
    """

    part: TrainPart
    columns: Mapping[str, Any]
    examples: str
    metadata: Mapping[str, Any]
    folder: pathlib.Path
    start: WarmStartSettings | None
    watch: Callable[[estimator_lib.Estimator, int], estimator_lib.Hook] | None

    @property
    def _per_epoch(self) -> int:
        rows = self.metadata["splits"]["train"]["rows"]
        return math.ceil(rows / self.part.train.batch_size)

    @property
    def _total(self) -> int:
        return self.part.train.max_steps or self._per_epoch * (self.part.train.epochs or 1)

    @property
    def _every(self) -> int:
        return min(self.part.train.evaluate_every_steps or self._per_epoch, self._total)

    @property
    def validation_split(self) -> str:
        """The split that is evaluated while training."""
        return "validation" if "validation" in self.metadata["splits"] else "eval"

    def validation(self) -> RowsInput:
        """Returns its rows."""
        return examples_input(self.examples, self.validation_split, batch_size=BATCH_ROWS)

    def estimator(
        self, strategy: tf.distribute.Strategy | Literal["sync"] | None
    ) -> estimator_lib.Estimator:
        """Returns the Estimator on the working directory."""
        config = estimator_lib.RunConfig(
            model_dir=str(self.folder),
            train_distribute=strategy,
            tf_random_seed=self.part.train.seed,
            save_checkpoints_steps=self._every,
            save_summary_steps=None,
            log_step_count_steps=max(1, self._total // CURVE_POINTS),
            keep_checkpoint_max=3,
        )
        return artifact.build_estimator(self.part, self.columns, self.metadata, config, self.start)

    def run_in_role(self, cluster: Processes) -> None:
        """Trains and evaluates in the role that TF_CONFIG gives this process."""
        in_step, batch_size = cluster.mode == "sync", self.part.train.batch_size
        estimator = self.estimator("sync" if in_step else None)
        self.run(estimator, batch_size // cluster.workers if in_step else batch_size)

    def run(
        self,
        estimator: estimator_lib.Estimator,
        batch_size: int,
        carry: Callable[[], None] | None = None,
    ) -> Any:
        """Trains and evaluates in the role of this process; see `train_and_evaluate`."""
        options = self.part.train
        hooks: list[estimator_lib.Hook] = [estimator_lib.ProgressHook(self._total)]
        if options.early_stopping is not None:
            hooks.append(_stopping(estimator, options.early_stopping, self._every))
        if self.watch is not None:
            hooks.append(self.watch(estimator, self._every))
        listeners = [] if carry is None else [_Carrying(carry)]
        if listeners:
            hooks.append(_AfterEvaluation(listeners))
        inputs = examples_input(
            self.examples,
            "train",
            batch_size=batch_size,
            shuffle=True,
            seed=options.seed,
            epochs=None,
        )
        return estimator_lib.train_and_evaluate(
            estimator,
            estimator_lib.TrainSpec(
                inputs, max_steps=self._total, hooks=hooks, saving_listeners=listeners
            ),
            estimator_lib.EvalSpec(
                self.validation(),
                steps=None,
                every_steps=self._every,
                start_delay_secs=0,
                throttle_secs=0,
            ),
        )


def _as_chief(training: _Training, cluster: Processes) -> None:
    """Trains as the chief, in a process of its own: this one then has no ties to the others."""

    def body(_parent: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # training notes it, and saves
        training.run_in_role(cluster)

    child = Child("the chief", body, output=sys.stdout.fileno(), session=True)
    try:
        ended = child.wait()
    except BaseException:
        child.ask_to_end()
        child.wait(GRACE_S)
        raise
    if ended.failure is not None:
        raise ended.failure
    del os.environ["TF_CONFIG"]


def _in_cluster(training: _Training, cluster: Processes, carry: Callable[[], None] | None) -> None:
    """Trains in several processes of this machine."""
    estimator_lib.run_local_cluster(
        lambda: training.run_in_role(cluster),
        workers=cluster.workers,
        parameter_servers=cluster.parameter_servers,
        evaluator=cluster.evaluator,
        logs=training.folder / "cluster",
        meanwhile=carry,
    )
    if carry is not None:
        carry()


class _Carrying(estimator_lib.CheckpointSaverListener):
    """Has what was saved carried to where the next attempt finds it."""

    def __init__(self, carry: Callable[[], None]) -> None:
        self._carry = carry

    def after_save(self, session: object, global_step_value: int) -> None:
        del session, global_step_value
        self._carry()


class _AfterEvaluation(estimator_lib.Hook):
    """Has listeners told of a save after it was evaluated."""

    def __init__(self, listeners: Sequence[estimator_lib.CheckpointSaverListener]) -> None:
        self.listeners = tuple(listeners)


class _Stopping(MetricStoppingHook):
    """Refuses a metric that is not evaluated at its first look."""

    def _stop_now(self) -> bool:
        check_metric(self._estimator, self._metric, _STOPPING)
        return super()._stop_now()


def _stopping(
    estimator: estimator_lib.Estimator, options: EarlyStopping, every: int
) -> MetricStoppingHook:
    return _Stopping(
        estimator,
        options.metric,
        higher_is_better=options.direction == "max",
        patience_evaluations=options.patience,
        run_every_secs=None,
        run_every_steps=every,
        restore_best=True,
    )


def check_metric(estimator: estimator_lib.Estimator, metric: str, where: str) -> None:
    """Refuses a metric that the newest evaluation of an Estimator does not have.

    Args:
        estimator: What trains; one that was not evaluated yet passes.
        metric: Its name.
        where: The place in the configuration.

    Raises:
        ConfigError: naming the nearest metric.
    """
    for newest in history.evaluations(estimator.eval_dir()).all()[-1:]:
        known = newest.metrics
        if metric not in known:
            raise ConfigError(
                f"{where} {metric!r} is no metric of this model.{did_you_mean(metric, known)}",
                reason=Reason.UNKNOWN_NAME,
            )
