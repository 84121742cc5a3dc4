"""Which rows a published model scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from estimator_lib.core.config._section import Section

_Format = Literal["csv", "parquet", "tfrecord"]
_Patterns = Annotated[list[str], Field(min_length=1)]


class Predict(Section):
    """What pipeline batch_prediction scores with the newest published model."""

    files: _Patterns
    """File patterns, relative to this configuration file; fields that the model does not read
    are ignored."""
    format: _Format | None = None
    """File format; by default that of `data`, as are missing values and delimiter."""
    keep: list[str] = []
    """Fields that go along, such as the key of a row."""
    output: Literal["parquet", "csv"] = "parquet"
    """Format of the predictions."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What a value that cannot be read does: end the step before it writes anything, or leave
    its row out. Rows left out are counted and the first ones listed."""


class PredictPart(Section):
    """The part that the predict step reads."""

    files: _Patterns
    format: _Format
    missing: list[str] = [""]
    delimiter: str = ","
    keep: list[str] = []
    output: Literal["parquet", "csv"] = "parquet"
    bad_rows: Literal["refuse", "skip"] = "refuse"
