"""An analysis -> resolved columns, and what stands in the way, all at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import Reason
from transforms.analysis import Analysis, FieldAnalysis
from transforms.problems import Problem, Problems
from transforms.sketches import TokenCounts

_LOG = logging.getLogger(__name__)

WARN_DISTINCT = 1_000_000
MAX_DISTINCT = 10_000_000
"""A vocabulary beyond this is refused unless top_k or min_count bounds it."""


def resolve(columns: Mapping[str, fc.Column], analysis: Analysis) -> dict[str, fc.Column]:
    """Returns the columns with everything learned from the train split in its place.

    Raises:
        DataError: values are missing where a column has no default, a field has no value at
            all, or a vocabulary is too large; every such problem is listed.
    """
    found = [
        problem
        for name, column in columns.items()
        for problem in (*_unlearnable(name, column, analysis), *_missing(name, column, analysis))
    ]
    # A column that others are made of is met several times.
    Problems.of(list(dict.fromkeys(found))).raise_if_any()
    train = analysis.splits["train"].fields
    return {
        name: fc.resolve(column, lambda field, part: _learned(train[field], part))
        for name, column in columns.items()
    }


def _learned(field: FieldAnalysis, part: Any) -> Any:
    match part:
        case fc.Vocabulary():
            assert isinstance(field.tokens, TokenCounts), "see Source.every_token"  # noqa: S101
            table = field.tokens.ordered(part.top_k, part.min_count)
            return tuple(table["token"].to_pylist())
        case fc.Moments():
            return fc.ZScore(mean=field.numbers.mean, stddev=field.numbers.stddev)
        case fc.Quantiles():
            return boundaries(field, part.buckets)
    return field.numbers.mean


def boundaries(field: FieldAnalysis, buckets: int) -> tuple[float, ...]:
    """Returns distinct ascending boundaries, as float32 for that is what they are compared to."""
    inner = np.clip(field.values.quantiles(buckets), field.low, field.high)
    return tuple(float(value) for value in np.unique(inner.astype(np.float32)))


def _unlearnable(name: str, column: fc.Column, analysis: Analysis) -> list[Problem]:
    problems = []
    for part_of in fc.walk([column]):
        for key, part in fc.open_parts(part_of):
            field = analysis.splits["train"].fields[key]
            what = f"Column {name!r} cannot learn its {type(part).__name__.lower()}"
            if not field.present:
                problems.append(
                    _problem(
                        key,
                        f"{what}: expected values of field {key!r} in the train split, got "
                        f"{field.rows:,} rows without any",
                        "Remove the column or give its values.",
                        Reason.MISSING_VALUE,
                    )
                )
            elif isinstance(part, fc.Vocabulary):
                problems += _vocabulary_problems(what, key, part, field)
    return problems


def _vocabulary_problems(
    what: str, key: str, part: fc.Vocabulary, field: FieldAnalysis
) -> list[Problem]:
    distinct = len(field.tokens)
    bounded = part.top_k is not None or part.min_count > 1
    if distinct > MAX_DISTINCT and not bounded:
        return [
            _problem(
                key,
                f"{what}: expected at most {MAX_DISTINCT:,} distinct values of field {key!r}, "
                f"got {distinct:,}",
                "Set top_k or min_count, or use a hashed column.",
                Reason.TOO_MANY_VALUES,
            )
        ]
    if distinct > WARN_DISTINCT and not bounded:
        _LOG.warning(
            "Field %r looks like an identifier: %s distinct values in %s rows. "
            "Set top_k or use a hashed column.", key, f"{distinct:,}", f"{field.rows:,}",
        )  # fmt: skip
    top = field.tokens.most_common(1)[0][1]
    if top < part.min_count:
        return [
            _problem(
                key,
                f"{what}: expected values seen at least {part.min_count:,} times, got {top:,} "
                "for the most frequent one",
                "Lower min_count.",
                Reason.EMPTY_INPUT,
            )
        ]
    return []


def _missing(name: str, column: fc.Column, analysis: Analysis) -> list[Problem]:
    if not isinstance(column, fc.NumericColumn) or column.default_value is not None:
        return []
    problems = []
    for split, rows in analysis.splits.items():
        field = rows.fields.get(column.key)
        if field is not None and field.missing:
            problems.append(
                _problem(
                    column.key,
                    f"Column {name!r} has no default for missing values: expected a value of "
                    f"field {column.key!r} in every row, got {field.missing:,} of "
                    f"{field.rows:,} rows of the {split} split without one",
                    "Add default: mean (or a number) to the column.",
                    Reason.MISSING_VALUE,
                )
            )
    return problems


def _problem(field: str, text: str, action: str, reason: Reason) -> Problem:
    return Problem(file="", line=0, field=field, text=text, action=action, reason=reason)
