"""An analysis -> resolved columns, and what stands in the way, all at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import columns as fc
from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.values import Logical, canonical
from transforms.learning.analysis import WEIGHT_UNIT, Analysis, FieldAnalysis
from transforms.learning.informativeness import adjusted_mutual_information
from transforms.learning.sketches import TokenCounts
from transforms.reading.problems import Problem, Problems

_LOG = logging.getLogger(__name__)

WARN_DISTINCT = 1_000_000
MAX_DISTINCT = 10_000_000
"""A vocabulary beyond this is refused unless top_k or min_count bounds it."""


def resolve(
    columns: Mapping[str, fc.Column], analysis: Analysis, label: config.Label | None = None
) -> dict[str, fc.Column]:
    """Returns the columns with everything learned from the train split in its place.

    Args:
        columns: As declared.
        analysis: Of all splits.
        label: The label whose classes may rank vocabularies.

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
    classes = None
    if label is not None:
        classes = train[str(label.field)].class_totals(label)
    logical = analysis.logical
    return {
        name: fc.resolve(
            column,
            lambda field, part: _learned(train[field], part, classes, logical.get(field)),
            lambda field, listed: _written(field, listed, logical.get(field)),
        )
        for name, column in columns.items()
    }


def _written(field: str, listed: tuple[Any, ...], logical: Logical | None) -> tuple[Any, ...]:
    """Listed values of a vocabulary in the form that the field's texts have."""
    if logical is None:
        return listed
    found = tuple(canonical(one, logical) if isinstance(one, str) else one for one in listed)
    if len(set(found)) < len(set(listed)):
        twice = sorted({str(one) for one in found if found.count(one) > 1})[0]
        alike = [one for one, text in zip(listed, found, strict=True) if text == twice]
        raise ConfigError(
            f"Vocabulary of field {field!r} lists one value twice: {quote(alike)} are all "
            f"{logical} {twice!r}. List it once, or declare the field as text under data.types.",
            reason=Reason.DUPLICATE,
        )
    return found


def vocabulary(
    field: FieldAnalysis,
    part: fc.Vocabulary,
    classes: Mapping[int, int] | None,
    logical: Logical | None = None,
) -> tuple[str, ...]:
    """Returns the reserved values, then the others as they are ranked, ties by their bytes.

    Args:
        field: Where the values are.
        part: What is wanted of them.
        classes: Rows of each class of the label, where these rank the values.
        logical: What the field's texts are, so that reserved values are written alike.
    """
    assert isinstance(field.tokens, TokenCounts), "see Source.every_token"  # noqa: S101
    top_k = None if part.top_k is None else part.top_k + len(part.reserved)
    if part.informative:
        assert classes is not None, "see records.source"  # noqa: S101
        tokens = _informative(field, classes, top_k, part.min_count)
    elif part.weight is not None:
        least = int(np.ceil(part.min_count / WEIGHT_UNIT)) if part.min_count > 1 else 1
        tokens = field.sums[part.weight].ordered(top_k, least)["token"].to_pylist()
    else:
        tokens = field.tokens.ordered(top_k, part.min_count)["token"].to_pylist()
    first = [canonical(text, logical or Logical.TEXT) for text in part.reserved]
    others = [token for token in tokens if token not in set(first)][: part.top_k]
    return (*first, *others)


def _informative(
    field: FieldAnalysis, classes: Mapping[int, int], top_k: int | None, min_count: int
) -> list[str]:
    assert isinstance(field.tokens, TokenCounts), "see Source.every_token"  # noqa: S101
    totals = np.array(list(classes.values()))
    table = field.tokens.ordered(min_count=min_count)
    joint = np.zeros((table.num_rows, len(classes)), np.int64)
    for at, one in enumerate(classes):
        counts = field.by_class.get(one)
        if counts is not None:
            seen = counts.to_table()
            found = pc.index_in(table["token"], seen["token"])
            here = found.is_valid().to_numpy()
            joint[here, at] = seen["count"].take(found.drop_null()).to_numpy()
    ranked = table.append_column("rank", pa.array(adjusted_mutual_information(joint, totals)))
    order = pc.sort_indices(ranked, [("rank", "descending"), ("token", "ascending")])
    return ranked["token"].take(order[:top_k] if top_k is not None else order).to_pylist()


def _learned(
    field: FieldAnalysis, part: fc.Open, classes: Mapping[int, int] | None, logical: Logical | None
) -> Any:
    match part:
        case fc.Vocabulary():
            return vocabulary(field, part, classes, logical)
        case fc.Moments():
            return moments(field)
        case fc.Quantiles():
            return boundaries(field, part.buckets, ends=part.ends)
    return field.numbers.mean


def boundaries(field: FieldAnalysis, buckets: int, *, ends: bool = False) -> tuple[float, ...]:
    """Returns distinct ascending boundaries, as float32 for that is what they are compared to.

    Args:
        field: Where the numbers are.
        buckets: How many parts.
        ends: Whether the smallest and the largest number are boundaries too.
    """
    cuts = np.clip(field.values.boundaries(buckets), field.low, field.high)
    if ends:
        cuts = np.concatenate([[field.low], cuts, [field.high]])
    return tuple(float(value) for value in np.unique(cuts.astype(np.float32)))


def moments(field: FieldAnalysis) -> fc.ZScore:
    """Returns mean and standard deviation, so that float32 numbers give scores of order 1.

    A deviation smaller than the steps between float32 numbers of that size would make large
    scores of nothing but rounding; the step takes its place.
    """
    mean, stddev = field.numbers.mean, field.numbers.stddev
    step = max(abs(field.low), abs(field.high)) * float(np.finfo(np.float32).eps)
    least = max(step, float(np.finfo(np.float32).tiny))
    return fc.ZScore(mean=mean, stddev=max(stddev, least) if stddev > 0 else 0.0)


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
    unit, counts = (1.0, field.tokens)
    if part.weight is not None:
        unit, counts = WEIGHT_UNIT, field.sums[part.weight]
    top = counts.most_common(1)[0][1] * unit
    if top < part.min_count:
        return [
            _problem(
                key,
                f"{what}: expected values seen at least {part.min_count:,} times, got {top:,g} "
                "for the most frequent one",
                "Lower min_count.",
                Reason.EMPTY_INPUT,
            )
        ]
    return []


def _missing(name: str, column: fc.Column, analysis: Analysis) -> list[Problem]:
    problems = []
    for split, rows, key in (
        (split, rows, key) for split, rows in analysis.splits.items() for key in column.required
    ):
        field = rows.fields.get(key)
        if field is not None and field.missing:
            problems.append(
                _problem(
                    key,
                    f"Column {name!r} has no default for missing values: expected a value of "
                    f"field {key!r} in every row, got {field.missing:,} of "
                    f"{field.rows:,} rows of the {split} split without one",
                    "Add default: mean (or a number) to the column.",
                    Reason.MISSING_VALUE,
                )
            )
    return problems


def _problem(field: str, text: str, action: str, reason: Reason) -> Problem:
    return Problem(file="", line=0, field=field, text=text, action=action, reason=reason)
