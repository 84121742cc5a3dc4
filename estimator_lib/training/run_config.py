"""The environment of a run: where, how often to save and log, which role in a cluster.

Layer 3. Fields, order and defaults are those of `tf.estimator.RunConfig`; the cluster is read
from the TF_CONFIG environment variable.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote


class _Unset:
    def __repr__(self) -> str:
        return "<default>"


_UNSET: Final[Any] = _Unset()
_CHIEF_ROLES = ("chief", "master")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Facts about a run that are no part of the model.

    Args:
        model_dir: Where checkpoints, summaries and exports go.
        tf_random_seed: Of initial weights and random ops; None draws them anew each time.
        save_summary_steps: Steps between two summaries; None or 0 writes none.
        save_checkpoints_steps: Steps between two checkpoints.
        save_checkpoints_secs: Seconds between two checkpoints. 600 when neither is given;
            None for both saves none.
        session_config: Not used (there is no session); kept so that old code runs.
        keep_checkpoint_max: Checkpoints kept; None or 0 keeps all.
        keep_checkpoint_every_n_hours: Also keep one checkpoint per this many hours.
        log_step_count_steps: Steps between two log lines; None logs none.
        train_distribute: A `tf.distribute.Strategy` for training.
        device_fn: Not used.
        protocol: Not used.
        eval_distribute: A strategy for evaluation and prediction.
        experimental_distribute: Not used.
        experimental_max_worker_delay_secs: Longest delay of a worker's start.
        session_creation_timeout_secs: Not used.
        checkpoint_save_graph_def: Not used.
        moving_average_decay: Evaluates, predicts and exports with running means of the weights
            that keep this share at each step, such as 0.999; None uses the weights as they
            are. Training goes on from the weights themselves; both are in the checkpoints.
        compute_dtype: "bfloat16" computes the matrix products of the ready-made networks in
            that type; weights, sums, losses and everything else stay float32.
        jit_compile: Whether XLA compiles the training loop into one program, one and a half to
            four times faster. It can where the features are numbers and ids and the input
            is one of `inputs` (arrays, materialised examples); of other inputs True marks the
            model's operations for XLA, which then compiles those it can. None does it for the
            ready-made models, on a CPU, in trainings of at least 5,000 steps, which it pays
            for: compiling takes seconds. Results are those of the ordinary loop to rounding,
            but for dropout, whose random numbers are others.
        max_call_secs: Longest time one call of the training function should take; signals,
            time-based hooks and progress wait for it.

    Raises:
        ConfigError: a value is out of range, or TF_CONFIG is malformed.
    """

    model_dir: str | None = None
    tf_random_seed: int | None = None
    save_summary_steps: int | None = 100
    save_checkpoints_steps: int | None = _UNSET
    save_checkpoints_secs: float | None = _UNSET
    session_config: Any = None
    keep_checkpoint_max: int | None = 5
    keep_checkpoint_every_n_hours: float = 10_000
    log_step_count_steps: int | None = 100
    train_distribute: Any = None
    device_fn: Any = None
    protocol: str | None = None
    eval_distribute: Any = None
    experimental_distribute: Any = None
    experimental_max_worker_delay_secs: float | None = None
    session_creation_timeout_secs: float = 7200
    checkpoint_save_graph_def: bool = True
    max_call_secs: float = 1.0
    moving_average_decay: float | None = None
    compute_dtype: str = "float32"
    jit_compile: bool | None = None
    cluster: Mapping[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        steps, secs = self.save_checkpoints_steps, self.save_checkpoints_secs
        given = [v for v in (steps, secs) if v is not _UNSET and v is not None]
        if len(given) == 2:
            raise ConfigError(
                "RunConfig has both save_checkpoints_steps and save_checkpoints_secs. Give only "
                "one.",
                reason=Reason.CONFLICT,
            )
        default_secs = 600 if steps is _UNSET and secs is _UNSET else None
        object.__setattr__(self, "save_checkpoints_steps", None if steps is _UNSET else steps)
        object.__setattr__(self, "save_checkpoints_secs", default_secs if secs is _UNSET else secs)
        if self.save_summary_steps == 0:
            object.__setattr__(self, "save_summary_steps", None)
        for name in (
            "save_summary_steps", "save_checkpoints_steps", "save_checkpoints_secs",
            "log_step_count_steps", "max_call_secs",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise _invalid(name, "a positive number or None", value)
        decay = self.moving_average_decay
        if decay is not None and not 0 < decay < 1:
            raise _invalid("moving_average_decay", "a number between 0 and 1, or None", decay)
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise _invalid("compute_dtype", "'float32' or 'bfloat16'", self.compute_dtype)
        if self.keep_checkpoint_max is not None and self.keep_checkpoint_max < 0:
            raise _invalid("keep_checkpoint_max", "0 or more", self.keep_checkpoint_max)
        object.__setattr__(self, "cluster", _read_tf_config(os.environ.get("TF_CONFIG")))
        self._take_model_dir()

    def _take_model_dir(self) -> None:
        if self.model_dir is not None and not os.fspath(self.model_dir):
            raise _invalid("model_dir", "a path or None", self.model_dir)
        theirs = self.cluster.get("model_dir")
        if theirs and self.model_dir and os.fspath(self.model_dir) != theirs:
            raise ConfigError(
                f"model_dir is given twice: RunConfig has {quote(self.model_dir)}, TF_CONFIG has "
                f"{quote(theirs)}. Make them agree.",
                reason=Reason.CONFLICT,
            )
        if theirs and not self.model_dir:
            object.__setattr__(self, "model_dir", theirs)
        elif self.model_dir is not None:
            object.__setattr__(self, "model_dir", os.fspath(self.model_dir))

    def replace(self, **changes: Any) -> RunConfig:
        """Returns a copy with `changes`."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        for name in changes:
            if name not in fields:
                raise ConfigError(
                    f"RunConfig has no field {name!r}.{did_you_mean(name, fields)}",
                    reason=Reason.UNKNOWN_NAME,
                )
        if "save_checkpoints_steps" in changes and "save_checkpoints_secs" not in changes:
            fields["save_checkpoints_secs"] = None
        if "save_checkpoints_secs" in changes and "save_checkpoints_steps" not in changes:
            fields["save_checkpoints_steps"] = None
        return RunConfig(**{**fields, **changes})

    @property
    def cluster_spec(self) -> Any:
        """Addresses by task type, a `tf.train.ClusterSpec`; false where there is no cluster."""
        return tf.train.ClusterSpec(self._tasks)

    @property
    def _tasks(self) -> Mapping[str, Any]:
        # The evaluator is outside of the cluster, whether TF_CONFIG lists it or not.
        return {} if self.task_type == "evaluator" else self.cluster.get("cluster", {})

    @property
    def task_type(self) -> str:
        """This process's role: chief, worker, ps or evaluator."""
        return str(self.cluster.get("task", {}).get("type", "worker"))

    @property
    def task_id(self) -> int:
        """This process's number within its role."""
        return int(self.cluster.get("task", {}).get("index", 0))

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints."""
        if not self._tasks:
            return self.task_type != "evaluator"
        return self.task_type in _CHIEF_ROLES

    @property
    def service(self) -> Any:
        """The "service" part of TF_CONFIG."""
        return self.cluster.get("service")

    @property
    def master(self) -> str:
        """Address of this task, "" when there is no cluster."""
        tasks = self._tasks.get(self.task_type, [])
        return f"grpc://{tasks[self.task_id]}" if self.task_id < len(tasks) else ""

    @property
    def evaluation_master(self) -> str:
        """Evaluation is always local."""
        return ""

    @property
    def num_ps_replicas(self) -> int:
        """Parameter servers in the cluster."""
        return len(self._tasks.get("ps", ()))

    @property
    def num_worker_replicas(self) -> int:
        """Workers in the cluster, the chief counted; 1 without a cluster."""
        if not self._tasks:
            return 0 if self.task_type == "evaluator" else 1
        return sum(len(self._tasks.get(role, ())) for role in ("worker", *_CHIEF_ROLES))

    @property
    def global_id_in_cluster(self) -> int | None:
        """This task's number among all, in the order chief, master, worker, ps."""
        if self.task_type == "evaluator":
            return None
        before = 0
        for role in (*_CHIEF_ROLES, "worker", "ps"):
            if role == self.task_type:
                return before + self.task_id
            before += len(self._tasks.get(role, ()))
        return before


def _read_tf_config(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"TF_CONFIG is not JSON: {error}, got {quote(text)}.", reason=Reason.VALUE_UNPARSABLE
        ) from error
    if not isinstance(content, dict):
        raise _invalid("TF_CONFIG", "a JSON object", content)
    cluster, task = content.get("cluster", {}), content.get("task", {})
    kind, index = task.get("type", "worker"), task.get("index", 0)
    if not isinstance(index, int | str) or not str(index).isdigit():
        raise _invalid("TF_CONFIG task.index", "a number from 0", index)
    known = (*cluster, "evaluator")
    if cluster and kind not in known:
        raise ConfigError(
            f"TF_CONFIG task.type {quote(kind)} is not in the cluster.{did_you_mean(kind, known)}",
            reason=Reason.UNKNOWN_NAME,
        )
    if cluster and kind in cluster and int(index) >= len(cluster[kind]):
        raise _invalid("TF_CONFIG task.index", f"below {len(cluster[kind])}", index)
    if kind == "evaluator" and int(index) != 0:
        raise _invalid("TF_CONFIG task.index", "0, for there is one evaluator", index)
    chiefs = sum(len(cluster.get(role, ())) for role in _CHIEF_ROLES)
    if cluster and chiefs != 1:
        raise ConfigError(
            f"TF_CONFIG cluster has {chiefs or 'no'} chiefs: expected one task of type chief. "
            "Correct it.",
            reason=Reason.MISSING_VALUE if not chiefs else Reason.CONFLICT,
        )
    return content


def _invalid(name: str, expected: str, got: object) -> ConfigError:
    what = name if name.startswith("TF_CONFIG") else f"RunConfig.{name}"
    return ConfigError(
        f"{what} is invalid: expected {expected}, got {quote(got)}.", reason=Reason.INVALID_VALUE
    )
