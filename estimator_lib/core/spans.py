"""Dates in file patterns: `{date}` is any day, `{date:7}` the newest seven that there are.

`{date:8-90}` are the eighth to the ninetieth newest, and `{date:8-}` all but the newest seven: what
lies before the days that a model is evaluated on. Layer 0. A day is written 2026-01-31 or 20260131.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable

from estimator_lib.core.errors import ConfigError, quote

_SPAN = re.compile(r"\{date(?::([1-9]\d*)(?:(-)([1-9]\d*)?)?)?\}")
_DAY = r"\d{4}-\d{2}-\d{2}|\d{8}"
_DIGIT = "[0-9]"
_GLOBS = (f"{_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2}", _DIGIT * 8)

Choice = Callable[[Iterable[str]], list[str]]


def parse(pattern: str) -> tuple[list[str], Choice]:
    """Returns the plain patterns that a pattern stands for, and what of their matches to take.

    Args:
        pattern: Glob pattern with at most one `{date}`, `{date:N}`, `{date:A-B}` or `{date:A-}`,
            and no `**` behind it.

    Raises:
        ConfigError: the date is given twice, `**` follows it, or B is less than A.
    """
    found = list(_SPAN.finditer(pattern))
    if not found:
        return [pattern], list
    span = found[0]
    if len(found) > 1 or "**" in pattern[span.end() :]:
        raise ConfigError(
            f"File pattern {quote(pattern)} is ambiguous: expected one {{date}} and no ** behind "
            "it. Correct the pattern.",
        )
    before, after = pattern[: span.start()], pattern[span.end() :]
    depth = len(list(filter(None, after.split("/")[1:])))
    component = re.compile(
        f"{_regex(before.rpartition('/')[2])}({_DAY}){_regex(after.partition('/')[0])}$"
    )
    first, last = _range(pattern, *span.groups())

    def choose(paths: Iterable[str]) -> list[str]:
        days: dict[str, list[str]] = {}
        for path in paths:
            components = list(filter(None, path.split("/")))
            if depth < len(components) and (match := component.match(components[-1 - depth])):
                days.setdefault(match[1].replace("-", ""), []).append(path)
        taken = sorted(days, reverse=True)[first:last]
        return [path for day in sorted(taken) for path in days[day]]

    return [before + glob + after for glob in _GLOBS], choose


def _range(
    pattern: str, one: str | None, dash: str | None, other: str | None
) -> tuple[int, int | None]:
    """Returns where the wanted days begin and end among all, the newest first."""
    if one is None:
        return 0, None
    if dash is None:
        return 0, int(one)
    if other is not None and int(other) < int(one):
        raise ConfigError(
            f"File pattern {quote(pattern)} asks for no day: expected {{date:A-B}} with A at most "
            "B, counted from the newest. Correct the pattern.",
        )
    return int(one) - 1, int(other) if other else None


def _regex(glob: str) -> str:
    return fnmatch.translate(glob).removesuffix(r"\Z")
