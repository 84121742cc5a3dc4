"""The marks of numbers in texts: what stands before their fraction and between their thousands."""

from __future__ import annotations

import dataclasses
import re

import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core.values import Logical
from transforms.reading import values

NO_NUMBER = "\ue000"
"""Before a text that is no number, though it looks like one."""
_NUMERIC = (Logical.INTEGER, Logical.REAL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Marks:
    """How numbers are written in texts.

    Attributes:
        decimal: What stands before the fraction.
        thousands: What stands between the thousands; "" for nothing.
    """

    decimal: str = "."
    thousands: str = ""

    @property
    def are_pythons(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return (self.decimal, self.thousands) == (".", "")

    def numbers(self, texts: pa.Array) -> pa.Array:
        """Returns texts that must be numbers as Python writes them.

        1.5 is none where fractions follow a comma; it gets `NO_NUMBER` before it.
        """
        return self._plain(texts, "[+-]?", "[0-9]", looks=r"^[ \t]*[+-]?[.0-9]")

    def plain(self, texts: pa.Array) -> pa.Array:
        """Returns texts of any kind, the numbers among them as Python writes them.

        What is a number in Python's marks alone gets `NO_NUMBER` before it. A text 007,5 is none.
        """
        number = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
        return self._plain(texts, "-?", "[1-9]", looks=number)

    def class_names(self, texts: pa.Array) -> pa.Array:
        """Returns names of classes, those that are numbers as Python writes them."""
        plain = self.plain(texts)
        return texts if plain is texts else pc.if_else(self._others(texts, plain), texts, plain)

    def canonical(self, texts: pa.Array, logical: Logical) -> pa.Array:
        """Returns the texts of a field in the canonical form of its type.

        Only where that is a number do the marks mean anything.
        """
        if self.are_pythons or logical not in _NUMERIC:
            return values.canonical(texts, logical)
        plain = self.plain(texts)
        return pc.if_else(self._others(texts, plain), texts, values.canonical(plain, logical))

    def _others(self, texts: pa.Array, plain: pa.Array) -> pa.Array:
        """Which texts are numbers in Python's marks alone."""
        return pc.and_(pc.starts_with(plain, NO_NUMBER), pc.not_equal(plain, texts))

    def _plain(self, texts: pa.Array, sign: str, first: str, *, looks: str) -> pa.Array:
        if self.are_pythons:
            return texts
        point, between = re.escape(self.decimal), re.escape(self.thousands)
        whole = f"0|{first}[0-9]*"
        if between:
            whole += rf"|{first}[0-9]{{0,2}}(?:{between}[0-9]{{3}})+"
        pattern = rf"^{sign}(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?$"
        bare = pc.replace_substring(texts, self.thousands, "") if self.thousands else texts
        written = pc.replace_substring(bare, self.decimal, ".")
        marked = pc.binary_join_element_wise(pa.scalar(NO_NUMBER), texts, "")
        other = pc.if_else(pc.match_substring_regex(texts, looks), marked, texts)
        return pc.if_else(pc.match_substring_regex(texts, pattern), written, other)
