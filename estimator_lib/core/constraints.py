"""Constraints of parameters, declared in their annotations.

Layer 0. `Annotated` carries the constraint, so that a parameter's type, what it refuses and what
a test tries on it are written once, beside its name:

    @checked
    def __init__(self, hidden_units: Widths, dropout: Share | None = None) -> None: ...

`checked` refuses a wrong value before the constructor runs, `config check` before TensorFlow is
imported (see `core.constructors`), and one test walks all constructors with `refused_examples`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Annotated, ClassVar, TypeVar

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote


class Constraint(abc.ABC):
    """Which values a parameter takes."""

    reason: ClassVar[Reason] = Reason.INVALID_VALUE
    """Of the error that refuses others."""

    @property
    @abc.abstractmethod
    def expected(self) -> str:
        """What is right, for people: "a number above 0"."""

    @abc.abstractmethod
    def allows(self, value: object) -> bool:
        """Whether a value is right."""

    @abc.abstractmethod
    def refused_examples(self) -> Sequence[object]:
        """Returns values that are wrong, those next to the border among them."""

    def advice(self, value: object) -> str:
        """Returns what else to say to who gave `value`, with a space before it, or nothing."""
        del value
        return ""


@dataclasses.dataclass(frozen=True)
class Number(Constraint):
    """A number within bounds, neither NaN nor a boolean."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    whole: bool = False

    @property
    def expected(self) -> str:
        noun = "an integer" if self.whole else "a number"
        if self.at_least is not None and self.at_most is not None:
            return f"{noun} from {self.at_least:,} to {self.at_most:,}"
        bounds = (
            ("of at least", self.at_least),
            ("above", self.above),
            ("of at most", self.at_most),
            ("less than", self.below),
        )
        said = " and ".join(f"{how} {bound:,}" for how, bound in bounds if bound is not None)
        return f"{noun} {said}".rstrip()

    def allows(self, value: object) -> bool:
        kind = int if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind) or math.isnan(value):
            return False
        number = typing.cast(float, value)
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    def refused_examples(self) -> Sequence[object]:
        outside = [
            *(bound - 1 for bound in (self.at_least,) if bound is not None),
            *(bound + 1 for bound in (self.at_most,) if bound is not None),
            *(bound for bound in (self.above, self.below) if bound is not None),
        ]
        return [*outside, math.nan, "1", True, *([1.5] if self.whole else [])]


@dataclasses.dataclass(frozen=True)
class OneOf(Constraint):
    """One of some names."""

    names: tuple[str, ...]
    reason: ClassVar[Reason] = Reason.UNKNOWN_NAME

    @property
    def expected(self) -> str:
        return f"one of {', '.join(repr(name) for name in self.names)}"

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and value in self.names

    def refused_examples(self) -> Sequence[object]:
        return [f"{self.names[0]}_", 3]

    def advice(self, value: object) -> str:
        if not isinstance(value, str) or value in self.names:
            return ""
        close = did_you_mean(value, self.names)
        return close if "Did" in close else ""


@dataclasses.dataclass(frozen=True)
class Flag(Constraint):
    """True or False."""

    expected: ClassVar[str] = "True or False"

    def allows(self, value: object) -> bool:
        # NumPy's own are told by name: this module does without it.
        return isinstance(value, bool) or type(value).__name__ == "bool"

    def refused_examples(self) -> Sequence[object]:
        return ["yes", 2]


@dataclasses.dataclass(frozen=True)
class Name(Constraint):
    """A text that is not empty, such as a feature's name."""

    expected: ClassVar[str] = "a name"

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and bool(value)

    def refused_examples(self) -> Sequence[object]:
        return ["", 3]


def _listed(value: object) -> typing.TypeGuard[Collection[object]]:
    """Whether it is a list in the wide sense; arrays of NumPy are no `Sequence`."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping | Set)


@dataclasses.dataclass(frozen=True)
class ListOf(Constraint):
    """A sequence of values that all obey `item`."""

    item: Number | OneOf
    may_be_empty: bool = False

    @property
    def reason(self) -> Reason:  # type: ignore[override]
        return self.item.reason

    @property
    def expected(self) -> str:
        many = "a list, empty or not," if self.may_be_empty else "a list"
        if isinstance(self.item, OneOf):
            return f"{many} of {self.item.expected}"
        _, noun, bounds = [*self.item.expected.split(" ", 2), ""][:3]
        return f"{many} of {noun}s {bounds}".rstrip()

    def allows(self, value: object) -> bool:
        return (
            _listed(value)
            and (self.may_be_empty or len(value) > 0)
            and all(self.item.allows(own) for own in value)
        )

    def refused_examples(self) -> Sequence[object]:
        wrong = [[one] for one in self.item.refused_examples()]
        return [*wrong, "1", 1, *([] if self.may_be_empty else [[]])]

    def advice(self, value: object) -> str:
        return "".join(self.item.advice(own) for own in value) if _listed(value) else ""


@dataclasses.dataclass(frozen=True)
class Has(Constraint):
    """Anything with a method, whatever its class."""

    method: str
    what: str
    reason: ClassVar[Reason] = Reason.TYPE_MISMATCH

    @property
    def expected(self) -> str:
        return self.what

    def allows(self, value: object) -> bool:
        return callable(getattr(value, self.method, None))

    def refused_examples(self) -> Sequence[object]:
        return [None, "head", 3]


@dataclasses.dataclass(frozen=True)
class Function(Constraint):
    """Any function."""

    expected: ClassVar[str] = "a function"

    def allows(self, value: object) -> bool:
        return callable(value)

    def refused_examples(self) -> Sequence[object]:
        return [3]


@dataclasses.dataclass(frozen=True)
class Either(Constraint):
    """What one of several constraints allows."""

    parts: tuple[Constraint, ...]
    optional: bool

    @property
    def reason(self) -> Reason:  # type: ignore[override]
        return self.parts[0].reason

    @property
    def expected(self) -> str:
        return " or ".join([*(p.expected for p in self.parts), *(["None"] * self.optional)])

    def allows(self, value: object) -> bool:
        return (value is None and self.optional) or any(p.allows(value) for p in self.parts)

    def refused_examples(self) -> Sequence[object]:
        tried = [value for part in self.parts for value in part.refused_examples()]
        return [value for value in tried if not self.allows(value)]

    def advice(self, value: object) -> str:
        return "".join(part.advice(value) for part in self.parts)


_WIDEST = 1 << 20
ACTIVATIONS = (
    "elu", "gelu", "leaky_relu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus",
    "softsign", "swish", "tanh",
)  # fmt: skip
"""Functions of `tf.nn` that a model may be given by name."""

Count = Annotated[int, Number(at_least=1, whole=True)]
Classes = Annotated[int, Number(at_least=2, whole=True)]
Widths = Annotated[Sequence[int], ListOf(Number(at_least=1, at_most=_WIDEST, whole=True))]
"""Of the hidden layers."""
AnyWidths = Annotated[
    Sequence[int], ListOf(Number(at_least=1, at_most=_WIDEST, whole=True), may_be_empty=True)
]
Share = Annotated[float, Number(at_least=0, below=1)]
Fraction = Annotated[float, Number(at_least=0, at_most=1)]
Positive = Annotated[float, Number(above=0)]
NotNegative = Annotated[float, Number(at_least=0)]
Levels = Annotated[Sequence[float], ListOf(Number(above=0, below=1))]
"""Probabilities that are neither 0 nor 1."""
Text = Annotated[str, Name()]
Switch = Annotated[bool, Flag()]
Activation = Annotated[str, OneOf(ACTIVATIONS)] | Annotated[Callable[..., object], Function()]
AucThresholds = Annotated[int, Number(at_least=3, whole=True)]
"""How many thresholds approximate an area under a curve."""
Combiner = Annotated[str, OneOf(("sum", "mean", "sqrtn"))]
"""How several categories of one example are combined in a linear model."""


def constraint_of(annotation: object) -> Constraint | None:
    """Returns the constraint in an annotation, None where it allows anything.

    Args:
        annotation: As `typing.get_type_hints` gives it, `Annotated` and unions resolved.
    """
    if typing.get_origin(annotation) is Annotated:
        found = [m for m in typing.get_args(annotation)[1:] if isinstance(m, Constraint)]
        return found[0] if found else None
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return either([None if a is type(None) else a for a in typing.get_args(annotation)])
    return None


def either(members: Sequence[object]) -> Constraint | None:
    """Returns the constraint of a union of annotations, None among them for None itself."""
    parts = tuple(constraint_of(member) for member in members if member is not None)
    known = tuple(part for part in parts if part is not None)
    if not known or len(known) < len(parts):
        return None
    return Either(known, optional=None in members)


def constraints_of(declared: Callable[..., object]) -> Mapping[str, Constraint]:
    """Returns the constraints of a class's constructor, or of a function, by parameter."""
    if isinstance(declared, type) and not dataclasses.is_dataclass(declared):
        declared = inspect.unwrap(declared.__init__)  # type: ignore[misc]
    return _constraints_of(declared)


@functools.cache
def _constraints_of(declared: Callable[..., object]) -> Mapping[str, Constraint]:
    hints = typing.get_type_hints(declared, include_extras=True)
    found = {name: constraint_of(hint) for name, hint in hints.items()}
    return {name: constraint for name, constraint in found.items() if constraint is not None}


def refused(
    owner: str, argument: str, expected: str, got: object, reason: Reason | None = None
) -> ConfigError:
    """Returns the error for a wrong argument of `owner`."""
    return ConfigError(
        f"{owner}: argument {argument} is invalid: expected {expected}, got {quote(got)}.",
        reason=reason,
    )


def check(owner: str, constraint: Constraint, argument: str, value: object) -> None:
    """Raises ConfigError if `value` is wrong for an argument of `owner`."""
    if not constraint.allows(value):
        error = refused(owner, argument, constraint.expected, value)
        message = f"{error.message}{constraint.advice(value)}"
        raise ConfigError(message, reason=constraint.reason)


def check_arguments(
    owner: str, declared: Callable[..., object], given: Mapping[str, object]
) -> None:
    """Raises ConfigError for the first wrong argument of those given to `declared`."""
    for name, constraint in constraints_of(declared).items():
        if name in given:
            check(owner, constraint, name, given[name])


def check_fields(made: object) -> None:
    """Raises ConfigError for the first wrong field of a dataclass's instance."""
    check_arguments(type(made).__name__, type(made), vars(made))


def check_names(owner: str, kind: Callable[..., object], arguments: Iterable[str]) -> None:
    """Raises ConfigError for an argument that `kind`, described as `owner`, does not take."""
    known = list(inspect.signature(kind).parameters)
    for argument in arguments:
        if argument not in known:
            raise ConfigError(
                f"{owner} has no argument {argument!r}." + did_you_mean(argument, known),
                reason=Reason.UNKNOWN_NAME,
            )


_Constructor = TypeVar("_Constructor", bound=Callable[..., None])


def checked(constructor: _Constructor) -> _Constructor:
    """Refuses what the constraints of a constructor's parameters refuse, before it runs.

    Errors name the class that is constructed, which may be a subclass.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def call(self: object, *args: object, **kwargs: object) -> None:
        try:
            given = signature.bind(self, *args, **kwargs).arguments
        except TypeError:
            given = {}  # Python says what is missing or too much
        check_arguments(type(self).__name__, constructor, given)
        constructor(self, *args, **kwargs)

    return typing.cast(_Constructor, call)
