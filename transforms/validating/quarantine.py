"""Records at fault that are left out by policy, and listed instead of ending the job."""

from __future__ import annotations

import csv
import io
import itertools
import logging
import pathlib
from collections.abc import Sequence

from estimator_lib.core import config, storage
from estimator_lib.core.errors import DataError, raise_first
from transforms.learning.analysis import Analysis
from transforms.reading.problems import Problem
from transforms.reading.rows import QUARANTINED

FILE = "quarantine.csv"
_LOG = logging.getLogger(__name__)


def check(analysis: Analysis, data: config.Data) -> list[list[Problem]]:
    """Returns the records left out, each with what is wrong with it.

    Raises:
        DataError: a file cannot be read; or records are at fault, and that ends the job, or
            they are more than the configuration allows.
        SchemaError: a file lacks a field.
    """
    raise_first(analysis.failures)
    if data.on_bad_rows == "fail":
        analysis.problems.raise_if_any()
    problems = analysis.problems
    ordered = sorted(problems.first, key=_place)
    found = [list(group) for _, group in itertools.groupby(ordered, key=_place)]
    read = sum(split.read for split in analysis.splits.values()) + len(found)
    most = int(read * data.max_bad_fraction)
    if len(found) > most or problems.total > QUARANTINED:
        error = problems.as_error()
        more = "more than " if problems.total > len(problems.first) else ""
        raise DataError(
            f"Too many records are at fault: expected at most {most:,} of {read:,} "
            f"(data.max_bad_fraction is {data.max_bad_fraction:g}), got {more}{len(found):,}. "
            f"{error.message}",
            reason=error.reason,
        )
    if found:
        _LOG.warning("%s of %s records are in quarantine.", f"{len(found):,}", f"{read:,}")
    return found


def _place(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line, problem.where


def write(directory: pathlib.Path, found: Sequence[Sequence[Problem]]) -> None:
    """Writes one line per record left out: file, line, place, reason, fields, what is wrong."""
    if not found:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "line", "place", "reason", "fields", "problem"])
    for problems in found:
        first = problems[0]
        writer.writerow(
            [
                first.file,
                first.line or "",
                first.where,
                first.reason,
                " ".join(dict.fromkeys(p.field for p in problems if p.field)),
                "; ".join(p.text for p in problems),
            ]
        )
    storage.write_text(directory / FILE, text.getvalue())
