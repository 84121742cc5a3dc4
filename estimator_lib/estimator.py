"""`Estimator`: train, evaluate, predict and export a model given as one function.

Layer 4, the facade: it validates and delegates. An Estimator keeps its variables and compiled
functions between calls; it reads a checkpoint only when a newer one exists.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context as eager_context

from estimator_lib.core.errors import CheckpointError, ConfigError, Reason, quote
from estimator_lib.export import saved_model
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import Feed
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.training import (
    checkpoints,
    evaluation,
    history,
    hooks,
    loop,
    prediction,
    warm_start,
)
from estimator_lib.training.checkpoints import Loaded
from estimator_lib.training.lease import Lease
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.session_hooks import SessionHook, is_for_sessions
from estimator_lib.training.step import TracedModel
from estimator_lib.variables import AVERAGE

_log = logging.getLogger(__name__)
_END = object()


def _in_eager_mode(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a method run as usual where a program has a graph open or eager execution disabled.

    Programs of TensorFlow 1 do so; an Estimator traces graphs of its own.
    """

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if tf.executing_eagerly():
            return method(*args, **kwargs)
        with eager_context.eager_mode():
            return method(*args, **kwargs)

    return call


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

    @_in_eager_mode
    def __init__(
        self,
        model_fn: Callable[..., EstimatorSpec],
        model_dir: str | None = None,
        config: RunConfig | None = None,
        params: Any = None,
        warm_start_from: Any = None,
    ) -> None:
        if not callable(model_fn):
            raise ConfigError(
                f"Estimator.model_fn is invalid: expected a function, got {quote(model_fn)}.",
                reason=Reason.TYPE_MISMATCH,
            )
        if config is not None and not isinstance(config, RunConfig):
            raise ConfigError(
                f"Estimator.config is invalid: expected a RunConfig, got {quote(config)}.",
                reason=Reason.TYPE_MISMATCH,
            )
        self._config = _with_model_dir(config or RunConfig(), model_dir)
        self._params = copy.deepcopy({} if params is None else params)
        self._warm_start = warm_start.settings(warm_start_from)
        self._user_model_fn = model_fn
        self._checkpoints = checkpoints.CheckpointDirectory(
            self.model_dir,
            keep_max=self._config.keep_checkpoint_max,
            keep_every_hours=self._config.keep_checkpoint_every_n_hours,
        )
        self._model = TracedModel(model_fn, self._params, self._config, self.model_dir)
        self._stamp: Any = None
        self._synced: set[str] = set()
        self._engine: Mapping[str, Any] = {}

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

        def bound(features: Any, labels: Any, mode: str, config: Any = None) -> EstimatorSpec:
            del config
            return self._model.call(features, labels, mode)

        return bound

    @property
    def traces(self) -> int:
        """How often model_fn has been called; it grows only for a new mode or input form."""
        return self._model.traces

    # --- Train ----------------------------------------------------------------------------

    @_in_eager_mode
    def train(
        self,
        input_fn: Callable[..., Any],
        hooks: Sequence[Any] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[Any] | None = None,
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
            TrainingError: the loss is not finite, the input is empty, or a signal asked to end.
        """
        _check_steps(steps, max_steps)
        if self._config.task_type in ("ps", "evaluator"):
            raise ConfigError(
                f"train() is not for the task type {self._config.task_type!r}: only chief and "
                "worker train.",
                reason=Reason.CONFLICT,
            )
        with Lease(self.model_dir) as lease, datasets.explained(input_fn):
            self._train(input_fn, hooks or (), steps, max_steps, saving_listeners or (), lease)
        return self

    @_in_eager_mode
    def begin(self, input_fn: Any, start: Callable[[Any, Mapping[str, Any]], None]) -> None:
        """Lets a model that begins with its data set its variables before the first step.

        Args:
            input_fn: The input of the training that follows, which begins anew.
            start: Called with a dataset of its batches and the variables by name.
        """
        with datasets.explained(input_fn):
            batches = self._dataset(input_fn, ModeKeys.TRAIN, None, 0)
            form = self._model.build(ModeKeys.TRAIN, batches.element_spec)
            self._sync(None, ModeKeys.TRAIN, form.variables)
            start(batches, self._model.store.variables)

    def _train(
        self,
        input_fn: Any,
        user_hooks: Sequence[Any],
        steps: int | None,
        max_steps: int | None,
        listeners: Sequence[Any],
        lease: Lease,
    ) -> None:
        newest = self._load_if_newer()
        start = newest.step if newest else self._live_step()
        if max_steps is not None and start >= max_steps:
            return
        strategy = _real(self._config.train_distribute)
        first = _input_position(newest.engine if newest else self._engine, input_fn)
        feed = self._feed(input_fn, ModeKeys.TRAIN, strategy, first)
        expected = [n for n in (steps, max_steps, getattr(input_fn, "batches", None)) if n]
        user_hooks, for_sessions = _split_hooks(user_hooks)
        compiled = self._model.train_function(
            feed, strategy, min(expected, default=None), for_sessions
        )
        self._sync(newest, ModeKeys.TRAIN, compiled.form.variables)
        _trace(compiled, feed)
        every_hook = self._train_hooks(user_hooks, compiled)
        config = _saving(self._config, every_hook)
        listeners = [*listeners, *(n for h in every_hook for n in getattr(h, "listeners", ()))]
        history.forget_after(f"{self.model_dir}/{history.HISTORY}", start)
        consumed_before = [first]
        replicas = strategy.num_replicas_in_sync if strategy else 1

        def save(consumed: int | None) -> str:
            lease.check()
            # Every replica takes a batch of its own in each step.
            taken = replicas * (consumed or 0)
            position = None if consumed is None else consumed_before[0] + taken
            engine = {"input": {"fingerprint": _fingerprint(input_fn), "batch": position}}
            return self._save(compiled.form.variables, engine)

        def diagnose(batch: int) -> str:
            return self._diagnose(input_fn, first + batch)

        nan_hooks = [h for h in every_hook if isinstance(h, hooks.NanTensorHook)]
        session = loop.Session(
            model=self._model,
            compiled=compiled,
            feed=feed,
            hooks=every_hook,
            listeners=listeners,
            last_step=max_steps if max_steps is not None else _plus(start, steps),
            config=config,
            model_dir=self.model_dir,
            save=save if _saves(config) else None,
            saved_step=self._newest_step(),
            diagnose=diagnose,
            fail_on_nan=all(h.fail_on_nan_loss for h in nan_hooks),
        )
        try:
            outcome = loop.train(session)
        except BaseException:
            # The variables may hold anything now; the next call reads the checkpoint again.
            self._stamp = None
            self._synced = set()
            raise
        if outcome.steps == 0 and outcome.ended:
            if not first:
                raise datasets.empty_input(input_fn)
            self._engine = {}
            self._train(input_fn, user_hooks, steps, max_steps, listeners, lease)

    def _train_hooks(self, user_hooks: Sequence[Any], compiled: Any) -> tuple[hooks.Hook, ...]:
        spec = compiled.spec["spec"]
        found = [*user_hooks, *spec.training_hooks]
        if self._config.is_chief:
            found += list(spec.training_chief_hooks)
            every = self._config.save_summary_steps
            if every is not None and _saves(_saving(self._config, found)):
                found += [
                    hooks.StepCounterHook(every_n_steps=every),
                    hooks.SummarySaverHook(save_steps=every),
                ]
        for hook in found:
            wanted = getattr(hook, "tensors", {})
            unknown = [
                t for n, t in wanted.items()
                if n not in compiled.form.fetches and t not in ("loss", "global_step")
            ]  # fmt: skip
            if unknown:
                raise ConfigError(
                    f"Hook {type(hook).__name__} asks for {quote(unknown[0])}, which train() "
                    "cannot fetch. Make the hook in model_fn and return it as training_hooks.",
                    reason=Reason.UNKNOWN_NAME,
                )
        return hooks.check(found)

    def _diagnose(self, input_fn: Any, batch: int) -> str:
        text = loop.describe_weights(self._model.store.variables)
        try:
            dataset = self._dataset(input_fn, ModeKeys.TRAIN, None, 0)
            for element in dataset.skip(batch).take(1):
                return f"{loop.describe_batch(datasets.split(element)[0])} {text}".strip()
        except Exception:  # noqa: BLE001 - it only helps to explain another error
            return text
        return text

    # --- Evaluate -------------------------------------------------------------------------

    def evaluate(
        self,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Sequence[Any] | None = None,
        checkpoint_path: str | None = None,
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
        return self._evaluate(input_fn, steps, hooks, checkpoint_path, name, in_memory=False)

    def evaluate_in_memory(
        self,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Like `evaluate`, with the variables as they are now, whatever was saved."""
        return self._evaluate(input_fn, steps, hooks, None, name, in_memory=True)

    @_in_eager_mode
    def _evaluate(
        self,
        input_fn: Callable[..., Any],
        steps: int | None,
        hooks: Sequence[Any] | None,
        checkpoint_path: str | None,
        name: str | None,
        *,
        in_memory: bool,
    ) -> dict[str, Any]:
        if steps is not None and steps <= 0:
            raise _bad_steps("evaluate", "steps", steps)
        strategy = _real(self._config.eval_distribute)
        with datasets.explained(input_fn):
            feed = self._feed(input_fn, ModeKeys.EVAL, strategy, 0)
            if steps is None and strategy is None:
                datasets.refuse_endless(feed.dataset, input_fn, "evaluate()")
            own_hooks, for_sessions = _split_hooks(hooks or ())
            compiled = self._model.evaluate_function(feed, strategy, for_sessions)
            path = None
            if not in_memory:
                path = self._use(checkpoint_path, ModeKeys.EVAL, compiled.form.variables)
            _trace(compiled, feed)
            values = evaluation.run(
                self._model,
                compiled,
                feed,
                batches=steps,
                input_fn=input_fn,
                hook_list=_checked((*own_hooks, *compiled.spec["spec"].evaluation_hooks)),
                model_dir=self.eval_dir(name),
                call_s=self._config.max_call_secs,
            )
        metrics = evaluation.merged(values)
        evaluation.write(
            metrics,
            eval_dir=self.eval_dir(name),
            model_dir=self.model_dir,
            name=name,
            checkpoint_path=path,
        )
        return metrics

    # --- Predict --------------------------------------------------------------------------

    def predict(
        self,
        input_fn: Callable[..., Any],
        predict_keys: str | Sequence[str] | None = None,
        hooks: Sequence[Any] | None = None,
        checkpoint_path: str | None = None,
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
        found = self._predict(
            input_fn,
            predict_keys,
            _checked([SessionHook(h) if is_for_sessions(h) else h for h in hooks or ()]),
            checkpoint_path,
            yield_single_examples,
        )
        following = _in_eager_mode(functools.partial(next, found, _END))
        with datasets.explained(input_fn):
            while (prediction_ := following()) is not _END:
                yield prediction_

    def _predict(
        self,
        input_fn: Callable[..., Any],
        predict_keys: str | Sequence[str] | None,
        every_hook: Sequence[hooks.Hook],
        checkpoint_path: str | None,
        yield_single_examples: bool,
    ) -> Iterator[Any]:
        context = _prediction_context(self.model_dir, self._model.store.variables)
        dataset = self._dataset(input_fn, ModeKeys.PREDICT, None, 0)
        features_spec, _ = datasets.split(dataset.element_spec)
        compiled = self._model.predict_function(features_spec)
        self._use(checkpoint_path, ModeKeys.PREDICT, compiled.form.variables)
        if compiled.run_with_hooks is not None:
            every_hook = (*every_hook, *compiled.spec["spec"].prediction_hooks)
        for hook in every_hook:
            hook.begin()
        for element in dataset:
            for hook in every_hook:
                hook.before_step(context)
            features = datasets.split(element)[0]
            if compiled.run_with_hooks is None:
                result = compiled.run(features)
            else:
                result, fetched = compiled.run_with_hooks(features)
                context.values = prediction.to_numpy(fetched)
            batch = prediction.to_numpy(prediction.select(result, predict_keys))
            context.step += 1
            for hook in every_hook:
                hook.after_step(context)
            if yield_single_examples:
                yield from prediction.rows(batch)
            else:
                yield batch
        for hook in every_hook:
            hook.end(context)

    @_in_eager_mode
    def predictor(
        self,
        features: Mapping[str, Any],
        predict_keys: str | Sequence[str] | None = None,
        checkpoint_path: str | None = None,
    ) -> prediction.Predictor:
        """Returns a predictor for rows given as arrays; keep it and call it often.

        Args:
            features: An example batch of arrays, or TensorSpecs, by feature name.
            predict_keys: Predictions wanted; all by default.
            checkpoint_path: Weights to use; the newest by default. They are the Estimator's
                own variables: training it further also changes what the predictor says.
        """
        spec = prediction.batch_spec(features)
        compiled = self._model.predict_function(spec)
        self._use(checkpoint_path, ModeKeys.PREDICT, compiled.form.variables)
        return prediction.Predictor(compiled.run, spec, predict_keys, self._live_step())

    # --- Export ---------------------------------------------------------------------------

    def export_saved_model(
        self,
        export_dir_base: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
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

    @_in_eager_mode
    def experimental_export_all_saved_models(
        self,
        export_dir_base: str,
        input_receiver_fn_map: Mapping[str, Callable[[], Any]],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> bytes:
        """Like `export_saved_model`, for several modes at once in one SavedModel."""
        signatures = []
        for mode, receiver_fn in input_receiver_fn_map.items():
            signatures.append(saved_model.Traced.of(self._model, mode, receiver_fn))
        path = _text(checkpoint_path) or self.latest_checkpoint()
        if path is None and self._warm_start is None:
            raise saved_model.no_checkpoint(self.model_dir)
        self._use(path, ModeKeys.PREDICT, tuple(self._model.store.saved()))
        return saved_model.write_timestamped(
            os.fsdecode(export_dir_base),
            signatures,
            self._model,
            assets_extra or {},
            as_text=as_text,
        )

    # --- Checkpoints ----------------------------------------------------------------------

    def eval_dir(self, name: str | None = None) -> str:
        """Returns where results of the evaluation `name` go."""
        return str(pathlib.Path(self.model_dir) / (f"eval_{name}" if name else "eval"))

    def latest_checkpoint(self) -> str | None:
        """Returns the newest checkpoint's path, or None."""
        return self._checkpoints.latest()

    @_in_eager_mode
    def get_variable_names(self) -> list[str]:
        """Returns the names in the newest checkpoint."""
        return sorted(checkpoints.names(self._needed_checkpoint()))

    @_in_eager_mode
    def get_variable_value(self, name: str) -> Any:
        """Returns a variable's value in the newest checkpoint as a numpy array."""
        return checkpoints.load_value(self._needed_checkpoint(), name)

    @property
    def checkpoints(self) -> checkpoints.CheckpointDirectory:
        """The checkpoints in model_dir."""
        return self._checkpoints

    def _needed_checkpoint(self) -> str:
        path = self.latest_checkpoint()
        if path is None:
            raise CheckpointError(
                f"There is no checkpoint in {self.model_dir}. Train first.",
                reason=Reason.FILE_NOT_FOUND,
            )
        return path

    def _newest_step(self) -> int | None:
        path = self.latest_checkpoint()
        return None if path is None else checkpoints.step_of(path)

    def _live_step(self) -> int:
        return int(self._model.global_step().numpy())

    # --- Keeping variables in step with checkpoints ----------------------------------------

    def _load_if_newer(self) -> Loaded | None:
        """Reads the newest checkpoint unless the variables hold it already."""
        path = self.latest_checkpoint()
        if path is not None and self._stamp == checkpoints.stamp(path):
            return None
        return self._checkpoints.load_latest()

    def _sync(self, loaded: Loaded | None, mode: str, names: Sequence[str]) -> str | None:
        """Brings the variables that a mode uses to the state of a checkpoint.

        Args:
            loaded: A checkpoint to take; None if the variables hold the right one already, but
                for those made since.
            mode: Of ModeKeys; training wants exactly the model's variables in it.
            names: Variables of the mode.
        """
        saved = self._model.store.saved()
        if loaded is None:
            fresh = {n: saved[n] for n in names if n in saved and n not in self._synced}
            if not fresh:
                return self._stamp[0] if self._stamp else None
            if self._stamp is None:
                if self._warm_start is not None and self.latest_checkpoint() is None:
                    warm_start.apply(self._warm_start, fresh, saved)
                self._synced.update(fresh)
                return None
            loaded, targets = checkpoints.load(self._stamp[0]), fresh
            mode = ModeKeys.EVAL if mode != ModeKeys.TRAIN or set(fresh) != set(names) else mode
        else:
            targets = {n: v for n, v in saved.items() if n in names or n in self._synced}
        if mode == ModeKeys.TRAIN:
            targets = {n: v for n, v in saved.items() if n in names}
            optional = _legacy_optional(loaded, targets)
            checkpoints.restore(loaded, targets, exact=not loaded.legacy, optional=optional)
        else:
            # A missing mean must not pass for weights: it would be the initial ones.
            optional = [
                n for n, v in targets.items() if not v.trainable and not n.endswith(AVERAGE)
            ]
            checkpoints.restore(loaded, targets, exact=False, optional=optional)
        self._stamp = checkpoints.stamp(loaded.path)
        self._engine = loaded.engine
        self._synced |= set(targets)
        return loaded.path

    def _use(self, given: Any, mode: str, names: Sequence[str]) -> str | None:
        """Brings the variables to the checkpoint at a path, by default the newest."""
        path = _text(given)
        if path is None:
            return self._sync(self._load_if_newer(), mode, names)
        if self._stamp == checkpoints.stamp(warm_start.find(path)):
            return self._sync(None, mode, names)
        return self._sync(checkpoints.load(warm_start.find(path)), mode, names)

    def _save(self, names: Sequence[str], engine: Mapping[str, Any]) -> str:
        saved = self._model.store.saved()
        targets = {n: v for n, v in saved.items() if n in names}
        path = self._checkpoints.save(targets, self._live_step(), engine)
        self._stamp = checkpoints.stamp(path)
        self._engine = engine
        self._synced = set(saved)
        return path

    # --- Input ----------------------------------------------------------------------------

    def _feed(self, input_fn: Any, mode: str, strategy: Any, first_batch: int) -> Feed:
        if strategy is None and isinstance(input_fn, datasets.InputSource):
            chunks = input_fn.chunks(first_batch)
            if chunks is not None:
                return chunks
        return Feed(dataset=self._dataset(input_fn, mode, strategy, first_batch))

    def _dataset(self, input_fn: Any, mode: str, strategy: Any, first_batch: int) -> Any:
        def call(context: Any = None) -> Any:
            return datasets.call(
                input_fn,
                mode=mode,
                params=self.params,
                config=self._config,
                input_context=context,
                first_batch=first_batch,
                repeat_tensors=mode == ModeKeys.TRAIN,
            )

        if strategy is None:
            return call().prefetch(tf.data.AUTOTUNE)
        return strategy.distribute_datasets_from_function(call)


def _trace(compiled: Any, feed: Feed) -> None:
    """Traces a loop now, so that what the traced model_fn makes (hooks, metrics) is known."""
    if "spec" not in compiled.spec:
        feed.start().trace(compiled.run)


def add_metrics(estimator: Estimator, metric_fn: Callable[..., Mapping[str, Any]]) -> Estimator:
    """Returns an Estimator that also reports `metric_fn`'s metrics.

    It shares `estimator`'s model_dir and keeps its class, unlike the one of tf.estimator.

    Args:
        estimator: Any Estimator.
        metric_fn: Takes some of features, labels, predictions, config; returns metrics by
            name, which replace metrics of the same name.
    """
    accepted = set(inspect.signature(metric_fn).parameters)
    unknown = accepted - {"features", "labels", "predictions", "config"}
    if unknown:
        raise ConfigError(
            f"metric_fn has the argument {sorted(unknown)[0]!r}: expected some of features, "
            "labels, predictions, config.",
            reason=Reason.UNKNOWN_NAME,
        )
    inner = estimator._user_model_fn
    inner_accepts = set(inspect.signature(inner).parameters)

    def model_fn(features: Any, labels: Any, mode: str, params: Any, config: Any) -> EstimatorSpec:
        given = {"labels": labels, "mode": mode, "params": params, "config": config}
        spec = inner(features=features, **{k: v for k, v in given.items() if k in inner_accepts})
        if mode != ModeKeys.EVAL:
            return spec
        values = {
            "features": features, "labels": labels, "predictions": spec.predictions,
            "config": config,
        }  # fmt: skip
        added = metric_fn(**{k: v for k, v in values.items() if k in accepted})
        return spec._replace(eval_metric_ops={**(spec.eval_metric_ops or {}), **added})

    return with_model_fn(estimator, model_fn)


def with_model_fn(estimator: Estimator, model_fn: Callable[..., EstimatorSpec]) -> Estimator:
    """Returns a copy of `estimator` of its class that shares its model_dir, with a new model_fn."""
    twin = copy.copy(estimator)
    Estimator.__init__(
        twin,
        model_fn,
        model_dir=estimator.model_dir,
        config=estimator.config,
        params=estimator.params,
        warm_start_from=estimator._warm_start,
    )
    return twin


# --- Pieces -----------------------------------------------------------------------------------


def _with_model_dir(config: RunConfig, model_dir: str | None) -> RunConfig:
    given = None if model_dir is None else os.fsdecode(model_dir)
    if given == "":
        raise ConfigError(
            "Estimator.model_dir is empty: expected a path or None.", reason=Reason.INVALID_VALUE
        )
    if given and config.model_dir and given != config.model_dir:
        raise ConfigError(
            f"model_dir is given twice: the Estimator has {quote(given)}, its RunConfig has "
            f"{quote(config.model_dir)}. Make them agree.",
            reason=Reason.CONFLICT,
        )
    chosen = given or config.model_dir or tempfile.mkdtemp(prefix="estimator-")
    return config if chosen == config.model_dir else config.replace(model_dir=chosen)


def _text(path: Any) -> str | None:
    """Returns a path, which may be bytes, as text."""
    return None if path is None else os.fsdecode(path)


def _saving(config: RunConfig, found: Sequence[hooks.Hook]) -> RunConfig:
    """Returns the configuration with the intervals of a CheckpointSaverHook, if there is one."""
    saver = next((h for h in found if isinstance(h, hooks.CheckpointSaverHook)), None)
    if saver is None:
        return config
    return config.replace(
        save_checkpoints_steps=saver.every_steps, save_checkpoints_secs=saver.save_secs
    )


def _saves(config: RunConfig) -> bool:
    chosen = (config.save_checkpoints_steps, config.save_checkpoints_secs)
    return config.is_chief and any(c is not None for c in chosen)


def _real(strategy: Any) -> Any:
    """None for a strategy of one replica and no strategy: they need no distribution."""
    if strategy is None:
        return None
    alone = strategy.num_replicas_in_sync == 1 and not strategy.extended._in_multi_worker_mode()
    return None if alone else strategy


def _input_position(engine: Mapping[str, Any], input_fn: Any) -> int:
    """The batch to begin at: where a checkpoint says that the same input was left."""
    position = engine.get("input") or {}
    same = position.get("fingerprint") == _fingerprint(input_fn) is not None
    return int(position.get("batch") or 0) if same else 0


def _fingerprint(input_fn: Any) -> str | None:
    return input_fn.fingerprint if isinstance(input_fn, datasets.InputSource) else None


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
        reason=Reason.INVALID_VALUE,
    )


def _plus(start: int, steps: int | None) -> int | None:
    return None if steps is None else start + steps


def _split_hooks(given: Sequence[Any]) -> tuple[list[Any], list[SessionHook]]:
    """Returns hooks that the loop runs as they are, and those for sessions, adapted."""
    own = [hook for hook in given if not is_for_sessions(hook)]
    return own, [SessionHook(hook) for hook in given if is_for_sessions(hook)]


def _checked(given: Sequence[Any]) -> tuple[hooks.Hook, ...]:
    return hooks.check(given)


def _prediction_context(model_dir: str, variables: Mapping[str, Any]) -> hooks.StepContext:
    return hooks.StepContext(step=0, first_step=0, model_dir=model_dir, variables=variables)


def _legacy_optional(loaded: Loaded, variables: Mapping[str, Any]) -> list[str]:
    """Slots that a checkpoint of tf.estimator may lack: its optimizer was another one."""
    if not loaded.legacy or loaded.clusters:
        return []
    rates = ", ".join(f"{name} {rate:g}" for name, rate in loaded.learning_rates().items())
    # tf.estimator would go on with them, whatever its constructor was given.
    _log.warning(
        "Training goes on from the checkpoint %s of tf.estimator with the learning rates of the "
        "Estimator's own arguments; tf.estimator trained it with %s.",
        loaded.path,
        rates or "unknown ones",
    )
    return [name for name, variable in variables.items() if not variable.trainable]
