"""Faults found in the data: collected while reading, raised once, the first twenty shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, SchemaError

SHOWN = 20
"""How many problems an error lists; the others are counted."""

_SCHEMA_REASONS = frozenset((Reason.FIELD_MISSING, Reason.TYPE_MISMATCH, Reason.DUPLICATE))


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One fault: where it is, what it is and what to do about it.

    Attributes:
        file: Name of the file; "" when the fault is in the data as a whole.
        line: 1-based line on which the record starts; 0 when the fault has no line.
        field: Raw field at fault, or "".
        text: What is wrong, expected and found, without the place and the full stop.
        action: One sentence: what to do.
        reason: The stable code of the error.
        where: The place within the file, for files without lines; else "".
    """

    file: str
    line: int
    field: str
    text: str
    action: str
    reason: Reason
    where: str = ""

    @property
    def sentence(self) -> str:
        """The fault and its place, without the action."""
        place = f"{self.file}:{self.where or self.line}"
        at = f" at {place}" if self.line or self.where else f" in {self.file}"
        return f"{self.text}{at if self.file else ''}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problems:
    """How many faults there are, and the first of them by file, line and field.

    Attributes:
        total: How many there are.
        first: Those that are listed.
        kept: How many are listed at most.
    """

    total: int = 0
    first: tuple[Problem, ...] = ()
    kept: int = SHOWN

    @classmethod
    def of(
        cls, found: Iterable[Problem], *, total: int | None = None, kept: int = SHOWN
    ) -> Problems:
        """Collects `found`, `kept` of them; `total` counts more than are given."""
        ordered = sorted(found)
        first = tuple(ordered[:kept])
        return cls(total=len(ordered) if total is None else total, first=first, kept=kept)

    def __add__(self, other: Problems) -> Problems:
        kept = max(self.kept, other.kept)
        return Problems.of(self.first + other.first, total=self.total + other.total, kept=kept)

    def raise_if_any(self) -> None:
        """Raises one error that lists the faults, if there are any.

        Raises:
            SchemaError: the first fault is about fields rather than values.
            DataError: any other first fault.
        """
        if self.first:
            raise self.as_error()

    def as_error(self) -> EstimatorLibError:
        """The one error for all faults; its reason is that of the first."""
        reason = self.first[0].reason
        kind = SchemaError if reason in _SCHEMA_REASONS else DataError
        if self.total == 1:
            return kind(f"{self.first[0].sentence} {self.first[0].action}", reason=reason)
        shown = self.first[:SHOWN]
        more = f" (the first {len(shown)} are shown)" if self.total > len(shown) else ""
        lines = [f"The data has {self.total:,} problems{more}:"]
        lines += [f"  {problem.sentence}" for problem in shown]
        lines += [f"  {action}" for action in dict.fromkeys(p.action for p in shown)]
        return kind("\n".join(lines), reason=reason)
