"""A made-up evaluation with everything a report can show."""

import itertools

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

from estimator_lib.core import config
from estimator_lib.evaluation import feature_statistics
from estimator_lib.evaluation.evaluation import (
    Evaluation,
    FeatureImportance,
    Importance,
    Serving,
    evaluate,
)
from estimator_lib.report.model import ReportInput


def numbers(feature, values):
    feature.type = statistics_pb2.FeatureNameStatistics.FLOAT
    stats = feature.num_stats
    present = values[np.isfinite(values)]
    stats.common_stats.num_missing = len(values) - len(present)
    stats.common_stats.num_non_missing = len(present)
    stats.mean, stats.std_dev = present.mean(), present.std()
    stats.min, stats.max, stats.median = present.min(), present.max(), np.median(present)
    stats.num_zeros = int((present == 0).sum())
    counts, edges = np.histogram(present, 10)
    histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)
    cuts = np.quantile(present, np.linspace(0, 1, 11))
    histogram = stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for low, high in itertools.pairwise(cuts):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=len(present) / 10)


def texts(feature, values):
    feature.type = statistics_pb2.FeatureNameStatistics.STRING
    stats = feature.string_stats
    present = [v for v in values if v]
    stats.common_stats.num_missing = len(values) - len(present)
    stats.common_stats.num_non_missing = len(present)
    names, counts = np.unique(present, return_counts=True)
    stats.unique = len(names)
    for at in np.argsort(-counts):
        stats.top_values.add(value=str(names[at]), frequency=float(counts[at]))


def statistics(columns):
    """Columns by name -> the bytes of a DatasetFeatureStatisticsList."""
    content = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = content.datasets.add(name="split")
    for name, values in columns.items():
        feature = dataset.features.add()
        feature.path.step.append(name)
        (numbers if np.asarray(values).dtype.kind == "f" else texts)(feature, values)
    return content.SerializeToString()


CARRIERS = (
    "United Express",
    "JetBlue",
    "Delta",
    "American",
    "Envoy",
    "US Airways",
    "Southwest",
    "Virgin",
    "AirTran",
    "Frontier",
    "Alaska",
    "Mesa",
    "SkyWest",
    "Hawaiian",
)


def importance():
    """As measured of eight fields, two of which tell nothing."""
    worse = {"hour": 0.081, "carrier": 0.034, "dest": 0.021, "temp": 0.012, "<b>": 0.004}
    worse |= {"distance": 0.0008, "precip": -0.0006}
    features = [
        FeatureImportance(field=f, worse_by=v, low=0.85 * v - 0.001, high=1.1 * v + 0.002)
        for f, v in worse.items()
    ]
    features.append(FeatureImportance(field="gone", worse_by=None, reason="there is no value"))
    return Importance(metric="auc", base=0.7, rows=2000, repeats=3, features=tuple(features))


def evaluation(n=20_000, thresholds=None, **more) -> Evaluation:
    rng = np.random.default_rng(7)
    logit = rng.normal(-1.5, 0.85, n)
    share = 0.7 ** np.arange(len(CARRIERS))
    carrier = rng.choice(CARRIERS, n, p=share / share.sum())
    noise = np.where(carrier == "Envoy", 1.6, 0.35)
    p = 1 / (1 + np.exp(-(logit + noise * rng.normal(size=n) + 0.1)))
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    old = 1 / (1 + np.exp(-(logit + 0.45 * rng.normal(size=n) - 0.2)))
    return evaluate(
        task="binary",
        labels=y,
        predictions=p,
        slices={
            "carrier": carrier,
            "origin": rng.choice(["EWR", "JFK", "LGA", "<script>alert(1)</script>"], n),
        },
        options=config.Evaluate.model_validate(
            {
                "thresholds": thresholds
                or {"auc": {"min": 0.65}, "calibration": {"min": 0.8, "max": 1.2}},
                "slices": ["carrier", "origin", ["carrier", "origin"]],
                "min_slice_rows": 100,
                "max_slices": 25,
                **more,
            }
        ),
        serving=Serving(model="runs/flights/serving/2", predictions=old),
        importance=importance(),
        model="flights-3",
        step=1440,
        model_digest="5f" * 32,
        data_fingerprint="9c" * 32,
    )


def history(points=24):
    rng = np.random.default_rng(3)
    for i in range(1, points + 1):
        fit = np.exp(-i / 5)
        metrics = {}
        if i % 3 == 0:
            metrics = {
                "loss": 0.47 + 0.14 * fit + 0.0012 * i,
                "auc": 0.688 - 0.12 * fit - 0.0007 * i,
            }
        yield {
            "step": 60 * i,
            "loss": float(0.455 + 0.2 * fit + 0.006 * rng.normal()),
            "metrics": metrics,
        }


def report(n=20_000, **more) -> ReportInput:
    rng = np.random.default_rng(11)

    def columns(count, late):
        temperature = rng.normal(62 - 16 * late, 14, count)
        temperature[rng.random(count) < 0.01 + 0.08 * late] = np.nan
        return {
            "temp": temperature,
            "distance": rng.gamma(2.2, 470, count),
            "dep_hour": rng.choice(np.arange(5.0, 24.0), count),
            "carrier": rng.choice(CARRIERS, count, p=np.arange(14, 0, -1) / 105),
            "dest": rng.choice([f"D{i:02d}" for i in range(80)] + ["", "<b>"], count),
            "precip": np.where(rng.random(count) < 0.93, 0.0, rng.exponential(0.1, count)),
        }

    splits = {
        "train": feature_statistics.read(statistics(columns(9000, 0))),
        "eval": feature_statistics.read(statistics(columns(3000, 1))),
    }
    return ReportInput(
        name="Flight delays",
        evaluation=evaluation(n, **more),
        description="Predicts, before scheduled departure, whether a flight arrives 15 minutes "
        "late or more.",
        created="22 November 2026, 08:00 UTC",
        positive="late",
        history=tuple(history()),
        features=feature_statistics.compare(splits),
        rows={"Train rows": 244_905, "Eval rows": n, "Skipped, no label": 9_430},
        durations_s={"preprocess": 14.2, "train": 21.7, "evaluate": 3.4, "export": 6.1},
        facts={"Code": "0.1.0", "Run": "flights-20261122-080000", "Estimator": "wide and deep"},
        configuration="name: flights\ndata:\n  files: [flights-*.csv]\ntrain: {epochs: 2}\n",
    )
