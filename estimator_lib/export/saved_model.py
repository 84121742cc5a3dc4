"""SavedModels: signatures of a traced model_fn, written whole and read back.

Layer 3. Signature names are those of tf.estimator 2.15. A receiver function may make
`tf.compat.v1.placeholder`s, or name any tensor as the place where requests enter: the graph
is traced once per mode and each signature is cut out of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from estimator_lib import variables
from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, ExportError, Reason, did_you_mean
from estimator_lib.export import input_names, outputs, retention
from estimator_lib.protocols import Features, Labels
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys
from estimator_lib.tensorflow_internals import UnliftableError

_log = logging.getLogger(__name__)

_METHODS = {
    outputs.ClassificationOutput: "tensorflow/serving/classify",
    outputs.RegressionOutput: "tensorflow/serving/regress",
}
_EXAMPLE_INPUT = "inputs"
PREDICT_SIGNATURE = "predict"


def no_checkpoint(model_dir: str) -> ExportError:
    """The error for an export before any training."""
    return ExportError(
        f"Nothing to export: there is no checkpoint in {model_dir}. Train first.",
        reason=Reason.FILE_NOT_FOUND,
    )


class Model(Protocol):
    """What is exported; see `training.traced_model`."""

    @property
    def store(self) -> variables.VariableStore:
        """The variables."""

    def tracing(self, mode: str) -> contextlib.AbstractContextManager[variables.Trace]:
        """Captures the variables of a call of model_fn in `mode`."""

    def call(self, features: Features, labels: Labels, mode: str) -> EstimatorSpec:
        """Calls model_fn once, inside the current graph."""


@dataclasses.dataclass
class Traced:
    """One mode of a model traced for export.

    Attributes:
        signatures: Signature name to a compiled function of named tensors.
        methods: Signature name to TF Serving's method name, where it is not "predict".
        resources: What the SavedModel must hold besides the variables.
        inputs: Signature name to the names of what it takes.
    """

    signatures: dict[str, Any]
    methods: dict[str, str]
    resources: tuple[Any, ...]
    inputs: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, mode: str, receiver_fn: Callable[[], Any]) -> Traced:
        """Traces `model` (a TracedModel) in `mode` from what `receiver_fn` gives.

        Raises:
            ExportError: there is nothing to export in this mode.
        """
        made: dict[str, Any] = {}

        def graph() -> None:
            receiver = receiver_fn()
            if not hasattr(receiver, "receiver_tensors"):
                raise ConfigError(
                    "serving_input_receiver_fn returned no receiver: expected a "
                    f"ServingInputReceiver, got {type(receiver).__name__}.",
                    reason=Reason.TYPE_MISMATCH,
                )
            labels = getattr(receiver, "labels", None)
            with model.tracing(mode), tf.summary.record_if(False):
                variables.global_step()
                made["exports"] = _exports(model.call(receiver.features, labels, mode), mode)
            operations = tf.compat.v1.get_default_graph().get_operations()
            # Metrics tell what they are after the batch.
            updates = [
                op
                for op in operations
                if mode == ModeKeys.EVAL and ("Assign" in op.type or "ScatterAdd" in op.type)
            ]
            with tf.control_dependencies(updates):
                made["tensors"] = {
                    name: {
                        key: tf.identity(value) for key, value in outputs.tensors(output).items()
                    }
                    for name, output in made["exports"].items()
                }
            made["receiver"] = receiver

        wrapped = tf.compat.v1.wrap_function(graph, signature=[])
        receiver, exports, tensors = made["receiver"], made["exports"], made["tensors"]
        if not exports:
            raise ExportError(
                f"The model exports nothing in mode {mode!r}: expected export_outputs in its "
                "EstimatorSpec.",
                reason=Reason.MISSING_VALUE,
            )
        resources = list(getattr(receiver, "resources", ()))
        if mode == ModeKeys.EVAL:  # the variables of metrics, which no checkpoint holds
            model.store.reset_local()
            resources += [model.store.variables[name] for name in sorted(model.store.local)]
        found = cls({}, {}, tuple(resources))
        raw = getattr(receiver, "raw_fields", False)
        found._add(wrapped, "", receiver.receiver_tensors, exports, tensors, raw=raw)
        alternatives = getattr(receiver, "receiver_tensors_alternatives", None) or {}
        for name, inputs in alternatives.items():
            found._add(wrapped, f"{name}:", inputs, exports, tensors)
        return found

    def _add(
        self,
        wrapped: tf.types.experimental.ConcreteFunction,
        prefix: str,
        inputs: Mapping[str, Any],
        exports: Mapping[str, outputs.ExportOutput],
        results: Mapping[str, Mapping[str, Any]],
        *,
        raw: bool = False,
    ) -> None:
        texts = [tensor.dtype == tf.string for tensor in inputs.values()]
        one_string = texts == [True] and not raw
        dropped = []
        for name, output in exports.items():
            method = next((m for kind, m in _METHODS.items() if isinstance(output, kind)), None)
            if method is not None and not one_string:
                dropped.append(name)
                continue
            tensors = dict(inputs)
            if method is not None:
                tensors = {_EXAMPLE_INPUT: next(iter(inputs.values()))}
                self.methods[prefix + name] = method
            self.inputs[prefix + name] = sorted(tensors)
            self.signatures[prefix + name] = _cut(wrapped, tensors, results[name])
        if DEFAULT_SIGNATURE in dropped and PREDICT_SIGNATURE in exports:
            # Clients that send raw fields would find no default; the predictions serve it.
            self.inputs[prefix + DEFAULT_SIGNATURE] = sorted(inputs)
            self.signatures[prefix + DEFAULT_SIGNATURE] = _cut(
                wrapped, dict(inputs), results[PREDICT_SIGNATURE]
            )
        if dropped:
            _log.info(
                "Signatures %s take one serialized tf.Example and are left out for the inputs %s.",
                ", ".join(prefix + name for name in dropped),
                ", ".join(inputs),
            )


def _exports(spec: EstimatorSpec, mode: str) -> dict[str, outputs.ExportOutput]:
    if mode == ModeKeys.PREDICT:
        return dict(spec.export_outputs or {})
    return {mode: outputs.EvalOutput(spec.loss, spec.predictions, spec.eval_metric_ops)}


def _cut(
    wrapped: tf.types.experimental.ConcreteFunction,
    inputs: Mapping[str, Any],
    results: Mapping[str, Any],
) -> Any:
    """Returns a function of the tensors `inputs`, by name, that gives `results`."""
    arguments = input_names.traced_as(inputs)
    names = sorted(inputs)
    with wrapped.graph.as_default():
        fetches = {name: tf.identity(value) for name, value in results.items()}
    try:
        pruned = wrapped.prune([inputs[name] for name in names], fetches)
    except (KeyError, UnliftableError) as error:
        raise ExportError(
            f"The inputs {', '.join(names)} are not enough: expected receiver tensors that all "
            "features are computed from. Add the others to the receiver, or to its alternatives.",
            reason=Reason.MISSING_VALUE,
        ) from error
    specs = [
        tf.TensorSpec(inputs[name].shape, inputs[name].dtype, name=arguments[name])
        for name in names
    ]

    @tf.function(input_signature=specs, autograph=False)
    def signature(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(pruned(*tensors))

    return signature


class _Root(tf.Module):
    """What is saved: the variables by name, the tables, the transform graph."""

    def __init__(self, model: Model, resources: Sequence[object]) -> None:
        super().__init__()
        self.model_variables = dict(model.store.saved())
        self.resources = [*model.store.resources, *resources]


def write(
    directory: pathlib.Path,
    traced: Sequence[Traced],
    model: Model,
    assets_extra: Mapping[str, str],
    *,
    as_text: bool = False,
) -> None:
    """Writes a SavedModel into an empty directory."""
    signatures: dict[str, Any] = {}
    methods: dict[str, str] = {}
    inputs: dict[str, list[str]] = {}
    resources: list[Any] = []
    for part in traced:
        signatures.update(part.signatures)
        methods.update(part.methods)
        inputs.update(part.inputs)
        resources += part.resources
    tf.saved_model.save(
        _Root(model, resources),
        str(directory),
        signatures=signatures,
        # A model that serves needs no gradients, and those of a cut graph cannot be written.
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    _set_names(directory / "saved_model.pb", methods, inputs, as_text=as_text)
    for name, source in assets_extra.items():
        target = storage.safe_join(directory / "assets.extra", name)
        storage.make_directory(target.parent)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            if storage.refused(error) is not None:
                unread = error.filename == os.fspath(source) and error.filename2 is None
                what = source if unread else target
                raise storage.storage_error("read" if unread else "write", what, error) from error
            raise ExportError(
                f"Extra asset {source} cannot be copied: {error.strerror}.",
                reason=Reason.FILE_NOT_FOUND,
            ) from error


def _set_names(
    path: pathlib.Path,
    methods: Mapping[str, str],
    inputs: Mapping[str, Collection[str]],
    *,
    as_text: bool,
) -> None:
    """Names what TensorFlow names otherwise: inputs, and the Classify and Regress methods.

    TF Serving looks at a signature's method, for which TF 2 writes Predict.
    """
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in proto.meta_graphs:
        input_names.rename(graph, inputs)
        for name, method in methods.items():
            graph.signature_def[name].method_name = method
    storage.write_bytes(path, proto.SerializeToString(deterministic=True))
    if as_text:
        storage.write_text(path.with_suffix(".pbtxt"), str(proto))


def write_timestamped(
    base: str,
    traced: Sequence[Traced],
    model: Model,
    assets_extra: Mapping[str, str],
    *,
    as_text: bool,
) -> bytes:
    """Writes a SavedModel to a new directory `<base>/<seconds since 1970>`; returns it."""
    target = retention.commit(
        base,
        lambda staged: write(staged, traced, model, assets_extra, as_text=as_text),
        at_least=int(time.time()),
    )
    return str(target).encode()


class LoadedModel:
    """A SavedModel that predicts rows given as numpy arrays.

    Attributes:
        signature_names: All signatures.
        inputs: Name to (dtype name, shape) of the default signature's inputs.
    """

    def __init__(self, directory: str, signature: str = DEFAULT_SIGNATURE) -> None:
        try:
            self._model = tf.saved_model.load(directory)
        except (OSError, tf.errors.OpError) as error:
            refusal = storage.refused(error)
            if refusal is not None:
                raise storage.storage_error("load SavedModel", directory, refusal) from error
            raise ExportError(
                f"SavedModel {directory} cannot be loaded: {str(error).splitlines()[0]}.",
                reason=Reason.CORRUPT_FILE,
            ) from error
        self.signature_names = sorted(self._model.signatures)
        if signature not in self.signature_names:
            raise ExportError(
                f"SavedModel {directory} has no signature {signature!r}."
                + did_you_mean(signature, self.signature_names),
                reason=Reason.UNKNOWN_NAME,
            )
        self._run = self._model.signatures[signature]
        arguments = self._run.structured_input_signature[1]
        self._arguments = input_names.loaded_as(directory, signature, arguments)
        self._specs = {name: arguments[own] for name, own in self._arguments.items()}
        self.inputs = {n: (s.dtype.name, tuple(s.shape)) for n, s in self._specs.items()}

    def predict(
        self, rows: Mapping[str, Any], batch_size: int | None = None
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the outputs for `rows`.

        Args:
            rows: Input name to array `[n, ...]`; strings as str, bytes or object arrays.
            batch_size: Rows at a time; all at once by default.

        Raises:
            ExportError: an input is missing.
        """
        missing = sorted(set(self._specs) - set(rows))
        if missing:
            raise ExportError(
                f"Input {missing[0]!r} is missing: the signature takes "
                f"{', '.join(sorted(self._specs))}, got {', '.join(sorted(rows))}.",
                reason=Reason.FIELD_MISSING,
            )
        count = len(next(iter(rows.values())))
        size = batch_size or max(count, 1)
        parts = [self._batch(rows, i, i + size) for i in range(0, max(count, 1), size)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _batch(self, rows: Mapping[str, Any], first: int, last: int) -> dict[str, Any]:
        given = {
            self._arguments[name]: _tensor(rows[name][first:last], spec.dtype)
            for name, spec in self._specs.items()
        }
        return {name: value.numpy() for name, value in self._run(**given).items()}


def _tensor(values: npt.ArrayLike, dtype: tf.DType) -> tf.Tensor:
    if dtype == tf.string:
        array = np.asarray(values, dtype=object)
        return tf.constant(array, tf.string)
    return tf.constant(np.asarray(values).astype(dtype.as_numpy_dtype, copy=False))


def load_model(directory: str, signature: str = DEFAULT_SIGNATURE) -> LoadedModel:
    """Loads one version of a served model, to score rows in batches."""
    return LoadedModel(str(directory), signature)


def signature_table(directory: str) -> str:
    """Returns the signatures of a SavedModel as strict JSON, for comparison and reports."""
    proto = saved_model_pb2.SavedModel.FromString(
        (pathlib.Path(directory) / "saved_model.pb").read_bytes()
    )
    table = {
        name: {
            "method": signature.method_name,
            "inputs": {k: v.dtype for k, v in sorted(signature.inputs.items())},
            "outputs": {k: v.dtype for k, v in sorted(signature.outputs.items())},
        }
        for graph in proto.meta_graphs
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }
    return json.dumps(table, sort_keys=True)
