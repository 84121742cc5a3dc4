"""Predictions batch by batch, and a predictor that is kept for single rows.

Layer 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.inputs import datasets
from estimator_lib.protocols import Array, Features, InputFn, Labels, Path, Predictions
from estimator_lib.specs import ModeKeys
from estimator_lib.tensorflow_internals import convert_to_eager_tensor, eager_context
from estimator_lib.training.engine import Engine
from estimator_lib.training.hooks import Hook, StepContext


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledBatch:
    """A batch with what the model says of it.

    Attributes:
        features: What the model read.
        labels: What it should say; None if the input has none.
        predictions: What it says, by name; several heads' by (head, name).
    """

    features: Features
    labels: Labels
    predictions: Mapping[str | tuple[str, str], Array]


def labelled(engine: Engine, input_fn: InputFn) -> Iterator[LabelledBatch]:
    """Yields the batches of an evaluation's input, with predictions of the newest checkpoint.

    Args:
        engine: What predicts.
        input_fn: Gives features and labels; it must end.

    Raises:
        DataError: the input never ends.
    """
    dataset = engine.inputs.dataset(input_fn, ModeKeys.EVAL)
    datasets.refuse_endless(dataset, input_fn, "predicting")
    function = engine.model.predict_function(datasets.split(dataset.element_spec)[0])
    engine.weights.use(None, function.form.variables)
    for element in dataset:
        features, labels = datasets.split(element)
        found = function.run(features)
        named = found if isinstance(found, Mapping) else {"predictions": found}
        yield LabelledBatch(
            features=features,
            labels=labels,
            predictions={name: value.numpy() for name, value in named.items()},
        )


def batches(
    engine: Engine,
    input_fn: InputFn,
    keys: str | Sequence[str] | None,
    hooks: Sequence[Hook],
    checkpoint_path: Path | None,
) -> Iterator[Array | Mapping[str, Array]]:
    """Yields predictions batch by batch.

    Args:
        engine: What predicts.
        input_fn: Gives features; labels are left out.
        keys: See `select`.
        hooks: Run around the batches.
        checkpoint_path: Weights to use; None is the newest.
    """
    context = StepContext(
        step=0, first_step=0, model_dir=engine.model_dir, variables=engine.model.store.variables
    )
    dataset = engine.inputs.dataset(input_fn, ModeKeys.PREDICT)
    function = engine.model.predict_function(datasets.split(dataset.element_spec)[0])
    engine.weights.use(checkpoint_path, function.form.variables)
    hooks = [*hooks, *function.hooks]
    for hook in hooks:
        hook.begin()
    for element in dataset:
        for hook in hooks:
            hook.before_step(context)
        features = datasets.split(element)[0]
        if function.run_with_hooks is None:
            result = function.run(features)
        else:
            result, fetched = function.run_with_hooks(features)
            context.values = {name: value.numpy() for name, value in fetched.items()}
        batch = to_numpy(select(result, keys))
        context.step += 1
        for hook in hooks:
            hook.after_step(context)
        yield batch
    for hook in hooks:
        hook.end(context)


def select(predictions: Predictions, keys: str | Sequence[str] | None) -> Predictions:
    """Returns only the wanted predictions.

    Raises:
        ConfigError: no such key.
    """
    if keys is None:
        return predictions
    wanted = [keys] if isinstance(keys, str) else list(keys)
    if not isinstance(predictions, Mapping):
        raise ConfigError(
            "predict_keys are given, but the model's predictions are one tensor. Leave them out.",
            reason=Reason.CONFLICT,
        )
    for key in wanted:
        if key not in predictions:
            raise ConfigError(
                f"Prediction {key!r} is unknown.{did_you_mean(str(key), map(str, predictions))}",
                reason=Reason.UNKNOWN_NAME,
            )
    return {key: predictions[key] for key in wanted}


def rows(predictions: Array | Mapping[str, Array]) -> Iterator[Array | dict[str, Array]]:
    """Yields the predictions of each row of a batch.

    Raises:
        DataError: the predictions' first dimensions differ.
    """
    named = predictions if isinstance(predictions, Mapping) else {"predictions": predictions}
    sizes = {name: np.shape(value)[0] if np.ndim(value) else None for name, value in named.items()}
    if len(set(sizes.values())) != 1 or None in sizes.values():
        raise DataError(
            f"Predictions differ in their first dimension: {quote(sizes, 200)}. Give every "
            "prediction one entry per example, or set yield_single_examples=False.",
            reason=Reason.TYPE_MISMATCH,
        )
    for i in range(int(next(iter(sizes.values())) or 0)):
        if isinstance(predictions, Mapping):
            yield {name: value[i] for name, value in predictions.items()}
        else:
            yield predictions[i]


def to_numpy(predictions: Predictions) -> Array | dict[str, Array]:
    """Returns predictions as numpy arrays, structure kept."""
    if isinstance(predictions, Mapping):
        return {name: value.numpy() for name, value in predictions.items()}
    return predictions.numpy()


class Predictor:
    """Predicts rows given as arrays, with everything compiled and loaded.

    A call is one op: what `tf.function` checks again in every call, how arguments and results
    are nested, is settled once here. Only the wanted predictions are computed.

    Args:
        run: From features to predictions (tensors).
        spec: Features by name as TensorSpec `[batch, ...]`.
        keys: See `select`.
        step: See below.

    Attributes:
        step: Global step of the weights.

    Raises:
        ConfigError: a key that the model does not predict.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Any],
        spec: Mapping[str, Any],
        keys: str | Sequence[str] | None,
        step: int,
    ) -> None:
        @tf.function(autograph=False, input_signature=[dict(spec)])
        def selected(features: Mapping[str, Any]) -> Any:
            return select(run(features), keys)

        self._function = selected.get_concrete_function()
        self._captured = self._function.captured_inputs
        self._results = [result.dtype for result in self._function.outputs]
        self._structure = self._function.structured_outputs
        # Arguments are flattened by name.
        self._types = {name: spec[name].dtype.as_datatype_enum for name in sorted(spec)}
        self.step = step

    def predict(self, features: Mapping[str, Any]) -> Any:
        """Returns the predictions of a batch as numpy arrays.

        Args:
            features: Arrays `[batch, ...]` (or lists) by feature name; for one row, `[1, ...]`.

        Raises:
            ConfigError: a feature is missing.
        """
        here = eager_context()
        try:
            given = [
                convert_to_eager_tensor(features[name], here, kind)
                for name, kind in self._types.items()
            ]
        except KeyError as error:
            raise ConfigError(
                f"Feature {error.args[0]!r} is missing: expected "
                f"{', '.join(self._types)}, got {', '.join(features)}.",
                reason=Reason.FIELD_MISSING,
            ) from error
        results = tf.raw_ops.StatefulPartitionedCall(
            args=[*given, *self._captured], Tout=self._results, f=self._function
        )
        return to_numpy(tf.nest.pack_sequence_as(self._structure, results, expand_composites=True))

    __call__ = predict


def batch_spec(features: Mapping[str, Any]) -> dict[str, Any]:
    """Returns specs for arrays `[batch, ...]`, the batch left open."""
    found = {}
    for name, value in features.items():
        if isinstance(value, tf.TensorSpec):
            found[name] = value
            continue
        array = np.asarray(value)
        dtype = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
        if dtype == tf.float64:
            dtype = tf.float32
        found[name] = tf.TensorSpec([None, *array.shape[1:]], dtype, name=name)
    return found
