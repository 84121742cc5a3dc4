"""The variables of a model, kept in step with the checkpoints of its directory.

Layer 3. A checkpoint is read only when it is another one than the variables hold; variables that a
later mode makes are taken from the one that they hold.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping

import tensorflow as tf

from estimator_lib.core.errors import CheckpointError, Reason
from estimator_lib.inputs.datasets import InputPosition
from estimator_lib.optimizers.minimize import KERAS_OPTIMIZER
from estimator_lib.protocols import Path
from estimator_lib.training import checkpoints, warm_start
from estimator_lib.training.checkpoints import CheckpointDirectory, Loaded
from estimator_lib.training.warm_start import WarmStartSettings
from estimator_lib.variables import AVERAGE, VariableStore, legacy_names

_log = logging.getLogger(__name__)


class Weights:
    """The variables of a store and the checkpoints that they come from and go to.

    Args:
        store: The variables.
        directory: The checkpoints.
        warm_start: Where values come from while there is no checkpoint.

    Attributes:
        directory: The checkpoints.
        warm_start: See above.
        position: Where the input was left, by the checkpoint that the variables hold.
    """

    def __init__(
        self,
        store: VariableStore,
        directory: CheckpointDirectory,
        warm_start: WarmStartSettings | None,
    ) -> None:
        self.directory = directory
        self.warm_start = warm_start
        self.position = InputPosition()
        self._store = store
        self._held: tuple[str, int] | None = None
        self._synced: set[str] = set()

    @property
    def are_given(self) -> bool:
        """Whether values come from a checkpoint or another model."""
        return self.directory.latest() is not None or self.warm_start is not None

    def newest(self) -> str:
        """Returns the path of the newest checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        path = self.directory.latest()
        if path is None:
            raise CheckpointError(
                f"There is no checkpoint in {self.directory.directory}. Train first.",
                reason=Reason.FILE_NOT_FOUND,
            )
        return path

    def load_newer(self) -> Loaded | None:
        """Reads the newest checkpoint unless the variables hold it already."""
        path = self.directory.latest()
        if path is not None and self._held == checkpoints.stamp(path):
            return None
        return self.directory.load_latest()

    def resume(self, newer: Loaded | None, names: Collection[str]) -> None:
        """Brings the variables to where training goes on.

        Args:
            newer: A checkpoint to take, which must hold these variables and no others; None if
                the variables hold the right one already.
            names: Variables that training uses.

        Raises:
            CheckpointError: the checkpoint is another model's.
        """
        loaded = newer
        if loaded is None:
            fresh = self._fresh(names)
            if self._held is None or not fresh or set(fresh) != set(names):
                self._complete(fresh)
                return
            loaded = checkpoints.load(self._held[0])
        targets = {n: v for n, v in self._store.saved().items() if n in names}
        _refuse_duals(loaded, targets)
        optional = _optional_slots(loaded, targets)
        checkpoints.restore(loaded, targets, exact=not loaded.legacy, optional=optional)
        self._took(loaded, targets)

    def use(self, path: Path | None, names: Collection[str]) -> str | None:
        """Brings the variables to a checkpoint, and returns its path.

        Args:
            path: Of the checkpoint; None is the newest, or fresh values if there is none.
            names: Variables of a mode that does not train.

        Raises:
            CheckpointError: it cannot be read, or lacks weights.
        """
        if path is None:
            loaded = self.load_newer()
        else:
            found = warm_start.find(os.fsdecode(path))
            held = self._held == checkpoints.stamp(found)
            loaded = None if held else checkpoints.load(found)
        if loaded is None:
            return self._complete(self._fresh(names))
        saved = self._store.saved().items()
        self._take(loaded, {n: v for n, v in saved if n in names or n in self._synced})
        return loaded.path

    def hold(self, names: Collection[str]) -> None:
        """Lets variables that are new hold what they would hold had they been made before."""
        self._complete(self._fresh(names))

    def values(self, names: Collection[str]) -> dict[str, tf.Tensor]:
        """Returns what a checkpoint of the variables `names` holds.

        Some variables have a value per replica: all processes of a training read them together.
        """
        saved = self._store.saved().items()
        return {name: tf.convert_to_tensor(v) for name, v in saved if name in names}

    def save(self, values: Mapping[str, tf.Tensor], step: int, position: InputPosition) -> None:
        """Writes a checkpoint of the values of variables."""
        path = self.directory.save(values, step, position.saved())
        self._held = checkpoints.stamp(path)
        self.position = position
        self._synced = set(self._store.saved())

    def forget(self) -> None:
        """Says that the variables may hold anything: the next call reads a checkpoint again."""
        self._held = None
        self._synced = set()

    def _fresh(self, names: Collection[str]) -> dict[str, tf.Variable]:
        saved = self._store.saved()
        return {n: saved[n] for n in names if n in saved and n not in self._synced}

    def _complete(self, fresh: Mapping[str, tf.Variable]) -> str | None:
        """Gives new variables their values of the checkpoint that the others hold."""
        if fresh and self._held is None:
            if self.warm_start is not None and self.directory.latest() is None:
                warm_start.apply(self.warm_start, fresh, self._store.saved())
            self._synced.update(fresh)
        elif fresh and self._held is not None:
            self._take(checkpoints.load(self._held[0]), fresh)
        return self._held[0] if self._held else None

    def _take(self, loaded: Loaded, targets: Mapping[str, tf.Variable]) -> None:
        _refuse_duals(loaded, targets)
        # A missing mean must not pass for weights: it would be the initial ones.
        optional = [n for n, v in targets.items() if not v.trainable and not n.endswith(AVERAGE)]
        checkpoints.restore(loaded, targets, exact=False, optional=optional)
        self._took(loaded, targets)

    def _took(self, loaded: Loaded, targets: Collection[str]) -> None:
        self._held = checkpoints.stamp(loaded.path)
        self.position = InputPosition.of(loaded.engine)
        self._synced |= set(targets)


def _optional_slots(loaded: Loaded, targets: Mapping[str, tf.Variable]) -> list[str]:
    """Slots that a checkpoint may lack.

    That of tf.estimator, because its optimizer was another one; those of ours that were written
    before optimizers made outside of model_fn were kept.
    """
    if not loaded.legacy or loaded.clusters:
        return [name for name in targets if name.startswith(KERAS_OPTIMIZER)]
    rates = ", ".join(f"{name} {rate:g}" for name, rate in loaded.learning_rates().items())
    # tf.estimator would go on with them, whatever its constructor was given.
    _log.warning(
        "Training goes on from the checkpoint %s of tf.estimator with the learning rates of the "
        "Estimator's own arguments; tf.estimator trained it with %s.",
        loaded.path,
        rates or "unknown ones",
    )
    return [name for name, variable in targets.items() if not variable.trainable]


def _refuse_duals(loaded: Loaded, targets: Collection[str]) -> None:
    duals = any(name.startswith("LinearSDCA/") for name in targets)
    if duals and legacy_names.is_of_duals(loaded.values):
        raise CheckpointError(
            f"Training cannot go on from the checkpoint {loaded.path}: the dual variables of "
            "tf.estimator's LinearSDCA are kept by other fingerprints of the examples' ids, and "
            "without them the optimum would be another. Train a new model_dir from the beginning, "
            "or go on with Ftrl.",
            reason=Reason.UNSUPPORTED,
        )
