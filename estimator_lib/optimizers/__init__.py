"""Optimizers, learning-rate schedules and the one place that makes a training step."""

from estimator_lib.optimizers import schedules
from estimator_lib.optimizers._base import Now, Optimizer
from estimator_lib.optimizers.minimize import (
    AppliesGradients,
    OptimizerLike,
    get,
    minimize,
    minimize_parts,
)
from estimator_lib.optimizers.optimizers import SGD, Adagrad, Adam, Ftrl, RMSProp

RMSprop = RMSProp
"""Keras's spelling."""

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AppliesGradients",
    "Ftrl",
    "Now",
    "Optimizer",
    "OptimizerLike",
    "RMSProp",
    "RMSprop",
    "get",
    "minimize",
    "minimize_parts",
    "schedules",
]
