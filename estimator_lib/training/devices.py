"""On which devices a step of a pipeline trains: all the GPUs that its pod was given.

Layer 3. A step knows that it was given GPUs from the environment, for a pod that pays for GPUs
and computes on CPUs is a silent fault: its image may have no CUDA, its node no driver.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Sequence

import tensorflow as tf

from estimator_lib.core import environment
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.tensorflow_internals import is_distributed
from estimator_lib.training import joining
from estimator_lib.training.run_config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
    """How a training is spread.

    Attributes:
        strategy: For `RunConfig.train_distribute`; None trains on one device.
        batch_size: Rows of one replica's batch; together they are the batch that was asked for.
    """

    strategy: tf.distribute.Strategy | None
    batch_size: int


def choose(batch_size: int) -> Devices:
    """Returns how a step trains with the GPUs that it was given.

    One that was given none leaves the device to TensorFlow, as outside of a pipeline.

    Args:
        batch_size: Rows of a step of training, over all replicas.

    Raises:
        ConfigError: see `require` and `spread`.
    """
    found = require()
    return spread(batch_size, found)


def require() -> Sequence[str]:
    """Returns the GPUs that a step was given, or none if it was given none.

    Raises:
        ConfigError: it was given GPUs, and TensorFlow sees fewer.
    """
    asked = int(os.environ.get(environment.GPUS, "0"))
    if not asked:
        return []
    found = visible()
    if len(found) < asked:
        raise ConfigError(
            f"The step was given {asked} GPU{'s' * (asked > 1)}, but TensorFlow sees "
            f"{len(found) or 'none'}: its image has no CUDA, or its node no driver for it. Name an "
            "image with tensorflow[and-cuda] (`make image REQUIREMENTS=requirements-gpu.txt`), or "
            "remove gpu.",
            reason=Reason.CONFLICT,
        )
    return found


def visible() -> list[str]:
    """Returns the names of the GPUs that TensorFlow sees."""
    found = tf.config.list_physical_devices("GPU")
    return [f"GPU:{number}" for number in range(len(found))]


def spread(batch_size: int, devices: Sequence[str]) -> Devices:
    """Returns how a training is spread over devices: each takes its share of every batch.

    Args:
        batch_size: Rows of a step of training, over all replicas.
        devices: Names such as GPU:0; none or one needs no strategy.

    Raises:
        ConfigError: the batch cannot be shared equally.
    """
    count = len(devices)
    if count < 2:
        return Devices(strategy=None, batch_size=batch_size)
    if batch_size % count:
        raise ConfigError(
            f"train.batch_size {batch_size} cannot be shared by {count} GPUs: expected a multiple "
            f"of {count}. Use {max(1, batch_size // count) * count}.",
            reason=Reason.CONFLICT,
        )
    return Devices(
        strategy=tf.distribute.MirroredStrategy(list(devices)), batch_size=batch_size // count
    )


def strategy_of(config: RunConfig) -> tf.distribute.Strategy | None:
    """Returns the strategy that a configuration asks to train with; "sync" becomes one.

    That of several processes must be made before TensorFlow computes anything. It waits until all
    of them are there.

    Raises:
        ConfigError: it is too late to make it.
        TrainingError: a process of the cluster was not there in time (`retryable`).
    """
    given: tf.distribute.Strategy | str | None = config.train_distribute
    if not isinstance(given, str):
        return given
    if config.num_worker_replicas > 1:
        return _of_cluster(
            json.dumps(config.cluster_spec.as_dict(), sort_keys=True), config.task_type,
            config.task_id, config.session_creation_timeout_secs,
        )  # fmt: skip
    if config.cluster_spec or config.task_type == "evaluator":
        return None
    found = visible()
    return tf.distribute.MirroredStrategy(found) if len(found) > 1 else None


@functools.lru_cache(maxsize=1)
def _of_cluster(addresses: str, kind: str, index: int, timeout_s: float) -> tf.distribute.Strategy:
    """Makes the strategy of a cluster, of which a process has one."""
    # TensorFlow would wait for an evaluator, which TF_CONFIG may list, as well.
    training = {t: a for t, a in json.loads(addresses).items() if t not in ("evaluator", "ps")}
    return joining.join(training, kind, index, timeout_s)


def distributing(strategy: tf.distribute.Strategy | None) -> tf.distribute.Strategy | None:
    """Returns a strategy, but None for one of one replica: it needs no distribution."""
    return strategy if strategy is not None and is_distributed(strategy) else None
