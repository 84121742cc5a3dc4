"""A user's model_fn: which arguments it takes, and that it returns what it must.

Layer 2.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.inputs.datasets import function_name
from estimator_lib.protocols import Features, Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys

ARGUMENTS = ("features", "labels", "mode", "params", "config")


class ModelFunction:
    """A model_fn that is called with those arguments that it has.

    Args:
        function: Takes features and some of labels, mode, params, config.

    Attributes:
        name: For messages.
        compilable: Whether long trainings may be compiled by XLA; see `specs.compilable`.

    Raises:
        ConfigError: it has no argument named features, or one that nothing fills.
    """

    def __init__(self, function: Callable[..., EstimatorSpec]) -> None:
        self.name = function_name(function)
        self.compilable = bool(getattr(function, "compilable", False))
        self._function = function
        self._accepted = _accepted(function, self.name)

    def refuse_params(self, params: object) -> None:
        """Refuses hyperparameters that the model_fn would not see.

        Raises:
            ConfigError: there are some, and no argument for them.
        """
        if params is not None and "params" not in self._accepted:
            raise ConfigError(
                f"model_fn {self.name} takes no params, but the Estimator has some: "
                f"{quote(params)}. Add the argument params to model_fn.",
                reason=Reason.CONFLICT,
            )

    def refuse_labels(self, labels: Labels, mode: str) -> None:
        """Refuses labels that the model_fn would not see.

        Raises:
            ConfigError: there are labels to train or evaluate by, and no argument for them.
        """
        if labels is not None and mode != ModeKeys.PREDICT and "labels" not in self._accepted:
            raise ConfigError(
                f"model_fn {self.name} takes no labels, but the input gives some. Add the "
                "argument labels to model_fn.",
                reason=Reason.CONFLICT,
            )

    def __call__(
        self, features: Features, labels: Labels, mode: str, params: object, config: object
    ) -> EstimatorSpec:
        """Calls the function inside of the current graph, with a copy of params.

        Raises:
            ConfigError: it returned no spec, or one for another mode.
        """
        given = {"labels": labels, "mode": mode, "params": copy.copy(params), "config": config}
        spec = self._function(
            features=features, **{name: given[name] for name in given if name in self._accepted}
        )
        if not isinstance(spec, EstimatorSpec):
            raise ConfigError(
                f"model_fn {self.name} returned no EstimatorSpec: got {quote(spec)}. Return "
                "EstimatorSpec(mode=mode, ...).",
                reason=Reason.TYPE_MISMATCH,
            )
        if spec.mode != mode:
            raise ConfigError(
                f"model_fn returned a spec for another mode: expected {mode!r}, got "
                f"{spec.mode!r}. Pass mode=mode to EstimatorSpec.",
                reason=Reason.CONFLICT,
            )
        return spec


def _accepted(function: Callable[..., EstimatorSpec], name: str) -> frozenset[str]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return frozenset(ARGUMENTS)
    if "features" not in parameters:
        raise ConfigError(
            f"model_fn {name} takes no argument named features: got ({', '.join(parameters)}). "
            "Name its first argument features.",
            reason=Reason.MISSING_VALUE,
        )
    for argument, parameter in parameters.items():
        if argument not in ARGUMENTS and parameter.default is parameter.empty:
            raise ConfigError(
                f"model_fn {name} has the argument {argument!r}, which nothing fills."
                f"{did_you_mean(argument, ARGUMENTS)}",
                reason=Reason.UNKNOWN_NAME,
            )
    return frozenset(parameters)
