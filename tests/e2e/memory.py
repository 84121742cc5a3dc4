"""Runs the steps of a pipeline on tables of several sizes, each in a process, for its peak memory.

`python tests/e2e/memory.py FOLDER ROWS ROWS` writes a line of JSON: step, rows, MiB.
"""

import json
import os
import pathlib
import sys
import traceback

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kfp import dsl

from components.steps import evaluate, model, predict, preprocess, train
from estimator_lib.core import config
from estimator_lib.export.serving_inputs import build_transformed_serving_input_receiver_fn

CONFIG = """
name: many
data: {format: parquet, split: {files: {train: [train.parquet], eval: [eval.parquet]}}}
label: {field: y}
columns: {x: {kind: numeric}, c: {kind: vocabulary}}
estimator: {name: LinearClassifier, args: {feature_columns: [x, c]}}
train: {batch_size: 4096, epochs: 1}
evaluate: {slices: [c], importance: {rows: 0}}
predict: {files: [eval.parquet], format: parquet, keep: [c]}
"""
GROUP = 10_000


def write_table(path, rows, seed):
    rng = np.random.default_rng(seed)
    kinds = np.array([f"kind {i}" for i in range(20)])
    schema = pa.schema([("x", pa.float64()), ("c", pa.string()), ("y", pa.int64())])
    with pq.ParquetWriter(path, schema) as file:
        for _ in range(0, rows, GROUP):
            x = rng.normal(size=GROUP)
            y = (rng.random(GROUP) < 1 / (1 + np.exp(3 - x))).astype(int)
            columns = {"x": x, "c": kinds[rng.integers(0, 20, GROUP)], "y": y}
            file.write_table(pa.table(columns, schema=schema))


class Run:
    """The steps of one table, as the pipeline calls them."""

    def __init__(self, folder, rows):
        self.folder = folder / str(rows)
        self.folder.mkdir()
        (self.folder / "config.yaml").write_text(CONFIG)
        for seed, split in enumerate(("train", "eval")):
            write_table(self.folder / f"{split}.parquet", rows, seed)
        self.config = config.load(self.folder / "config.yaml")

    def artifact(self, name, kind=dsl.Artifact):
        return kind(uri=str(self.folder / name))

    def preprocess(self):
        part = self.config.preprocess_part().to_json()
        outputs = map(self.artifact, ("examples", "transform", "statistics"))
        preprocess.run(part, str(self.folder), "", "data", "code", *outputs)

    def train(self):
        part = self.config.train_part().to_json()
        inputs = map(self.artifact, ("examples", "transform", "model"))
        train.run(part, str(self.folder / "work"), "code", *inputs)

    def evaluate(self):
        given = {
            name: self.artifact(name) for name in ("examples", "transform", "statistics", "model")
        }
        given |= {name: self.artifact(name) for name in ("evaluation", "report", "model_card")}
        given["metrics"] = self.artifact("metrics", dsl.Metrics)
        given["classification"] = self.artifact("classification", dsl.ClassificationMetrics)
        part = self.config.evaluate_part().to_json()
        evaluate.run(config=part, champion="", code_version="code", **given)

    def predict(self):
        part = self.config.predict_part().to_json()
        serving = str(self.folder / "serving")
        predict.run(part, str(self.folder), serving, "data", "code", self.artifact("predictions"))

    def export(self):
        paths = [str(self.folder / name) for name in ("model", "transform", "examples")]
        trained = model.open_model(*paths)
        inputs = build_transformed_serving_input_receiver_fn(paths[1])
        trained.estimator.export_saved_model(
            str(self.folder / "serving"), inputs, checkpoint_path=trained.checkpoint
        )


def peak_mib(step):
    """Runs a step in a fork of this process, which has imported everything and run nothing."""
    child = os.fork()
    if not child:
        try:
            step()
        except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{step.__name__} failed")
    return usage.ru_maxrss / 1024


def main():
    folder = pathlib.Path(sys.argv[1])
    for rows in map(int, sys.argv[2:]):
        run = Run(folder, rows)
        for step in (run.preprocess, run.train, run.evaluate, run.export, run.predict):
            found = {"step": step.__name__, "rows": rows, "mib": round(peak_mib(step), 1)}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
