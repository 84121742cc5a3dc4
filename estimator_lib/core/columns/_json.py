"""Columns as JSON and back. Layer 0."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.columns._base import Column, kinds
from estimator_lib.core.columns._learned import Mean, Moments, Open, Quantiles, Vocabulary, ZScore
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, did_you_mean, quote

_LEARNED: dict[str, type] = {c.__name__: c for c in (Vocabulary, Moments, Quantiles, Mean, ZScore)}


def to_json(column: Column) -> dict[str, Any]:
    """Returns `column` as plain JSON values that `from_json` reads back to an equal column.

    Raises:
        ConfigError: the column holds a Python function, which no file can hold.
    """

    def value(name: str, item: object) -> Any:
        if isinstance(item, Column):
            return {"column": to_json(item)}
        if isinstance(item, Open | ZScore):
            return {"learned": type(item).__name__, **dataclasses.asdict(item)}
        if isinstance(item, tuple):
            return [value(name, part) for part in item]
        if callable(item):
            raise ConfigError(
                f"Column {column.name!r} cannot be written to a file: its {name} is a Python "
                "function. Use Moments() or ZScore, or build the model in a module:function.",
                reason=Reason.UNSUPPORTED,
            )
        return item

    fields = {f.name: value(f.name, getattr(column, f.name)) for f in dataclasses.fields(column)}
    return {"kind": column.kind, **fields}


def from_json(content: Mapping[str, Any]) -> Column:
    """Returns the column that `to_json` wrote.

    Raises:
        ConfigError: an unknown kind or field.
    """
    try:
        return _column(content)
    except EstimatorLibError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"Column {quote(content)} cannot be read: {error}. Make the artifact again.",
        ) from error


def _column(content: Mapping[str, Any]) -> Column:
    known = kinds()
    kind = content["kind"] if isinstance(content, Mapping) and "kind" in content else None
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(
            f"Column kind {quote(kind)} is unknown.{did_you_mean(str(kind), known)}",
            reason=Reason.UNKNOWN_NAME,
        )
    return _made(known[kind], {name: item for name, item in content.items() if name != "kind"})


def _value(item: object) -> Any:
    if isinstance(item, Mapping):
        if "column" in item:
            return _column(item["column"])
        learned = item["learned"]
        return _made(_LEARNED[learned], {k: v for k, v in item.items() if k != "learned"})
    return tuple(map(_value, item)) if isinstance(item, list) else item


def _made(declared: type, content: Mapping[str, Any]) -> Any:
    """Returns an object of a dataclass, its fields held to their types."""
    given = {name: _value(item) for name, item in content.items()}
    hints = _hints(declared)
    for name, item in given.items():
        if name not in hints:
            raise TypeError(f"{declared.__name__} has no {name!r}")
        if not _fits(item, hints[name]):
            raise TypeError(f"{name} of {declared.__name__} cannot be {quote(item)}")
    return declared(**given)


@functools.cache
def _hints(declared: type) -> dict[str, Any]:
    return {
        name: hint
        for name, hint in typing.get_type_hints(declared).items()
        if typing.get_origin(hint) is not typing.ClassVar
    }


def _fits(item: object, hint: Any) -> bool:
    """Whether a value is of a type; functions are none that a file can hold."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return item is None
    if hint is float:
        return isinstance(item, int | float) and not isinstance(item, bool)
    if hint is int:
        return isinstance(item, int) and not isinstance(item, bool)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(item, member) for member in members)
    if origin is tuple:
        return isinstance(item, tuple) and all(_fits(part, members[0]) for part in item)
    return isinstance(hint, type) and isinstance(item, hint)
