"""One training: from the newest checkpoint to its last step, or to the end of its input.

Layer 3. It decides where the input begins, which hooks run and how often checkpoints are saved;
`training.loop` drives the steps.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.inputs import datasets
from estimator_lib.inputs.datasets import InputPosition
from estimator_lib.protocols import InputFn
from estimator_lib.specs import ModeKeys
from estimator_lib.training import history, loop, session_hooks
from estimator_lib.training.engine import Engine
from estimator_lib.training.hooks import (
    CheckpointSaverHook,
    CheckpointSaverListener,
    Hook,
    NanTensorHook,
    StepCounterHook,
    SummarySaverHook,
    check,
)
from estimator_lib.training.lease import Lease
from estimator_lib.training.peers import Peers
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.step import TrainFunction

_ALWAYS_FETCHED = ("loss", "global_step")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training.

    Attributes:
        engine: What is trained.
        lease: On the model directory; None if another process, the chief, writes there.
        input_fn: Gives features and labels.
        hooks: The caller's.
        listeners: The caller's.
        steps: Steps to add; or
        max_steps: the global step to end at. With neither, it ends when the input does.
        crew: Those that train the same variables; None if nobody else does.
    """

    engine: Engine
    lease: Lease | None
    input_fn: InputFn
    hooks: Sequence[object]
    listeners: Sequence[CheckpointSaverListener]
    steps: int | None
    max_steps: int | None
    crew: loop.Crew | None = None

    def run(self) -> None:
        """Trains; nothing is done where max_steps is reached already.

        Raises:
            TrainingError: the loss is not finite, the input is empty, a signal asked to end, or
                another process of the cluster is gone.
            ConfigError: another process of the cluster reads another input.
            CheckpointError: no checkpoint can be read, or it is another model's.
        """
        peers = Peers(self.engine.strategy, self.engine.config)
        with peers.errors():
            self._run(peers)

    def _run(self, peers: Peers) -> None:
        engine, weights, strategy = self.engine, self.engine.weights, self.engine.strategy
        crew = self.crew
        restores = crew is None or crew.restores
        with peers.starting():
            newer = weights.load_newer() if restores else None
            start = newer.step if newer else engine.step()
            position = InputPosition.of(newer.engine) if newer else weights.position
            first = position.first_batch(self.input_fn)
            peers.agree_on_start(start, first, datasets.fingerprint(self.input_fn))
            # A chief that comes back may find that workers have made the last step: it saves it.
            unsaved = not restores and engine.config.is_chief
            if self.max_steps is not None and start >= self.max_steps and not unsaved:
                return
            feed = engine.inputs.feed(self.input_fn, ModeKeys.TRAIN, strategy, first)
            own, for_sessions = session_hooks.split(self.hooks)
            function = engine.model.train_function(feed, strategy, self._expected(), for_sessions)
            if restores:
                weights.resume(newer, function.form.variables)
            if crew is not None:
                crew.join()
        every_hook = self._every_hook(own, function)
        config = _saving(engine.config, every_hook)
        if self.listeners and config.is_chief and not _saves(config):
            raise ConfigError(
                "train() has saving_listeners, but the RunConfig saves no checkpoints. Give it "
                "save_checkpoints_steps or save_checkpoints_secs, or leave the listeners away.",
                reason=Reason.CONFLICT,
            )
        together = strategy or engine.inputs.share
        replicas = together.num_replicas_in_sync if together else 1
        if config.is_chief:
            history.forget_after(f"{engine.model_dir}/{history.HISTORY}", start)

        def save(consumed: int | None) -> None:
            # Every replica, or worker, takes a batch of its own in each step.
            batch = None if consumed is None else first + replicas * consumed
            left = InputPosition(datasets.fingerprint(self.input_fn), batch)
            with peers.working():
                values = weights.values(function.form.variables)
            if self.lease is not None:
                self.lease.check()
                weights.save(values, engine.step(), left)

        nan_hooks = [h for h in every_hook if isinstance(h, NanTensorHook)]
        steps = loop.TrainingLoop(
            model=engine.model,
            function=function,
            feed=feed,
            hooks=every_hook,
            listeners=[*self.listeners, *(n for h in every_hook for n in h.listeners)],
            last_step=self.max_steps or (start + self.steps if self.steps else None),
            config=config,
            save=save if _saves(config, peers) else None,
            peers=peers,
            saved_step=weights.directory.newest_step(),
            diagnose=lambda batch: self._diagnose(first + batch),
            fail_on_nan=all(h.fail_on_nan_loss for h in nan_hooks),
            crew=crew,
        )
        try:
            outcome = steps.run()
        except BaseException:
            weights.forget()
            raise
        if outcome.steps == 0 and outcome.ended:
            if not first:
                raise datasets.empty_input(self.input_fn)
            # The input was left at its end: it begins anew.
            weights.position = InputPosition()
            self._run(peers)

    def _expected(self) -> int | None:
        """How many steps the whole training has at most; None if nothing says so."""
        given = [self.steps, self.max_steps, getattr(self.input_fn, "batches", None)]
        return min((n for n in given if n), default=None)

    def _every_hook(self, own: Sequence[Hook], function: TrainFunction) -> tuple[Hook, ...]:
        config = self.engine.config
        found = [*own, *function.hooks]
        if config.is_chief:
            every = config.save_summary_steps
            if every is not None and _saves(_saving(config, found)):
                found += [
                    StepCounterHook(every_n_steps=every),
                    SummarySaverHook(save_steps=every),
                ]
        fetched = function.form.fetches
        for hook in check(found):
            wanted = hook.tensors.items()
            unknown = [t for n, t in wanted if n not in fetched and t not in _ALWAYS_FETCHED]
            if unknown:
                raise ConfigError(
                    f"Hook {type(hook).__name__} asks for {quote(unknown[0])}, which train() "
                    "cannot fetch. Make the hook in model_fn and return it as training_hooks.",
                    reason=Reason.UNKNOWN_NAME,
                )
        return tuple(found)

    def _diagnose(self, batch: int) -> str:
        """Describes the weights and a batch at which training failed."""
        text = loop.describe_weights(self.engine.model.store.variables)
        try:
            dataset = self.engine.inputs.dataset(self.input_fn, ModeKeys.TRAIN)
            for element in dataset.skip(batch).take(1):
                return f"{loop.describe_batch(datasets.split(element)[0])} {text}".strip()
        except Exception:  # noqa: BLE001 - it only helps to explain another error
            return text
        return text


def _saving(config: RunConfig, found: Sequence[Hook]) -> RunConfig:
    """Returns the configuration with the intervals of a CheckpointSaverHook, if there is one."""
    saver = next((h for h in found if isinstance(h, CheckpointSaverHook)), None)
    if saver is None:
        return config
    given = saver.checkpoint_dir
    if given is not None and os.path.abspath(os.fsdecode(given)) != os.path.abspath(
        str(config.model_dir)
    ):
        raise ConfigError(
            f"CheckpointSaverHook.checkpoint_dir is invalid: expected the model's "
            f"{quote(config.model_dir)}, got {quote(given)}. Leave it away.",
            reason=Reason.CONFLICT,
        )
    return config.replace(
        save_checkpoints_steps=saver.every_steps, save_checkpoints_secs=saver.save_secs
    )


def _saves(config: RunConfig, peers: Peers | None = None) -> bool:
    """Whether checkpoints are saved, by this process or by the chief with its help."""
    chosen = (config.save_checkpoints_steps, config.save_checkpoints_secs)
    helps = peers is not None and peers.several
    return (config.is_chief or helps) and any(c is not None for c in chosen)
