"""The parameters of one run, checked against the compiled pipeline before anything is sent.

A server would take an unknown name, turn an integer into a double or store `NaN`, and the run
would fail, or worse, not fail, an hour later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from estimator_lib.core import places
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from pipelines import credentials
from pipelines.specification import Parameter, Specification

MAX_BYTES = 100_000
"""Longest value: a step receives its inputs as one argument, which Linux limits to 131,072."""
MAX_INTEGER = 2**53
"""Beyond this a JSON number, which is a double, no longer holds every integer."""


def check(specification: Specification, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters as they are sent; all faults are reported at once.

    Integral doubles become integers where an integer is declared. Nothing else is converted.

    Raises:
        ConfigError: a name is unknown or missing, a value has another type, is not finite, too
            large, a place that a step cannot use, or looks like a credential.
    """
    faults: list[tuple[str, Reason]] = []
    checked: dict[str, Any] = {}
    for name, value in given.items():
        parameter = specification.parameters.get(name)
        if parameter is None:
            hint = did_you_mean(name, specification.parameters)
            faults.append((f"{name}: unknown parameter.{hint}", Reason.UNKNOWN_NAME))
            continue
        try:
            checked[name] = _value(value, parameter.type)
        except _FaultError as fault:
            faults.append((f"{name}: {fault}, got {quote(value)}.", fault.reason))
            continue
        for place in sorted(specification.places.get(name, ())):
            problem = places.fault(place, checked[name])
            if problem:
                faults.append((f"{name}: {problem}.", Reason.UNSUPPORTED))
        found = next(iter(credentials.find(value, name)), None)
        if found:
            text = f"{name}: looks like {found[1]}. Keep it in a Secret of the cluster."
            faults.append((text, Reason.SECRET))
    for name, parameter in specification.parameters.items():
        if parameter.required and name not in given:
            faults.append((f"{name}: missing.", Reason.MISSING_VALUE))
    if faults:
        lines = [text for text, _ in faults]
        text = lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)
        raise ConfigError(
            f"Parameters of pipeline {specification.name} are invalid: {text}",
            reason=faults[0][1],
        )
    return checked


def parse(specification: Specification, settings: Iterable[str]) -> dict[str, Any]:
    """Reads `name=value` settings of a command line by the types that the pipeline declares.

    Text stays as it is typed; everything else is JSON.

    Raises:
        ConfigError: a setting has no "=", comes twice, or its value is not JSON.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"Parameter {quote(setting)} is invalid: expected name=value.",
            )
        if name in values:
            raise ConfigError(f"Parameter {name} is given twice.", reason=Reason.DUPLICATE)
        parameter = specification.parameters.get(name, Parameter(type="STRING", required=False))
        if parameter.type == "STRING":
            values[name] = text
            continue
        try:
            values[name] = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"Parameter {name} is invalid: expected {_EXPECTED[parameter.type]}, got "
                f"{quote(text)}.",
                reason=Reason.TYPE_MISMATCH,
            ) from error
    return values


class _FaultError(Exception):
    """What is wrong with one value."""

    def __init__(self, text: str, reason: Reason) -> None:
        super().__init__(text)
        self.reason = reason


_EXPECTED = {
    "STRING": "text",
    "NUMBER_INTEGER": "an integer",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a mapping",
}
_PYTHON: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list, tuple),
    "STRUCT": (dict,),
}


def _value(value: object, declared: str) -> object:
    if declared not in _PYTHON:
        raise _FaultError(f"parameters of type {declared} cannot be sent", Reason.UNSUPPORTED)
    _finite(value)
    if declared == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        value = int(value)
    is_bool = isinstance(value, bool)
    if is_bool != (declared == "BOOLEAN") or not isinstance(value, _PYTHON[declared]):
        raise _FaultError(f"expected {_EXPECTED[declared]}", Reason.TYPE_MISMATCH)
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _FaultError(
            f"longer than {MAX_BYTES:,} bytes; put it in a file", Reason.TOO_MANY_VALUES
        )
    return value


def _finite(value: object) -> None:
    """Refuses what JSON cannot carry exactly, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _FaultError("expected a finite number", Reason.NOT_FINITE)
    if isinstance(value, int | float) and abs(value) > MAX_INTEGER and value == int(value):
        raise _FaultError(
            "an integer beyond 2^53 loses its last digits on the way; pass it as text",
            Reason.INVALID_VALUE,
        )
    if isinstance(value, str) and "\0" in value:
        raise _FaultError("expected text without zero bytes", Reason.INVALID_VALUE)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _FaultError("expected text keys", Reason.TYPE_MISMATCH)
            _finite(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _finite(inner)
    elif not isinstance(value, str | int | float | None):
        raise _FaultError("expected a JSON value", Reason.TYPE_MISMATCH)
