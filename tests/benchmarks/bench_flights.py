"""The main job as a whole process, and its model beside LightGBM on the same rows and columns."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from estimator_lib.core import config as configuration
from estimator_lib.core import files, manifest
from pipelines.examples.flights import data
from tests.benchmarks.figures import report

EXAMPLE = pathlib.Path(data.__file__).parent
CONFIG = EXAMPLE / "config.yaml"


def raw_rows(config, split, fields):
    """The labelled rows of a split, as the pipeline reads them: text stays text."""
    paths = files.expand(config.data.patterns()[split], EXAMPLE)
    label = config.label.field
    types = {f: pa.string() if kind == "string" else pa.float64() for f, kind in fields.items()}
    options = csv.ConvertOptions(
        include_columns=[*fields, label],
        column_types={**types, label: pa.float64()},
        null_values=list(config.data.missing),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    table = pa.concat_tables([csv.read_csv(path, convert_options=options) for path in paths])
    return table.filter(pc.is_valid(table[label]))


def lightgbm_auc(config, fields):
    """AUC on the eval split of LightGBM with its defaults; text fields are categories."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    train, evaluation = (raw_rows(config, split, fields) for split in ("train", "eval"))
    label = config.label.field

    def matrix(table, known):
        columns = []
        for field, kind in fields.items():
            values = table[field]
            if kind == "string":
                known.setdefault(field, pc.unique(values).drop_null())
                values = pc.fill_null(pc.index_in(values, known[field]), -1)
            columns.append(values.to_numpy().astype("float64"))
        return np.stack(columns, axis=1)

    known = {}
    categories = [i for i, kind in enumerate(fields.values()) if kind == "string"]
    began = time.monotonic()
    model = lightgbm.LGBMClassifier(n_jobs=2, verbose=-1).fit(
        matrix(train, known), train[label].to_numpy(), categorical_feature=categories
    )
    seconds = time.monotonic() - began
    scores = model.predict_proba(matrix(evaluation, known))[:, 1]
    return roc_auc_score(evaluation[label].to_numpy(), scores), seconds, len(train), len(evaluation)


def family(pid):
    """A process and everything below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def shared_memory_kib(pid):
    """Memory of a process and its children; pages they share are counted once."""
    total = 0
    with contextlib.suppress(OSError):
        for member in family(pid):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
    return total


def run_example(output):
    """Runs the main job in a process of its own: summary, seconds, peak memory in GiB."""
    command = [sys.executable, "-m", "pipelines.cli", "run", str(CONFIG), "--output", output]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, shared_memory_kib(process.pid))
        time.sleep(0.2)
    seconds = time.monotonic() - began
    assert process.returncode == 0
    summary = json.loads(pathlib.Path(output, "run.json").read_text())
    return summary, seconds, peak / 2**20


def main():
    data.write(EXAMPLE / "data")
    config = configuration.load(CONFIG)
    with tempfile.TemporaryDirectory() as output:
        summary, cold, peak = run_example(output)
        _, warm, _ = run_example(output)
        examples = next(pathlib.Path(output).glob("artifacts/*/preprocess/examples"))
        fields = manifest.read(examples).metadata["raw_fields"]
    report("flights: whole run", cold, "s")
    report("flights: same run again, from cache", warm, "s")
    report("flights: memory of all processes at the peak", peak, "GiB")
    auc, seconds, train_rows, eval_rows = lightgbm_auc(config, fields)
    assert summary["evaluation"]["rows"] == eval_rows
    report("flights: rows for training", train_rows, "rows")
    report("flights: LightGBM fit", seconds, "s")
    ours = summary["evaluation"]["metrics"]["auc"]["value"]
    report("flights: AUC, October to December", ours, "auc", "LightGBM, defaults", auc)
    fewer = {field: kind for field, kind in fields.items() if field != "tailnum"}
    auc, *_ = lightgbm_auc(config, fewer)
    report("flights: AUC, same", ours, "auc", "LightGBM, defaults, without tailnum", auc)


if __name__ == "__main__":
    main()
