"""What the constructors of columns check. Layer 0."""

from __future__ import annotations

from estimator_lib.core.errors import ConfigError, quote


def invalid(thing: str, argument: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"{thing}: argument {argument} is invalid: expected {expected}, got {quote(got)}.",
    )


def field_key(constructor: str, key: object) -> str:
    if not isinstance(key, str) or not key:
        raise invalid(constructor, "key", "the name of a field", key)
    return key


def at_least(thing: str, argument: str, value: object, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise invalid(thing, argument, f"an integer of at least {minimum}", value)
    return value


def dtype_name(dtype: object) -> str:
    return str(getattr(dtype, "name", dtype))


def vector_length(constructor: str, dimension: int | str | None) -> int | None:
    automatic = dimension is None or dimension == "auto"
    return None if automatic else at_least(constructor, "dimension", dimension, 1)
