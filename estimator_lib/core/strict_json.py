"""JSON as its standard has it: each key once, finite numbers, whole characters. Layer 0."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_HALVES = re.compile(r"\\u[dD][89a-fA-F]")


def parse(data: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Args:
        data: The text, or its UTF-8 bytes.

    Raises:
        ValueError: it is none, has a key twice, a number that is not finite or half a character.
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        found = json.loads(
            text, parse_constant=_refused, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if _HALVES.search(text):
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is too large for a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
