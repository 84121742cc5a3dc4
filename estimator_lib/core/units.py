"""Numbers that are written with a unit: 12.5%, $1,234.50, 1.234,50 €.

Layer 0. The one place that knows how; readers of files and the served model follow it, by the
same patterns of RE2, so that a text is the same number in each.
"""

from __future__ import annotations

import dataclasses
import re

from estimator_lib.core.errors import ConfigError, quote

_SPACE = "[ \u00a0\u202f]*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """How the numbers of a field are written.

    The sign stands before the number or behind it, or is left away; a minus may stand before
    either. `%` divides by 100 where it is there: 12.5% and 0.125 are one number.

    Attributes:
        sign: The unit, such as "%", "$" or "kg".
        decimal: What stands before the fraction.
        thousands: What stands between the thousands; "" for nothing.

    Raises:
        ConfigError: the sign could be part of a number.

    Example:
        >>> euro = Unit(sign="€", decimal=",", thousands=".")
        >>> euro.number("-1.234,50 €"), euro.number("1234,5"), euro.number("$5")
        (-1234.5, 1234.5, None)
        >>> Unit(sign="%").number("12.5 %")
        0.125
    """

    sign: str
    decimal: str = "."
    thousands: str = ""

    def __post_init__(self) -> None:
        if not self.sign.strip() or any(mark.isdigit() or mark in "+-.," for mark in self.sign):
            raise ConfigError(
                f"Unit {quote(self.sign)} cannot be read behind a number: expected a sign without "
                "digits, + - . and the comma, such as % or kg. Correct units.",
            )

    @property
    def rewrites(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Patterns of whole texts, and what the number is in them, with its own marks.

        The first is of texts with the sign, the second of those without; groups are written as
        both RE2 and Python do.
        """
        sign, point, between = (
            re.escape(mark) for mark in (self.sign, self.decimal, self.thousands)
        )
        whole = "[0-9]+"
        if between:
            whole += f"|[0-9]{{1,3}}(?:{between}[0-9]{{3}})+"
        number = f"(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)"
        before = f"(?:([+-]?){_SPACE}{sign}|{sign}{_SPACE}([+-])){_SPACE}({number})"
        behind = f"([+-]?{number}){_SPACE}{sign}"
        scale = "e-2" if self.sign == "%" else ""
        return (
            (f"^{_SPACE}(?:{before}|{behind}){_SPACE}$", rf"\1\2\3\4{scale}"),
            (f"^{_SPACE}([+-]?{number}(?:[eE][+-]?[0-9]{{1,3}})?){_SPACE}$", r"\1"),
        )

    def number(self, text: str) -> float | None:
        """Returns the number that a text is; None if it is none."""
        for pattern, rewrite in self.rewrites:
            if re.fullmatch(pattern, text):
                plain = re.sub(pattern, rewrite, text).replace(self.thousands, "")
                return float(plain.replace(self.decimal, "."))
        return None
