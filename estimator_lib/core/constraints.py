"""Constraints of parameters, declared in their annotations.

Layer 0. `Annotated` carries the constraint, so that a parameter's type, what it refuses and what
a test tries on it are written once, beside its name:

    @checked
    def __init__(self, hidden_units: Widths, dropout: Share | None = None) -> None: ...

`checked` refuses a wrong value before the constructor runs, `config check` before TensorFlow is
imported (see `core.constructors`), and one test walks all constructors with `refused_examples`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Annotated, TypeVar

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote


@dataclasses.dataclass(frozen=True, eq=False)
class Constraint:
    """Which values a parameter takes.

    Attributes:
        expected: What is right, for people: "a number above 0".
        allows: Whether a value is right.
        refused_examples: Values that are wrong, those next to the border among them.
        advice: What else to say of a wrong value, with a space before it, or nothing.
        reason: Of the error that refuses others.
    """

    expected: str
    allows: Callable[[object], bool]
    refused_examples: tuple[object, ...]
    advice: Callable[[object], str] = lambda _: ""
    reason: Reason = Reason.INVALID_VALUE


def number(
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
    whole: bool = False,
) -> Constraint:
    """A number within bounds, neither NaN nor a boolean."""
    noun, kind = ("an integer", int) if whole else ("a number", numbers.Real)
    bounds = {"of at least": at_least, "above": above, "of at most": at_most, "less than": below}
    said = [f"{how} {bound:,}" for how, bound in bounds.items() if math.isfinite(bound)]
    if math.isfinite(at_least) and math.isfinite(at_most):
        said = [f"from {at_least:,} to {at_most:,}"]

    def allows(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        given = typing.cast(float, value)
        inside = at_least <= given <= at_most  # which NaN is not
        return (
            inside
            and (given > above or above == -math.inf)
            and (given < below or below == math.inf)
        )

    outside = [bound for bound in (at_least - 1, above, at_most + 1, below) if math.isfinite(bound)]
    wrong = (*outside, math.nan, "1", True, *([1.5] if whole else []))
    return Constraint(" ".join([noun, " and ".join(said)]).rstrip(), allows, wrong)


def one_of(*names: str) -> Constraint:
    """One of some names."""

    def advice(value: object) -> str:
        close = difflib.get_close_matches(str(value), names, n=1) if value not in names else ()
        return f" Did you mean {close[0]!r}?" if close else ""

    expected = f"a name among {', '.join(repr(name) for name in names)}"
    wrong = (f"{names[0]}_", 3)
    return Constraint(expected, lambda value: value in names, wrong, advice, Reason.UNKNOWN_NAME)


def list_of(item: Constraint, *, may_be_empty: bool = False) -> Constraint:
    """A list, array or the like of values that all obey `item`."""

    def listed(value: object) -> typing.TypeGuard[Collection[object]]:
        return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping | Set)

    def allows(value: object) -> bool:
        return listed(value) and (may_be_empty or len(value) > 0) and all(map(item.allows, value))

    noun = re.sub(r"^an? (\w+)", r"\1s", item.expected)
    return Constraint(
        f"a list of {noun}{', or an empty one' if may_be_empty else ''}",
        allows,
        (*([wrong] for wrong in item.refused_examples), "1", 1, *([] if may_be_empty else [[]])),
        lambda value: "".join(map(item.advice, value)) if listed(value) else "",
        item.reason,
    )


def with_method(method: str, expected: str) -> Constraint:
    """Anything with a method, whatever its class."""

    def allows(value: object) -> bool:
        return callable(getattr(value, method, None))

    return Constraint(expected, allows, (None, "text", 3), reason=Reason.TYPE_MISMATCH)


FUNCTION = Constraint("a function", callable, (3,))
NAME = Constraint("a name", lambda value: isinstance(value, str) and value != "", ("", 3))
# NumPy's booleans are told by name: this module does without it.
FLAG = Constraint(
    "True or False", lambda value: type(value).__name__ in ("bool", "bool_"), ("yes", 2)
)
_WIDTH = number(at_least=1, at_most=1 << 20, whole=True)
ACTIVATIONS = (
    "elu", "gelu", "leaky_relu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus",
    "softsign", "swish", "tanh",
)  # fmt: skip
"""Functions of `tf.nn` that a model may be given by name."""

Count = Annotated[int, number(at_least=1, whole=True)]
Classes = Annotated[int, number(at_least=2, whole=True)]
Widths = Annotated[Sequence[int], list_of(_WIDTH)]
"""Of the hidden layers."""
AnyWidths = Annotated[Sequence[int], list_of(_WIDTH, may_be_empty=True)]
Share = Annotated[float, number(at_least=0, below=1)]
Fraction = Annotated[float, number(at_least=0, at_most=1)]
Positive = Annotated[float, number(above=0)]
NotNegative = Annotated[float, number(at_least=0)]
Levels = Annotated[Sequence[float], list_of(number(above=0, below=1))]
"""Probabilities that are neither 0 nor 1."""
Text = Annotated[str, NAME]
Switch = Annotated[bool, FLAG]
Activation = Annotated[str, one_of(*ACTIVATIONS)] | Annotated[Callable[..., object], FUNCTION]
AucThresholds = Annotated[int, number(at_least=3, whole=True)]
"""How many thresholds approximate an area under a curve."""
Combiner = Annotated[str, one_of("sum", "mean", "sqrtn")]
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
    optional = None in members

    def allows(value: object) -> bool:
        return (optional and value is None) or any(part.allows(value) for part in known)

    tried = [value for part in known for value in part.refused_examples]
    return Constraint(
        " or ".join([*(part.expected for part in known), *(["None"] if optional else [])]),
        allows,
        tuple(value for value in tried if not allows(value)),
        lambda value: "".join(part.advice(value) for part in known),
        known[0].reason,
    )


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
    owner: str,
    argument: str,
    expected: str,
    got: object,
    reason: Reason | None = None,
    advice: str = "",
) -> ConfigError:
    """Returns the error for a wrong argument of `owner`; advice begins with a space."""
    wrong = f"{owner}: argument {argument} is invalid: expected {expected}, got {quote(got)}."
    return ConfigError(wrong + advice, reason=reason)


def check(owner: str, constraint: Constraint, argument: str, value: object) -> None:
    """Raises ConfigError if `value` is wrong for an argument of `owner`."""
    if not constraint.allows(value):
        advice = constraint.advice(value)
        raise refused(owner, argument, constraint.expected, value, constraint.reason, advice)


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
