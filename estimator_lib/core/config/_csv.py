"""How texts and numbers of CSV files are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from estimator_lib.core.section import Section, explain
from estimator_lib.core.units import Unit

_Mark = Annotated[str, Field(min_length=1, max_length=1)]
_MaybeMark = Annotated[str, Field(max_length=1)]


class CsvDialect(Section):
    """What stands between and around the values of CSV; each is one character."""

    delimiter: _Mark = ","
    """The character between fields."""
    quote: _MaybeMark = '"'
    """Of CSV: what stands around a text that holds the delimiter; twice within, it is one of the
    text. Empty if nothing does."""
    escape: _MaybeMark = ""
    """Of CSV: what stands before a character that is part of the text, such as a backslash."""
    decimal: _Mark = "."
    """Of CSV: what stands before the fraction of a number."""
    thousands: _MaybeMark = ""
    """Of CSV: what stands between the thousands of a number, as in 1,234.5."""

    @pydantic.model_validator(mode="after")
    def _told_apart(self) -> Self:
        marks = {name: getattr(self, name) for name in ("delimiter", "quote", "escape")}
        for name, mark in marks.items():
            if mark and (not mark.isascii() or mark in "\r\n\0"):
                raise ValueError(f"{name} must be one ASCII character within a line; got {mark!r}")
        given = [mark for mark in marks.values() if mark]
        if len(set(given)) < len(given):
            raise ValueError(f"delimiter, quote and escape must differ; got {given}")
        for name in ("decimal", "thousands"):
            mark = getattr(self, name)
            if mark and (mark.isalnum() or mark in "+-\r\n\0"):
                raise ValueError(f"{name} must be no part of a number; got {mark!r}")
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands must differ; both are {self.decimal!r}")
        return self

    @property
    def _is_plain(self) -> bool:
        """Whether nothing but the delimiter is said."""
        return all(
            getattr(self, name) == CsvDialect.model_fields[name].default
            for name in ("quote", "escape", "decimal", "thousands")
        )

    @property
    def _has_marks_only(self) -> bool:
        """Whether nothing is said but how numbers are written."""
        return (self.quote, self.escape) == ('"', "")

    def unit(self, sign: str) -> Unit:
        """How numbers with a sign are written beside these marks."""
        return Unit(sign=sign.strip(), decimal=self.decimal, thousands=self.thousands)

    @property
    def dialect(self) -> dict[str, Any]:
        """The characters by name."""
        return {name: getattr(self, name) for name in CsvDialect.model_fields}


def csv_dialect(given: Mapping[str, Any]) -> CsvDialect:
    """Returns the dialect that a command line gives by name.

    Raises:
        ConfigError: a name or a character cannot be.
    """
    try:
        return CsvDialect.model_validate(dict(given))
    except pydantic.ValidationError as error:
        raise explain(error, CsvDialect, dict(given), "of CSV") from error
