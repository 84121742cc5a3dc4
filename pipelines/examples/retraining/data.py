"""Lets the flights of 2013 arrive month by month, as files named by the last day of the month.

`--months 9` writes the first nine. With `--damage` the last one is what an upstream change may
send one day: carriers in lower case, distances in kilometres. README.md tells when to use them.
"""

from __future__ import annotations

import argparse
import calendar
import pathlib
import sys
from typing import Any

from pipelines.examples.flights import data as flights

HERE = pathlib.Path(__file__).parent


def land(
    directory: pathlib.Path, months: int, *, damage: bool = False, every: int = 1
) -> list[pathlib.Path]:
    """Writes the files of the first months, and removes those of later ones.

    Args:
        directory: Gets flights-2013-01-31.csv and so on.
        months: How many have arrived.
        damage: Whether the last one names carriers in lower case and distances in kilometres.
        every: Take every so manieth flight only.
    """
    import pyarrow.compute as pc

    table = flights.read()
    table = table.take(list(range(0, len(table), every)))
    paths = []
    for month in range(1, 13):
        day = calendar.monthrange(2013, month)[1]
        path = directory / f"flights-2013-{month:02d}-{day}.csv"
        if month > months:
            path.unlink(missing_ok=True)
            continue
        rows = table.filter(pc.equal(table["month"], month))
        flights.write_rows(_damage(rows) if damage and month == months else rows, path)
        paths.append(path)
    return paths


def _damage(rows: Any) -> Any:
    import pyarrow.compute as pc

    for name, values in (
        ("carrier", pc.utf8_lower(rows["carrier"])),
        ("distance", pc.round(pc.multiply(rows["distance"], 1.609344))),
    ):
        rows = rows.set_column(rows.schema.names.index(name), name, values)
    return rows


def main() -> None:
    """Writes the files and says which."""
    parser = argparse.ArgumentParser(description="Let flights arrive, month by month.")
    parser.add_argument("--months", type=int, choices=range(2, 13), required=True)
    parser.add_argument("--damage", action="store_true", help="the last month is damaged")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "data")
    parsed = parser.parse_args()
    paths = land(parsed.output, parsed.months, damage=parsed.damage)
    what = ", damaged" if parsed.damage else ""
    sys.stdout.write(f"{len(paths)} months have arrived; the last is {paths[-1].name}{what}\n")


if __name__ == "__main__":
    main()
