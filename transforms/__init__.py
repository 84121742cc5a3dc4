"""Beam jobs: what feature columns need is learned here, and applied.

The names below load Beam when they are first used. `docs/data.md` is the guide.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.ptransforms import ComputeStatistics, ReadRecords, ValidateStatistics
    from transforms.reading.bigquery_reader import ReadBigQuery

__all__ = ["ComputeStatistics", "ReadBigQuery", "ReadRecords", "ValidateStatistics"]


def __getattr__(name: str) -> Any:
    if name == "ReadBigQuery":
        from transforms.reading import bigquery_reader

        return bigquery_reader.ReadBigQuery
    if name in __all__:
        from transforms import ptransforms

        return getattr(ptransforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
