"""The environment of a run: where, how often to save and log, which role in a cluster.

Layer 3. Fields, order and defaults are those of `tf.estimator.RunConfig`; the cluster is read
from the TF_CONFIG environment variable.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import numbers
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.core.places import Place
from estimator_lib.variables import Partitioner

_log = logging.getLogger(__name__)


class _Unset:
    def __repr__(self) -> str:
        return "<default>"


_UNSET: Final[Any] = _Unset()
_CHIEF_ROLES = ("chief", "master")
SYNC: Final = "sync"
"""For `train_distribute`: all processes of the cluster train in step."""


class _Field:
    """A value given to the constructor: read only, and open to properties of subclasses."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, config: RunConfig | None, owner: type) -> Any:
        return self if config is None else config._values[self._name]

    def __set__(self, config: RunConfig, value: object) -> None:
        raise AttributeError(
            f"RunConfig.{self._name} cannot be set. Use replace({self._name}=...)."
        )


class RunConfig:
    """Facts about a run that are no part of the model.

    Args:
        model_dir: Where checkpoints, summaries and exports go.
        tf_random_seed: Of initial weights and random ops; None draws them anew each time.
        save_summary_steps: Steps between two summaries; None or 0 writes none.
        save_checkpoints_steps: Steps between two checkpoints.
        save_checkpoints_secs: Seconds between two checkpoints. 600 when neither is given;
            None for both saves none.
        session_config: Not used (there is no session); kept so that old code runs. A
            `tf.compat.v1.ConfigProto`.
        keep_checkpoint_max: Checkpoints kept; None or 0 keeps all.
        keep_checkpoint_every_n_hours: Also keep one checkpoint per this many hours.
        log_step_count_steps: Steps between two log lines; None logs none.
        train_distribute: A `tf.distribute.Strategy` for training; or "sync": all processes of
            TF_CONFIG, without one all GPUs of this machine, train in step. An instance of
            MultiWorkerMirroredStrategy must be made before TensorFlow computes anything; it
            waits for the other processes for up to an hour, whatever is given here.
        device_fn: Not used.
        protocol: Not used.
        eval_distribute: A strategy for evaluation and prediction.
        experimental_distribute: Refused; use train_distribute and eval_distribute.
        experimental_max_worker_delay_secs: Not used: workers start together.
        session_creation_timeout_secs: The longest wait for the other processes of a cluster to
            start; then training ends with an error that asks to run again.
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
        partitioner: Into how many parts the rows of a table are cut, each on a parameter server:
            a function of `shape` and `dtype`, such as `tf.compat.v1.fixed_size_partitioner(2)`,
            asked for tables that are read by rows (embeddings, weights of categories). None cuts
            tables of more than 64 MiB, into at most as many parts as there are servers.
        consistent_checkpoints: Whether workers pause while the chief writes a checkpoint, with
            parameter servers. False lets them go on: a checkpoint then has some variables of
            earlier steps than others, as those of tf.estimator had.
        peer_timeout_secs: The longest wait for another process of a cluster that has started:
            between two calls, while it saves, while it evaluates. One that is silent for longer
            is taken for dead; then training ends with an error that asks to run again.

    A warning names what is given and not used.

    Raises:
        ConfigError: a value is out of range, or TF_CONFIG is malformed.
    """

    model_dir = _Field()
    tf_random_seed = _Field()
    save_summary_steps = _Field()
    save_checkpoints_steps = _Field()
    save_checkpoints_secs = _Field()
    session_config = _Field()
    keep_checkpoint_max = _Field()
    keep_checkpoint_every_n_hours = _Field()
    log_step_count_steps = _Field()
    train_distribute = _Field()
    device_fn = _Field()
    protocol = _Field()
    eval_distribute = _Field()
    experimental_distribute = _Field()
    experimental_max_worker_delay_secs = _Field()
    session_creation_timeout_secs = _Field()
    checkpoint_save_graph_def = _Field()
    max_call_secs = _Field()
    moving_average_decay = _Field()
    compute_dtype = _Field()
    jit_compile = _Field()
    partitioner = _Field()
    consistent_checkpoints = _Field()
    peer_timeout_secs = _Field()

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | bytes | None = None,
        tf_random_seed: int | None = None,
        save_summary_steps: int | None = 100,
        save_checkpoints_steps: int | None = _UNSET,
        save_checkpoints_secs: float | None = _UNSET,
        session_config: tf.compat.v1.ConfigProto | None = None,
        keep_checkpoint_max: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10_000,
        log_step_count_steps: int | None = 100,
        train_distribute: tf.distribute.Strategy | Literal["sync"] | None = None,
        device_fn: Callable[..., str] | None = None,
        protocol: str | None = None,
        eval_distribute: tf.distribute.Strategy | None = None,
        experimental_distribute: object = None,
        experimental_max_worker_delay_secs: int | None = None,
        session_creation_timeout_secs: float = 7200,
        checkpoint_save_graph_def: bool = True,
        max_call_secs: float = 1.0,
        moving_average_decay: float | None = None,
        compute_dtype: str = "float32",
        jit_compile: bool | None = None,
        partitioner: Partitioner | None = None,
        consistent_checkpoints: bool = True,
        peer_timeout_secs: float = 600,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _FIELDS}
        steps, secs = save_checkpoints_steps, save_checkpoints_secs
        if steps is not _UNSET and steps is not None and secs is not _UNSET and secs is not None:
            raise ConfigError(
                "RunConfig has both save_checkpoints_steps and save_checkpoints_secs. Give only "
                "one.",
                reason=Reason.CONFLICT,
            )
        default_secs = 600 if steps is _UNSET and secs is _UNSET else None
        given["save_checkpoints_steps"] = None if steps is _UNSET else steps
        given["save_checkpoints_secs"] = default_secs if secs is _UNSET else secs
        self.cluster = _read_tf_config(os.environ.get("TF_CONFIG"))
        self._values = _checked(given, self.cluster)
        _warn_of_idle(given)

    def replace(self, **changes: object) -> RunConfig:
        """Returns a copy with `changes`, checked like a new one; own attributes stay."""
        fields = dict(self._values)
        for name in changes:
            if name not in fields:
                raise ConfigError(
                    f"RunConfig has no field {name!r}.{did_you_mean(name, fields)}",
                    reason=Reason.UNKNOWN_NAME,
                )
        steps, secs = "save_checkpoints_steps", "save_checkpoints_secs"
        if changes.get(steps) is not None and changes.get(secs) is not None:
            raise ConfigError(
                f"RunConfig.replace has both {steps} and {secs}. Give only one.",
                reason=Reason.CONFLICT,
            )
        if steps in changes and secs not in changes:
            fields[secs] = None
        if secs in changes and steps not in changes:
            fields[steps] = None
        copied = copy.copy(self)
        copied._values = _checked({**fields, **changes}, self.cluster)
        _warn_of_idle(changes)
        return copied

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunConfig):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = object.__hash__

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
        """Address of this task; "" where it is alone, or what TF_CONFIG has as session_master."""
        given = self.cluster.get("session_master")
        if given is not None:
            return str(given)
        if sum(len(tasks) for tasks in self._tasks.values()) < 2:
            return ""
        tasks = self._tasks.get(self.task_type, [])
        return f"grpc://{tasks[self.task_id]}" if self.task_id < len(tasks) else ""

    @property
    def evaluation_master(self) -> str:
        """Evaluation is local, whatever TF_CONFIG has as eval_session_master."""
        return str(self.cluster.get("eval_session_master", ""))

    @property
    def num_ps_replicas(self) -> int:
        """Parameter servers in the cluster."""
        return len(self._tasks.get("ps", ()))

    @property
    def is_asynchronous(self) -> bool:
        """Whether variables live on parameter servers and each worker trains for itself."""
        return self.num_ps_replicas > 0 and self.train_distribute is None

    @property
    def num_worker_replicas(self) -> int:
        """Workers in the cluster, the chief counted; 1 without a cluster."""
        if not self._tasks:
            return 0 if self.task_type == "evaluator" else 1
        return sum(len(self._tasks.get(role, ())) for role in ("worker", *_CHIEF_ROLES))

    @property
    def global_id_in_cluster(self) -> int | None:
        """This task's number among all: the chief's first, ps last, others by name between."""
        if self.task_type == "evaluator":
            return None
        before = 0
        others = sorted(role for role in self._tasks if role not in (*_CHIEF_ROLES, "ps"))
        for role in (*_CHIEF_ROLES, *others, "ps"):
            if role == self.task_type:
                return before + self.task_id
            before += len(self._tasks.get(role, ()))
        return before


def with_model_dir(config: RunConfig, model_dir: str | None) -> RunConfig:
    """Returns the configuration of an Estimator, which has a directory.

    Args:
        config: The run's.
        model_dir: The Estimator's own argument; None for that of the run, or a temporary one.

    Raises:
        ConfigError: it is empty, or not that of the run.
    """
    given = None if model_dir is None else os.fsdecode(model_dir)
    if given == "":
        raise ConfigError("Estimator.model_dir is empty: expected a path or None.")
    if given and config.model_dir and given != config.model_dir:
        raise ConfigError(
            f"model_dir is given twice: the Estimator has {quote(given)}, its RunConfig has "
            f"{quote(config.model_dir)}. Make them agree.",
            reason=Reason.CONFLICT,
        )
    chosen = given or config.model_dir or tempfile.mkdtemp(prefix="estimator-")
    return config if chosen == config.model_dir else config.replace(model_dir=chosen)


_FIELDS = frozenset(inspect.signature(RunConfig.__init__).parameters) - {"self"}


def _checked(given: dict[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values, checked, with model_dir as text or from TF_CONFIG."""
    values = dict(given)
    if values["save_summary_steps"] == 0:
        values["save_summary_steps"] = None
    for name in (
        "save_summary_steps", "save_checkpoints_steps", "save_checkpoints_secs",
        "log_step_count_steps", "max_call_secs", "keep_checkpoint_every_n_hours",
        "session_creation_timeout_secs", "peer_timeout_secs",
    ):  # fmt: skip
        if values[name] is not None and values[name] <= 0:
            raise _invalid(name, "a positive number or None", values[name])
    decay = values["moving_average_decay"]
    if decay is not None and not 0 < decay < 1:
        raise _invalid("moving_average_decay", "a number between 0 and 1, or None", decay)
    if values["compute_dtype"] not in ("float32", "bfloat16"):
        raise _invalid("compute_dtype", "'float32' or 'bfloat16'", values["compute_dtype"])
    if values["keep_checkpoint_max"] is not None and values["keep_checkpoint_max"] < 0:
        raise _invalid("keep_checkpoint_max", "0 or more", values["keep_checkpoint_max"])
    for name in ("tf_random_seed", "experimental_max_worker_delay_secs"):
        if values[name] is not None and not isinstance(values[name], numbers.Integral):
            raise _invalid(name, "an integer or None", values[name])
    session = values["session_config"]
    if session is not None and not isinstance(session, tf.compat.v1.ConfigProto):
        raise _invalid("session_config", "a tf.compat.v1.ConfigProto or None", session)
    device_fn = values["device_fn"]
    if device_fn is not None and not _takes_one(device_fn, "op"):
        raise _invalid("device_fn", "a function of one argument named op", device_fn)
    if values["experimental_distribute"] is not None:
        other = "None: a strategy is given as train_distribute or eval_distribute"
        raise _invalid("experimental_distribute", other, values["experimental_distribute"])
    for name in ("train_distribute", "eval_distribute"):
        # Its variables are placed by an own coordinator, which no training loop here runs.
        if isinstance(values[name], tf.distribute.experimental.ParameterServerStrategy):
            raise _invalid(name, "another strategy", type(values[name]).__name__)
    if values["partitioner"] is not None and not callable(values["partitioner"]):
        raise _invalid("partitioner", "a function or None", values["partitioner"])
    synchronous = values["train_distribute"]
    if isinstance(synchronous, str) and synchronous != SYNC:
        raise _invalid("train_distribute", f"a tf.distribute.Strategy or {SYNC!r}", synchronous)
    if session is None:
        values["session_config"] = _session_config(cluster)
    values["model_dir"] = _model_dir(values["model_dir"], cluster.get("model_dir"))
    return values


_IDLE: Final = {
    "session_config": "there is no session. What it set of devices, set by tf.config",
    "device_fn": "operations are placed by TensorFlow, or by a strategy in train_distribute",
    "protocol": "a strategy in train_distribute chooses its own",
    "experimental_max_worker_delay_secs": "workers train in step and start together",
    "checkpoint_save_graph_def": "checkpoints hold no graph; an export does",
}
"""Fields that are checked and then not used, and why."""


def _warn_of_idle(given: Mapping[str, object]) -> None:
    defaults = inspect.signature(RunConfig.__init__).parameters
    for name, why in _IDLE.items():
        if name in given and given[name] != defaults[name].default:
            _log.warning("RunConfig.%s has no effect: %s. Leave it away.", name, why)


def _session_config(cluster: Mapping[str, Any]) -> Any:
    """What sessions of a cluster's tasks were configured with, for programs that look at it."""
    task = cluster.get("task", {})
    kind, number = task.get("type"), int(task.get("index", 0))
    own = f"/job:worker/task:{number}" if kind == "worker" else f"/job:{kind}"
    seen = {
        **{role: ["/job:ps", own] for role in (*_CHIEF_ROLES, "worker")},
        "ps": ["/job:ps", "/job:worker", "/job:chief", "/job:master"],
    }
    if not cluster.get("cluster") or kind not in seen:
        return None
    made = tf.compat.v1.ConfigProto(allow_soft_placement=True, device_filters=seen[kind])
    made.graph_options.rewrite_options.meta_optimizer_iterations = 1
    return made


def _takes_one(function: Callable[..., object], argument: str) -> bool:
    return callable(function) and [*inspect.signature(function).parameters] == [argument]


def _model_dir(given: str | bytes | os.PathLike[str] | None, theirs: str | None) -> str | None:
    for where, path in (("model_dir", given), ("TF_CONFIG model_dir", theirs)):
        if path is not None and not os.fspath(path):
            raise _invalid(where, "a path or None", path)
    mine = None if given is None else os.fsdecode(given)
    if theirs and mine and mine != theirs:
        raise ConfigError(
            f"model_dir is given twice: RunConfig has {quote(mine)}, TF_CONFIG has "
            f"{quote(theirs)}. Make them agree.",
            reason=Reason.CONFLICT,
        )
    chosen = mine or theirs
    if chosen and not Place.parse(chosen).is_local:
        raise ConfigError(
            f"model_dir {quote(chosen)} is a URI: expected a path, for training writes to this "
            "machine. The train step carries its checkpoints to a URI (checkpoint_root); "
            "elsewhere, copy or mount them.",
            reason=Reason.UNSUPPORTED,
        )
    return chosen


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
    service = content.get("service")
    if service is not None and not isinstance(service, dict):
        raise _invalid("TF_CONFIG service", "a JSON object", service, Reason.TYPE_MISMATCH)
    for part in ("type", "index") if cluster else ():
        if part not in task and kind != "evaluator":
            raise ConfigError(
                f"TF_CONFIG has a cluster and no task.{part}: expected this process's own. Add it.",
                reason=Reason.MISSING_VALUE,
            )
    if not cluster and kind not in ("worker", "evaluator"):
        raise _invalid("TF_CONFIG task.type", "worker, for there is no cluster", kind)
    if not cluster and kind == "worker" and int(index) != 0:
        raise _invalid("TF_CONFIG task.index", "0, for there is no cluster", index)
    known = (*cluster, "evaluator")
    if cluster and kind not in known:
        raise ConfigError(
            f"TF_CONFIG task.type {quote(kind)} is not in the cluster.{did_you_mean(kind, known)}",
            reason=Reason.UNKNOWN_NAME,
        )
    if cluster and kind in cluster and int(index) >= len(cluster[kind]):
        raise _invalid("TF_CONFIG task.index", f"below {len(cluster[kind])}", index)
    if "master" in cluster and (kind == "evaluator" or "chief" in cluster):
        raise ConfigError(
            "TF_CONFIG cluster has a master, which evaluates itself: expected no chief and no "
            "evaluator beside it. Call the master chief.",
            reason=Reason.CONFLICT,
        )
    chiefs = sum(len(cluster.get(role, ())) for role in _CHIEF_ROLES)
    if cluster and chiefs != 1:
        raise ConfigError(
            f"TF_CONFIG cluster has {chiefs or 'no'} chiefs: expected one task of type chief. "
            "Correct it.",
            reason=Reason.MISSING_VALUE if not chiefs else Reason.CONFLICT,
        )
    return content


def _invalid(
    name: str, expected: str, got: object, reason: Reason = Reason.INVALID_VALUE
) -> ConfigError:
    what = name if name.startswith("TF_CONFIG") else f"RunConfig.{name}"
    return ConfigError(f"{what} is invalid: expected {expected}, got {quote(got)}.", reason=reason)
