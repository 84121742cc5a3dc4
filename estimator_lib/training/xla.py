"""Which trainings XLA compiles, and how.

Layer 3. `training.step` traces the loop; here it becomes one program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.features.lookup import only_cpu
from estimator_lib.inputs.feed import ChunkLoop, ChunkLooped, Feed
from estimator_lib.protocols import State
from estimator_lib.tensorflow_internals import without_warnings
from estimator_lib.training.model_function import ModelFunction
from estimator_lib.training.run_config import RunConfig

_log = logging.getLogger(__name__)
FEWEST_STEPS = 5_000
"""Compiling pays for itself in trainings of some thousand steps: it takes as long as about
2,000 steps of batch 512, or 5,000 of batch 64, are shortened by in all. It also takes about
130 MiB once, however long the training is, half of them XLA's own code."""


def wants(config: RunConfig, model_fn: ModelFunction, feed: Feed, steps: int | None) -> bool:
    """Whether to compile a training loop; the same for a training that is resumed.

    Args:
        config: What it says of compiling.
        model_fn: May be marked for it.
        feed: The batches.
        steps: How many are expected in the whole training; None if there is no end.
    """
    wanted = config.jit_compile
    if feed.chunk_rows is None or wanted is False:
        return False
    if wanted:
        return True
    textual = any(spec.dtype == tf.string for spec in tf.nest.flatten(feed.element_spec))
    long = steps is None or steps >= FEWEST_STEPS
    return model_fn.compilable and long and not textual and only_cpu()


def compiled(
    loop: Callable[..., ChunkLooped[State]], feed: Feed, model_fn: ModelFunction, *, needed: bool
) -> ChunkLoop[State] | None:
    """Returns a `Feed.chunk_loop`, compiled now, or None if XLA cannot and it is not needed.

    Raises:
        ConfigError: XLA cannot compile it, and it is needed.
    """
    # A concrete function: looking for the one that fits would cost as much as some steps.
    function: ChunkLoop[State] = without_warnings(
        tf.function(loop, autograph=False, jit_compile=True)
    ).get_concrete_function(*feed.chunk_signature)
    none = tf.constant(0, tf.int64)
    _log.info("Compiling the training loop.")
    try:
        function(feed.zeros(feed.chunk_rows or 0), none, none, none)
    except tf.errors.OpError as error:
        why = str(error.message).splitlines()[0]
        if needed:
            raise ConfigError(
                f"XLA cannot compile the training of model_fn {model_fn.name}: {why} Leave "
                "RunConfig.jit_compile at None.",
                reason=Reason.UNSUPPORTED,
            ) from error
        _log.info("Training is not compiled by XLA: %s", why)
        return None
    return function
