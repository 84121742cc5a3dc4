"""The form of what a model_fn returns in a mode: the tensors that leave its loop, its hooks.

Layer 3.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.protocols import Metric
from estimator_lib.specs import RESERVED_METRICS, EstimatorSpec, ModeKeys
from estimator_lib.tensorflow_internals import savers_without_operations
from estimator_lib.training import hooks, metric_pairs
from estimator_lib.training.session_hooks import InitHook, SessionHook, is_for_sessions, read_step

_log = logging.getLogger(__name__)

_HOOKS = {
    ModeKeys.TRAIN: ("training_hooks", "training_chief_hooks"),
    ModeKeys.EVAL: ("evaluation_hooks",),
    ModeKeys.PREDICT: ("prediction_hooks",),
}
"""The fields of an EstimatorSpec whose hooks run in a mode."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What a build trace learned about a mode.

    Attributes:
        fetches: Name to TensorSpec of the tensors that hooks and metric pairs need.
        pairs: Names of metrics that are (value, update op) pairs.
        metrics: Names of metric objects.
        hooked: Whether the model brings hooks for PREDICT.
        idle: Whether it brings a train_op to another mode, where it must not run.
        variables: Names of the variables the mode uses.
    """

    fetches: Mapping[str, tf.TensorSpec]
    pairs: tuple[str, ...]
    metrics: tuple[str, ...]
    hooked: bool
    idle: bool
    variables: tuple[str, ...]

    @classmethod
    def of(cls, spec: EstimatorSpec, used: Collection[str]) -> Form:
        """Returns the form of a spec that is being traced.

        Args:
            spec: Of one call of model_fn.
            used: Names of the variables that the call used.

        Raises:
            ConfigError: a metric has a reserved name, or a tensor cannot leave the loop.
        """
        metrics = spec.eval_metric_ops or {}
        for name in metrics if spec.mode == ModeKeys.EVAL else ():
            if name in RESERVED_METRICS:
                raise ConfigError(
                    f"Metric name {name!r} is reserved: evaluate() reports it itself. Rename the "
                    "metric.",
                    reason=Reason.CONFLICT,
                )
        fetches = {n: tf.TensorSpec(t.shape, t.dtype) for n, t in fetched(spec).items()}
        for name, form in fetches.items():
            if spec.mode != ModeKeys.PREDICT and not form.shape.is_fully_defined():
                raise ConfigError(
                    f"Tensor {name!r} cannot be taken out of the loop: expected a static shape, "
                    f"got {form.shape}. Reduce it to a scalar, or set its shape.",
                    reason=Reason.UNSUPPORTED,
                )
        return cls(
            fetches=fetches,
            pairs=tuple(name for name, metric in metrics.items() if _is_pair(metric)),
            metrics=tuple(metric_objects(spec)),
            hooked=spec.mode == ModeKeys.PREDICT and bool(spec.prediction_hooks),
            idle=spec.mode != ModeKeys.TRAIN and spec.train_op is not None,
            variables=tuple(used),
        )

    def initial_fetches(self) -> dict[str, tf.Tensor]:
        """Returns what stands for the fetches before the first step."""
        return {
            name: tf.constant(
                np.full(
                    spec.shape.as_list(),
                    b"" if spec.dtype == tf.string else 0,
                    object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype,
                )
            )
            for name, spec in self.fetches.items()
        }

    def shaped(self, tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the fetches of a step in the static shapes that a loop needs."""
        return {n: tf.ensure_shape(tensors[n], spec.shape) for n, spec in self.fetches.items()}


def metric_objects(spec: EstimatorSpec) -> dict[str, Metric]:
    """Returns the metrics that are objects, by name."""
    metrics = spec.eval_metric_ops or {}
    return {name: metric for name, metric in metrics.items() if not _is_pair(metric)}


def pair_updates(spec: EstimatorSpec) -> list[tf.Operation | tf.Tensor]:
    """Returns the update ops of the metrics that are pairs."""
    metrics = (spec.eval_metric_ops or {}).values()
    return [operation(metric[1]) for metric in metrics if _is_pair(metric)]


def _is_pair(metric: object) -> bool:
    return isinstance(metric, tuple | list)


def hooks_of(spec: EstimatorSpec) -> tuple[hooks.Hook, ...]:
    """Returns the hooks that a spec brings to its mode, the chief's too.

    Raises:
        ConfigError: one is not a Hook, or watches what is not the loss.
    """
    found = hooks.check([hook for field in _HOOKS[spec.mode] for hook in getattr(spec, field)])
    for hook in found:
        if isinstance(hook, hooks.NanTensorHook):
            hook.check_loss(spec.loss)
    return found


def fetched(
    spec: EstimatorSpec, updates: Sequence[tf.Operation | tf.Tensor] = ()
) -> dict[str, tf.Tensor]:
    """Returns the tensors that leave the loop: what hooks ask for and values of metric pairs.

    Args:
        spec: Of one call of model_fn.
        updates: What runs before the pairs' values are read.
    """
    found: dict[str, tf.Tensor] = {}
    for hook in hooks_of(spec):
        for name, asked in hook.tensors.items():
            tensor = _named(spec, asked) if isinstance(asked, str) else asked
            if found.setdefault(name, tensor) is not tensor:
                raise ConfigError(
                    f"Two hooks ask for different tensors as {name!r}, the second is "
                    f"{type(hook).__name__}: each would be told the same. Rename one of them.",
                    reason=Reason.CONFLICT,
                )
    for name, metric in (spec.eval_metric_ops or {}).items():
        if _is_pair(metric) and spec.mode == ModeKeys.EVAL:
            found[f"metric/{name}"] = metric_pairs.latest(metric[0], updates)
    return {name: tf.convert_to_tensor(tensor) for name, tensor in found.items()}


def with_session_hooks(
    spec: EstimatorSpec, given: Sequence[SessionHook] = (), *, probing: bool = False
) -> EstimatorSpec:
    """Returns a spec whose hooks for sessions run in the loop, `given` ones among them."""
    fields = _HOOKS[spec.mode]
    found = {
        field: [
            SessionHook(hook) if is_for_sessions(hook) else hook for hook in getattr(spec, field)
        ]
        for field in fields
    }
    scaffold = spec.scaffold
    if spec.mode == ModeKeys.TRAIN and scaffold is not None:
        if scaffold.saver is not None and probing:
            _log.warning(
                "The saver of EstimatorSpec.scaffold saves nothing: checkpoints hold all "
                "variables, and RunConfig.keep_checkpoint_max says how many are kept."
            )
        if type(scaffold).finalize is not tf.compat.v1.train.Scaffold.finalize:
            # It ends with a graph that nothing can be added to.
            with tf.Graph().as_default(), savers_without_operations():
                scaffold.finalize()
        if scaffold.init_fn is not None:
            found[fields[0]].insert(0, InitHook(scaffold))
    found[fields[0]] = [*given, *found[fields[0]]]
    adapted = [h for field in fields for h in found[field] if isinstance(h, SessionHook)]
    if adapted:
        _name_in_graph(spec)
    find = functools.partial(_named, spec)
    for at, hook in enumerate(adapted):
        hook.trace(find, label=f"session hook {at}", probing=probing)
    return spec._replace(**found)


def _name_in_graph(spec: EstimatorSpec) -> None:
    """Lets hooks for sessions find the loss and the predictions by name, as in a graph."""
    graph = tf.compat.v1.get_default_graph()
    taken = {operation.name for operation in graph.get_operations()}
    named = spec.predictions if isinstance(spec.predictions, Mapping) else {}
    if spec.loss is not None:
        named = {**named, "loss": spec.loss}
    with graph.name_scope(None):
        for name, tensor in named.items():
            if isinstance(name, str) and name not in taken and re.fullmatch(r"\w[\w.-]*", name):
                tf.identity(tensor, name=name)


def _named(spec: EstimatorSpec, name: str) -> tf.Tensor:
    if name == "loss":
        return spec.loss
    predictions = spec.predictions if isinstance(spec.predictions, Mapping) else {}
    if name in predictions:
        return predictions[name]
    if name == variables.GLOBAL_STEP:
        return read_step()
    raise ConfigError(
        f"A hook asks for the tensor {name!r}, which the model does not have."
        + did_you_mean(name, ("loss", variables.GLOBAL_STEP, *predictions)),
        reason=Reason.UNKNOWN_NAME,
    )


def check_steps(spec: EstimatorSpec, made_before: int) -> None:
    """Refuses a step of an optimizer that train_op does not hold: it would run nevertheless.

    Args:
        spec: Of one call of model_fn in training.
        made_before: How many operations the graph had before the call.

    Raises:
        ConfigError: there is one.
    """
    fetches = fetched(spec).values()
    roots = [*tf.nest.flatten(spec.train_op), *fetches]
    ops = [getattr(root, "op", root) for root in roots if root is not None]
    if not all(isinstance(op, tf.Operation) for op in ops):
        return  # A variable says not what has changed it.
    held = _ancestors(ops)
    made = tf.compat.v1.get_default_graph().get_operations()[made_before:]
    for one in made:
        if _APPLIES.match(one.type) and one not in held:
            raise ConfigError(
                f"model_fn makes the optimizer's step {one.name!r}, which train_op does not hold, "
                "and which would run with each step. Make only the step that shall run: give "
                "tf.no_op() as the train_op of the others, such as heads that are joined.",
                reason=Reason.CONFLICT,
            )


_APPLIES = re.compile(r"Resource(Sparse)?Apply")


def _ancestors(ops: Iterable[tf.Operation]) -> set[tf.Operation]:
    found: set[tf.Operation] = set()
    ahead = list(ops)
    while ahead:
        op = ahead.pop()
        if op not in found:
            found.add(op)
            ahead += [tensor.op for tensor in op.inputs]
            ahead += op.control_inputs
    return found


def operation(op: tf.Operation | tf.Tensor | tf.Variable) -> tf.Operation | tf.Tensor:
    """Returns what can be a control dependency."""
    return op if isinstance(op, tf.Operation) or tf.is_tensor(op) else tf.convert_to_tensor(op)
