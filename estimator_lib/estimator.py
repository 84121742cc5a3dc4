"""`Estimator`: train, evaluate, predict and export a model given as one function.

Layer 4, the facade: it validates and delegates. An Estimator keeps its variables and compiled
functions between calls; it reads a checkpoint only when a newer one exists.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.export import saved_model
from estimator_lib.inputs import datasets
from estimator_lib.protocols import Features, InputFn, Labels, Path
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.tensorflow_internals import in_eager_mode
from estimator_lib.training import asynchronous, checkpoints, prediction, session_hooks, warm_start
from estimator_lib.training.engine import Engine
from estimator_lib.training.evaluation import EvaluationRun
from estimator_lib.training.hooks import CheckpointSaverListener
from estimator_lib.training.lease import Lease
from estimator_lib.training.run_config import RunConfig, with_model_dir
from estimator_lib.training.training_run import TrainingRun
from estimator_lib.training.warm_start import WarmStartSettings

_END = object()


class Estimator:
    """Trains and serves the model that `model_fn` defines.

    Args:
        model_fn: `(features, labels, mode, params, config) -> EstimatorSpec`; all but features
            are optional. It is traced once per mode and input signature.
        model_dir: Where checkpoints, summaries and exports go; a temporary directory if
            neither this nor the configuration names one.
        config: RunConfig.
        params: Hyperparameters for model_fn and input_fn: a dict, or any object.
        warm_start_from: A checkpoint, model directory or SavedModel path, or
            WarmStartSettings; used when model_dir has no checkpoint.

    Raises:
        ConfigError: an argument is wrong.
    """

    @in_eager_mode
    def __init__(
        self,
        model_fn: Callable[..., EstimatorSpec],
        model_dir: str | None = None,
        config: RunConfig | None = None,
        params: object = None,
        warm_start_from: str | WarmStartSettings | None = None,
    ) -> None:
        if not callable(model_fn):
            raise _mistyped("model_fn", "a function", model_fn)
        if config is not None and not isinstance(config, RunConfig):
            raise _mistyped("config", "a RunConfig", config)
        self._config = with_model_dir(config or RunConfig(), model_dir)
        self._params = copy.deepcopy({} if params is None else params)
        warm = warm_start.settings(warm_start_from)
        self._engine = Engine.of(model_fn, self._params, self._config, warm)
        self._engine.model_fn.refuse_params(params)

    # --- What it is -----------------------------------------------------------------------

    @property
    def model_dir(self) -> str:
        """The model directory."""
        return str(self._config.model_dir)

    @property
    def config(self) -> RunConfig:
        """The run's configuration, model_dir filled in."""
        return self._config

    @property
    def params(self) -> Any:
        """A copy of the hyperparameters."""
        return copy.deepcopy(self._params)

    @property
    def model_fn(self) -> Callable[..., EstimatorSpec]:
        """model_fn with params bound: `(features, labels, mode, config)`."""

        def bound(
            features: Features, labels: Labels, mode: str, config: RunConfig | None = None
        ) -> EstimatorSpec:
            given = self._config if config is None else config
            return self._engine.model_fn(features, labels, mode, self._params, given)

        return bound

    def with_model_fn(self, model_fn: Callable[..., EstimatorSpec]) -> Self:
        """Returns an Estimator of the same class that shares model_dir, with another model_fn."""
        twin = copy.copy(self)
        warm = self._engine.weights.warm_start
        twin._engine = Engine.of(model_fn, self._params, self._config, warm)
        return twin

    @property
    def traces(self) -> int:
        """How often model_fn has been called; it grows only for a new mode or input form."""
        return self._engine.model.traces

    # --- Train ----------------------------------------------------------------------------

    @in_eager_mode
    def train(
        self,
        input_fn: InputFn,
        hooks: Sequence[object] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[CheckpointSaverListener] | None = None,
    ) -> Estimator:
        """Trains from the newest checkpoint on.

        Args:
            input_fn: Gives features and labels.
            hooks: Run around the steps.
            steps: Steps to add; or
            max_steps: the global step to end at: nothing is done when it is reached already.
                With neither, training ends when the input does.
            saving_listeners: Told about checkpoints.

        Returns:
            Itself.

        Raises:
            ConfigError: both steps and max_steps, or one is not positive.
            CheckpointError: no checkpoint can be read, it is another model's, or another
                trainer works in model_dir.
            TrainingError: the loss is not finite, the input is empty, a signal asked to end, or
                another process of the cluster is gone.
        """
        _check_steps(steps, max_steps)
        for listener in saving_listeners or ():
            if not hasattr(listener, "after_save"):
                raise _mistyped("saving_listeners", "CheckpointSaverListeners", listener)
        if self._config.task_type in ("ps", "evaluator"):
            raise ConfigError(
                f"train() is not for the task type {self._config.task_type!r}: only chief and "
                "worker train.",
                reason=Reason.CONFLICT,
            )
        if self._config.is_asynchronous:
            if steps is not None:
                raise ConfigError(
                    "train() argument steps has no meaning where several workers count together: "
                    f"expected max_steps, got steps={steps}. Give max_steps.",
                    reason=Reason.UNSUPPORTED,
                )
            with datasets.explain_errors(input_fn):
                asynchronous.train(
                    self._engine,
                    input_fn,
                    hooks=hooks or (),
                    listeners=saving_listeners or (),
                    max_steps=max_steps,
                )
            return self
        # Only the chief writes to the directory.
        owned: contextlib.AbstractContextManager[Lease | None] = (
            Lease(self.model_dir) if self._config.is_chief else contextlib.nullcontext()
        )
        with owned as lease, datasets.explain_errors(input_fn):
            TrainingRun(
                engine=self._engine,
                lease=lease,
                input_fn=input_fn,
                hooks=hooks or (),
                listeners=saving_listeners or (),
                steps=steps,
                max_steps=max_steps,
            ).run()
        return self

    @in_eager_mode
    def begin(
        self,
        input_fn: InputFn,
        start: Callable[[tf.data.Dataset, Mapping[str, tf.Variable]], None],
    ) -> None:
        """Lets a model that begins with its data set its variables before the first step.

        Nothing is done where a checkpoint or another model gives them.

        Args:
            input_fn: The input of the training that follows, which begins anew.
            start: Called with a dataset of its batches and the variables by name.
        """
        engine = self._engine
        if self._config.is_asynchronous:
            raise ConfigError(
                f"{type(self).__name__} begins with a pass over its data, which parameter servers "
                "do not support. Train it in one process.",
                reason=Reason.UNSUPPORTED,
            )
        if engine.weights.are_given:
            return
        with datasets.explain_errors(input_fn):
            batches = engine.inputs.dataset(input_fn, ModeKeys.TRAIN)
            form = engine.model.build(ModeKeys.TRAIN, batches.element_spec)
            engine.weights.hold(form.variables)
            start(batches, engine.model.store.variables)

    # --- Evaluate -------------------------------------------------------------------------

    @in_eager_mode
    def evaluate(
        self,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[object] | None = None,
        checkpoint_path: Path | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Returns metrics over the input.

        Args:
            input_fn: Gives features and labels.
            steps: Batches at most; None evaluates all, and then the input must end.
            hooks: Run around the batches.
            checkpoint_path: Weights to use; the newest by default, fresh ones if there are
                none.
            name: Tells evaluations apart: summaries go to `eval_<name>`.

        Returns:
            Metrics by name, `loss` (mean over batches) and `global_step`.
        """
        with datasets.explain_errors(input_fn):
            run = self._evaluation(input_fn, steps, hooks, name)
            return run.of_checkpoint(checkpoint_path)

    @in_eager_mode
    def evaluate_in_memory(
        self,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[object] | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Like `evaluate`, with the variables as they are now, whatever was saved."""
        with datasets.explain_errors(input_fn):
            return self._evaluation(input_fn, steps, hooks, name).in_memory()

    def _evaluation(
        self,
        input_fn: InputFn,
        steps: int | None,
        hooks: Sequence[object] | None,
        name: str | None,
    ) -> EvaluationRun:
        if steps is not None and steps <= 0:
            raise _bad_steps("evaluate", "steps", steps)
        return EvaluationRun(
            engine=self._engine,
            input_fn=input_fn,
            steps=steps,
            hooks=hooks or (),
            eval_dir=self.eval_dir(name),
            name=name,
        )

    # --- Predict --------------------------------------------------------------------------

    def predict(
        self,
        input_fn: InputFn,
        predict_keys: str | Sequence[str] | None = None,
        hooks: Sequence[object] | None = None,
        checkpoint_path: Path | None = None,
        yield_single_examples: bool = True,
    ) -> Iterator[Any]:
        """Yields predictions for the features of the input, row by row or batch by batch.

        Args:
            input_fn: Gives features; labels are left out.
            predict_keys: Predictions wanted; all by default.
            hooks: Run around the batches.
            checkpoint_path: Weights to use; the newest by default.
            yield_single_examples: Whether to yield rows; else whole batches.

        Yields:
            A dict of numpy values by name, or one value if the model has one prediction.
        """
        own, for_sessions = session_hooks.split(hooks or ())
        every_hook = [*own, *for_sessions]
        found = prediction.batches(
            self._engine, input_fn, predict_keys, every_hook, checkpoint_path
        )
        following = in_eager_mode(functools.partial(next, found, _END))
        with datasets.explain_errors(input_fn):
            while (batch := following()) is not _END:
                if yield_single_examples:
                    yield from prediction.rows(batch)
                else:
                    yield batch

    def labelled_predictions(self, input_fn: InputFn) -> Iterator[prediction.LabelledBatch]:
        """Yields features, labels and predictions of the newest checkpoint, batch by batch.

        Raises:
            DataError: the input never ends.
        """
        with datasets.explain_errors(input_fn):
            yield from prediction.labelled(self._engine, input_fn)

    @in_eager_mode
    def predictor(
        self,
        features: Mapping[str, object],
        predict_keys: str | Sequence[str] | None = None,
        checkpoint_path: Path | None = None,
    ) -> prediction.Predictor:
        """Returns a predictor for rows given as arrays; keep it and call it often.

        Args:
            features: An example batch of arrays, or TensorSpecs, by feature name.
            predict_keys: Predictions wanted; all by default.
            checkpoint_path: Weights to use; the newest by default. They are the Estimator's
                own variables: training it further also changes what the predictor says.
        """
        spec = prediction.batch_spec(features)
        function = self._engine.model.predict_function(spec)
        self._engine.weights.use(checkpoint_path, function.form.variables)
        return prediction.Predictor(function.run, spec, predict_keys, self._engine.step())

    # --- Export ---------------------------------------------------------------------------

    def export_saved_model(
        self,
        export_dir_base: str,
        serving_input_receiver_fn: Callable[[], object],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: Path | None = None,
        experimental_mode: str = ModeKeys.PREDICT,
    ) -> bytes:
        """Writes a SavedModel to a new numbered directory below `export_dir_base`.

        Args:
            export_dir_base: Parent of the versions.
            serving_input_receiver_fn: Gives a ServingInputReceiver.
            assets_extra: Name below `assets.extra/` to a file to copy there.
            as_text: Whether to write `saved_model.pbtxt` as well.
            checkpoint_path: Weights to use; the newest by default.
            experimental_mode: Mode whose function is exported.

        Returns:
            The directory, as bytes.

        Raises:
            ExportError: there is no checkpoint, or no signature can be made.
        """
        receivers = {experimental_mode: serving_input_receiver_fn}
        return self.experimental_export_all_saved_models(
            export_dir_base, receivers, assets_extra, as_text, checkpoint_path
        )

    @in_eager_mode
    def experimental_export_all_saved_models(
        self,
        export_dir_base: str,
        input_receiver_fn_map: Mapping[str, Callable[[], object]],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: Path | None = None,
    ) -> bytes:
        """Like `export_saved_model`, for several modes at once in one SavedModel."""
        model, weights = self._engine.model, self._engine.weights
        signatures = [
            saved_model.Traced.of(model, mode, receiver_fn)
            for mode, receiver_fn in input_receiver_fn_map.items()
        ]
        if checkpoint_path is None and not weights.are_given:
            raise saved_model.no_checkpoint(self.model_dir)
        path = checkpoint_path or self.latest_checkpoint()
        weights.use(path, tuple(model.store.saved()))
        return saved_model.write_timestamped(
            os.fsdecode(export_dir_base), signatures, model, assets_extra or {}, as_text=as_text
        )

    # --- Checkpoints ----------------------------------------------------------------------

    def eval_dir(self, name: str | None = None) -> str:
        """Returns where results of the evaluation `name` go."""
        return str(pathlib.Path(self.model_dir) / (f"eval_{name}" if name else "eval"))

    def latest_checkpoint(self) -> str | None:
        """Returns the newest checkpoint's path, or None."""
        return self.checkpoints.latest()

    @in_eager_mode
    def get_variable_names(self) -> list[str]:
        """Returns the names in the newest checkpoint."""
        return sorted(checkpoints.names(self._engine.weights.newest()))

    @in_eager_mode
    def get_variable_value(self, name: str) -> Any:
        """Returns a variable's value in the newest checkpoint as a numpy array."""
        return checkpoints.load_value(self._engine.weights.newest(), name)

    @property
    def checkpoints(self) -> checkpoints.CheckpointDirectory:
        """The checkpoints in model_dir."""
        return self._engine.weights.directory


# --- Pieces -----------------------------------------------------------------------------------


def _check_steps(steps: int | None, max_steps: int | None) -> None:
    if steps is not None and max_steps is not None:
        raise ConfigError(
            "train() has both steps and max_steps. Give only one.", reason=Reason.CONFLICT
        )
    for name, value in (("steps", steps), ("max_steps", max_steps)):
        if value is not None and value <= 0:
            raise _bad_steps("train", name, value)


def _bad_steps(function: str, name: str, value: int) -> ConfigError:
    return ConfigError(
        f"{function}() argument {name} is invalid: expected a positive integer or None, got "
        f"{value}.",
    )


def _mistyped(argument: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"Estimator.{argument} is invalid: expected {expected}, got {quote(got)}.",
        reason=Reason.TYPE_MISMATCH,
    )
