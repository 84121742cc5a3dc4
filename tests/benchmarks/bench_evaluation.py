"""Measuring a large eval split, whole and by slice, beside scikit-learn on the whole."""

import time

import numpy as np

from estimator_lib.evaluation import tables
from tests.benchmarks.figures import report

ROWS, SLICES = 330_000, 300


def main():
    from sklearn import metrics

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, ROWS)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    began = time.perf_counter()
    codes = np.repeat(np.arange(SLICES), ROWS // SLICES)
    table = tables.table("binary", labels, scores, codes=[codes])
    numbers = np.arange(SLICES)
    for groups in (tables.Groups(), tables.Groups(grouping=0, numbers=numbers, count=SLICES)):
        table.measure(groups, replicates=0)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    metrics.roc_auc_score(labels, scores)
    metrics.average_precision_score(labels, scores)
    metrics.log_loss(labels, scores)
    peer = time.perf_counter() - began
    report("evaluation: all metrics, whole and 300 slices", ours, "s")
    report("evaluation: same", ours, "s", "scikit-learn: three metrics, whole only", peer)


if __name__ == "__main__":
    main()
