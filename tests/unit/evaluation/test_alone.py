"""Which fields give the label away by themselves: leaks do, strong honest fields do not."""

import numpy as np
import pytest

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.evaluation.alone import auc_alone

ROWS = 600
RNG = np.random.default_rng(3)
LABELS = (RNG.random(ROWS) < 0.3).astype(np.int64)
NOISE = RNG.normal(size=ROWS)


def texts(values):
    return np.array([str(value).encode() for value in values], dtype=object)


LEAKS = {
    "the text of the label": texts(np.array(["no", "yes"])[LABELS]),
    "many texts of each class": texts(f"{y}-{n % 20}" for n, y in enumerate(LABELS)),
    "a number": (5 * LABELS + RNG.random(ROWS)).astype(np.float32),
    "a falling number": (-5 * LABELS + RNG.random(ROWS)).astype(np.float32),
    "the middle of numbers": np.where(LABELS, NOISE / 100, 3 + abs(NOISE)).astype(np.float32)
    * np.where(NOISE > 0, 1, -1).astype(np.float32),
    "an id sorted by label": np.argsort(np.argsort(LABELS + RNG.random(ROWS) / 2)),
    "missing is no": np.where(LABELS, NOISE, np.nan).astype(np.float32),
    "missing is yes": np.where(LABELS, MISSING_INT, np.arange(ROWS) % 7),
    "an empty text": np.where(LABELS, texts(np.arange(ROWS) % 9), b""),
    "a list": np.stack([texts(LABELS), texts(np.arange(ROWS) % 3)], axis=1),
}
HONEST = {
    "noise": NOISE.astype(np.float32),
    "an identifier": texts(range(ROWS)),
    "an identifier in words": texts(f"user {n % 400}" for n in range(ROWS)),
    "a good number": (2.5 * LABELS + NOISE).astype(np.float32),
    "a constant": np.zeros(ROWS, np.int64),
    "always missing": np.full(ROWS, np.nan, np.float32),
    "missing at random": np.where(NOISE > 1, np.nan, 1).astype(np.float32),
}


@pytest.mark.parametrize("name", LEAKS)
def test_leak_tells_the_classes_apart(name):
    assert auc_alone(LEAKS[name], LABELS) >= 0.99


@pytest.mark.parametrize("name", HONEST)
def test_honest_field_does_not(name):
    assert 0.4 < auc_alone(HONEST[name], LABELS) < 0.98


def test_a_field_must_tell_every_class():
    labels = np.arange(ROWS) % 3
    assert auc_alone(labels, labels) == 1.0
    assert auc_alone((labels == 0).astype(np.int64), labels) < 0.9


def test_few_rows_of_a_class_are_not_judged():
    labels = np.zeros(ROWS, np.int64)
    assert auc_alone(labels, labels) is None
    labels[:9] = 1
    assert auc_alone(labels, labels) is None
