"""What `test_many_workers` looks at: each scenario in real processes, forked from this one.

TensorFlow is imported once and used in the children only. The results are printed as JSON.
"""

import json
import os
import pathlib
import signal
import sys
import time
import traceback

import numpy as np
import tensorflow as tf

import estimator_lib as E
from estimator_lib import feature_column as fc
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.core.processes import Child
from estimator_lib.inputs.arrays import arrays_input

ROOT = pathlib.Path(sys.argv[1])
ROWS = 1000
rng = np.random.default_rng(0)
X = {"x": rng.normal(size=ROWS).astype("float32"), "k": rng.integers(0, 40, ROWS)}
Y = (X["x"] + X["k"] / 40 + rng.normal(size=ROWS) > 0.5).astype("int64")


class Watch(E.Hook):
    """Notes losses and the weights at the end; does `then(context)` at multiples of 10 steps."""

    every_steps = 10

    def __init__(self, model, then):
        self._model = model
        self._then = then
        self._losses = []

    def after_step(self, context):
        self._losses.append(context.mean_loss)
        self._then(context)

    def end(self, context):
        config = self._model.config
        values = {n: v.numpy() for n, v in context.variables.items() if v.trainable}
        name = f"{config.task_type}{config.task_id}" if config.cluster_spec else "alone"
        folder = pathlib.Path(self._model.model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", step=context.step, rows=context.rows, **values)
        (folder / f"{name}.json").write_text(json.dumps(self._losses))


def nothing(model, context):
    pass


def train(model_dir, *, batch_size, source=None, then=nothing, seed=1, **options):
    given = {"save_checkpoints_steps": 20, "log_step_count_steps": 10} | options
    k = fc.categorical_column_with_identity("k", 40)
    config = E.RunConfig(
        model_dir=str(model_dir), train_distribute="sync", tf_random_seed=1,
        session_creation_timeout_secs=60, peer_timeout_secs=30, **given,
    )  # fmt: skip
    model = E.DNNLinearCombinedClassifier(
        linear_feature_columns=[k],
        dnn_feature_columns=[fc.numeric_column("x"), fc.embedding_column(k, 3)],
        dnn_hidden_units=[4],
        batch_norm=source is not None,
        config=config,
    )
    source = source or arrays_input(X, Y, batch_size=batch_size, epochs=3, shuffle=True, seed=seed)
    receiver = E.export.build_parsing_serving_input_receiver_fn(
        {"x": tf.io.FixedLenFeature([], tf.float32), "k": tf.io.FixedLenFeature([], tf.int64)}
    )
    E.train_and_evaluate(
        model,
        E.TrainSpec(source, hooks=[Watch(model, lambda context: then(model, context))]),
        E.EvalSpec(
            arrays_input(X, Y, batch_size=ROWS), steps=None, start_delay_secs=0, throttle_secs=0,
            exporters=E.FinalExporter("final", receiver),
        ),
    )  # fmt: skip
    return model


def cluster(body, **options):
    """Returns how a cluster of two workers ended, and after how long."""
    began = time.monotonic()
    try:
        E.run_local_cluster(body, workers=2, **options)
    except EstimatorLibError as error:
        return {
            "error": error.message, "kind": type(error).__name__, "reason": error.reason,
            "retryable": error.retryable, "seconds": time.monotonic() - began,
        }  # fmt: skip
    return {"error": None, "seconds": time.monotonic() - began}


def alone():
    folder = ROOT / "alone"
    ended = Child("alone", lambda _: train(folder, batch_size=32).model_dir).wait()
    return {"error": ended.failure and ended.failure.message}


def together():
    return cluster(lambda: train(ROOT / "together", batch_size=16), evaluator=True)


def killed():
    folder = ROOT / "killed"

    def die(model, context):
        if model.config.task_type == "worker" and context.step == 40:
            os.kill(os.getpid(), signal.SIGKILL)

    first = cluster(lambda: train(folder, batch_size=16, then=die), restarts=0)
    first["steps"] = sorted(int(p.stem.rpartition("-")[2]) for p in folder.glob("*.index"))
    again = cluster(lambda: train(folder, batch_size=16), restarts=0)
    return {"first": first, "again": again}


def restarted():
    folder = ROOT / "restarted"

    def die_once(model, context):
        mark = folder / "died"
        if model.config.task_type == "chief" and context.step == 40 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return cluster(lambda: train(folder, batch_size=16, then=die_once), restarts=1)


def asked():
    folder = ROOT / "asked"

    def ask(model, context):
        if model.config.task_type == "worker" and context.step == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    given = {"save_checkpoints_steps": 1000, "log_step_count_steps": None}
    found = cluster(lambda: train(folder, batch_size=16, then=ask, **given), restarts=0)
    return found | {"steps": sorted(p.name for p in folder.glob("*.index"))}


def uneven():
    """An input_fn of a user's, whose shards differ in length; with batch normalization."""

    def source(input_context):
        worker = input_context.input_pipeline_id
        dataset = tf.data.Dataset.from_tensor_slices((X, Y))
        dataset = dataset.shard(input_context.num_input_pipelines, worker)
        return dataset.take(110 if worker else 300).batch(20)

    return cluster(lambda: train(ROOT / "uneven", batch_size=20, source=source))


def own_directories():
    """Defaults for when to save and log, and a directory for each."""

    def body():
        role = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
        folder = ROOT / "own" / role
        train(folder, batch_size=16, save_checkpoints_steps=None, save_checkpoints_secs=600)

    return cluster(body)


def other_rows():
    def body():
        role = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
        train(ROOT / "other", batch_size=16, seed=len(role))

    return cluster(body)


SCENARIOS = (
    alone, together, killed, restarted, asked, uneven, own_directories, other_rows,
)  # fmt: skip


def main():
    results = {}
    for scenario in SCENARIOS:
        try:
            results[scenario.__name__] = scenario()
        except Exception:  # noqa: BLE001 - the test shows it
            results[scenario.__name__] = {"error": traceback.format_exc()}
    (ROOT / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
