"""Which rows a published model scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from estimator_lib.core.config._csv import CsvDialect
from estimator_lib.core.section import Section

_Format = Literal["csv", "parquet", "tfrecord"]
_Patterns = Annotated[list[str], Field(min_length=1)]


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ValueError(f"{encoding!r} is no text encoding") from error
    return encoding


class Predict(Section):
    """What pipeline batch_prediction scores with the newest published model."""

    files: _Patterns
    """File patterns, relative to this configuration file; fields that the model does not read
    are ignored."""
    format: _Format | None = None
    """File format; by default that of `data`, as are missing values, encoding and how CSV is
    written."""
    keep: list[str] = []
    """Fields that go along, such as the key of a row."""
    output: Literal["parquet", "csv"] = "parquet"
    """Format of the predictions."""
    on_bad_rows: Literal["fail", "skip"] = "fail"
    """What a row does that cannot be read: end the step before it writes anything, or be left
    out. Rows left out are counted and the first ones listed."""


class PredictPart(CsvDialect):
    """The part that the predict step reads."""

    files: _Patterns
    format: _Format
    missing: list[str] = [""]
    encoding: Annotated[str, AfterValidator(_known)] = "utf-8"
    keep: list[str] = []
    output: Literal["parquet", "csv"] = "parquet"
    on_bad_rows: Literal["fail", "skip"] = "fail"
