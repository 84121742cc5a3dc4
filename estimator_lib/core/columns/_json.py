"""Columns as JSON and back. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.columns import _kinds
from estimator_lib.core.columns._kinds import (
    Column,
    Mean,
    Moments,
    Quantiles,
    Vocabulary,
    ZScore,
)
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

_LEARNED: dict[str, type] = {c.__name__: c for c in (Vocabulary, Moments, Quantiles, Mean, ZScore)}
_KINDS: dict[str, type[Column]] = {
    declared.kind: declared
    for declared in vars(_kinds).values()
    if isinstance(declared, type) and issubclass(declared, Column) and "kind" in vars(declared)
}


def to_json(column: Column) -> dict[str, Any]:
    """Returns `column` as plain JSON values that `from_json` reads back to an equal column.

    Raises:
        ConfigError: the column holds a Python function, which no file can hold.
    """

    def value(name: str, item: Any) -> Any:
        if isinstance(item, Column):
            return {"column": to_json(item)}
        if type(item).__name__ in _LEARNED:
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

    def value(item: Any) -> Any:
        if isinstance(item, Mapping):
            if "column" in item:
                return from_json(item["column"])
            arguments = {k: v for k, v in item.items() if k != "learned"}
            return _LEARNED[item["learned"]](**arguments)
        if isinstance(item, list):
            return tuple(value(part) for part in item)
        return item

    kind = content.get("kind")
    if kind not in _KINDS:
        raise ConfigError(
            f"Column kind {quote(kind)} is unknown.{did_you_mean(str(kind), _KINDS)}",
            reason=Reason.UNKNOWN_NAME,
        )
    fields = {name: value(item) for name, item in content.items() if name != "kind"}
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise ConfigError(
            f"Column of kind {kind!r} cannot be read: {error}.", reason=Reason.INVALID_VALUE
        ) from error
