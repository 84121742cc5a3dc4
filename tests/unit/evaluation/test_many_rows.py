"""Rows that do not fit into a block, a run or memory are measured as exactly as few."""

import tempfile

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import config
from estimator_lib.core.errors import StorageError
from estimator_lib.evaluation import Problem, Serving, evaluate, spool
from estimator_lib.evaluation.slicing import Coded
from estimator_lib.evaluation.spool import Spool, in_order, spooled

MANY = 3 * spool.RUN + 1234


@given(
    st.lists(st.integers(0, 30), max_size=300),
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(1, 50),
)
@settings(max_examples=200, deadline=None)
def test_runs_are_merged_in_order_and_equal_keys_keep_theirs(keys, part, run, block):
    rows = np.array([(k / 7, i) for i, k in enumerate(keys)], [("key", float), ("at", int)])
    parts = [rows[i : i + part] for i in range(0, len(rows), part)]
    found = [row for piece in in_order(parts, run=run, block=block) for row in piece.tolist()]
    assert found == sorted(rows.tolist())


def test_a_spool_gives_back_what_it_got_wherever_it_is():
    rng = np.random.default_rng(0)
    for memory in (1 << 20, 1):
        kept = Spool(memory=memory)
        parts = [rng.random((n, 3)).astype(np.float32) for n in (5, 0, 70, 1)]
        for part in parts:
            kept.append(part)
        whole = np.concatenate(parts)
        assert kept.shape == (76, 3)
        np.testing.assert_array_equal(kept[4:76], whole[4:76])
        np.testing.assert_array_equal(kept[-1:], whole[-1:])
        np.testing.assert_array_equal(kept.take(np.array([0, 5, 75])), whole[[0, 5, 75]])
        assert kept[76:].shape == (0, 3)
    by_name = spooled({"a": part, "b": part[:, 0]} for part in parts)
    np.testing.assert_array_equal(by_name["b"][:], whole[:, 0])


def test_a_temporary_directory_that_cannot_be_written_is_a_storage_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="gone"):
        Spool(memory=1).append(np.zeros(10))


@pytest.fixture(scope="module")
def rare():
    """Half a million rows, one in two hundred positive, many scores tied."""
    rng = np.random.default_rng(2)
    p = np.round(rng.beta(1, 200, MANY), 5)
    y = (rng.random(MANY) < p).astype(int)
    return {"y": y, "p": p, "w": rng.uniform(0.1, 3, MANY), "f": rng.integers(0, 3, MANY)}


def test_a_rare_class_with_weights_is_measured_exactly(rare):
    y, p, w = rare["y"], rare["p"], rare["w"]
    options = config.Evaluate(min_slice_rows=100)
    slices = {"f": rare["f"].astype(str)}
    found = evaluate(
        task="binary", labels=y, predictions=p, weights=w, slices=slices, options=options
    )
    assert found.metrics["auc"].value == pytest.approx(
        oracle.roc_auc_score(y, p, sample_weight=w), abs=1e-10
    )
    assert found.metrics["auc_precision_recall"].value == pytest.approx(
        oracle.average_precision_score(y, p, sample_weight=w), abs=1e-10
    )
    loss = oracle.log_loss(y, p.clip(1e-7, 1 - 1e-7), sample_weight=w)
    assert found.metrics["loss"].value == pytest.approx(loss)
    for part in found.slices:
        mine = rare["f"] == int(part.value)
        assert part.rows == mine.sum()
        expected = oracle.roc_auc_score(y[mine], p[mine], sample_weight=w[mine])
        assert part.metrics["auc"].value == pytest.approx(expected, abs=1e-10)
    fpr, tpr, _ = oracle.roc_curve(y, p, sample_weight=w)
    roc = found.curves.roc
    seen = np.interp(fpr, roc.false_positive_rates, roc.true_positive_rates)
    assert np.abs(seen - tpr).max() < 0.01
    assert sum(b.rows for b in found.curves.reliability) == MANY


def test_spools_and_arrays_are_the_same_rows(rare):
    n = spool.BLOCK + 77
    y, p, w, f = (rare[name][:n] for name in ("y", "p", "w", "f"))
    old = np.clip(p * 1.5, 0, 1)

    def pieces(values):
        return spooled(values[i : i + 5000] for i in range(0, n, 5000))

    coded = Coded()
    for first in range(0, n, 5000):
        coded.add(f[first : first + 5000])
    problem = Problem(task="multihead", heads={"a": Problem(task="binary")})
    both = [
        evaluate(
            task=problem,
            labels={"a": put(y)},
            predictions={"a": put(p)},
            weights=put(w),
            slices={"f": values},
            serving=Serving(model="1", predictions={"a": put(old)}),
        )
        for put, values in ((np.asarray, f.astype(str)), (pieces, coded))
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("task", ["multiclass", "regression", "multilabel"])
def test_other_tasks_are_measured_exactly_beyond_a_run(task):
    n = spool.RUN + 500
    rng = np.random.default_rng(4)
    if task == "regression":
        y = rng.normal(50, 9, n)
        p = y + rng.normal(1, 3, n)
        found = evaluate(task=task, labels=y, predictions=p)
        assert found.metrics["r2"].value == pytest.approx(oracle.r2_score(y, p))
        low, high = np.quantile(p - y, (0.005, 0.995))
        assert found.curves.histogram.edges[-1] == pytest.approx(max(-low, high))
        return
    p = rng.dirichlet(np.ones(3), n)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    if task == "multilabel":
        problem = Problem(task=task, classes=("a", "b", "c"))
        found = evaluate(task=problem, labels=np.eye(3)[y], predictions=p)
    else:
        found = evaluate(task=task, labels=y, predictions=p)
        assert found.metrics["accuracy"].value == np.mean(p.argmax(1) == y)
    expected = np.mean([oracle.roc_auc_score(y == c, p[:, c]) for c in range(3)])
    assert found.metrics["auc"].value == pytest.approx(expected, abs=1e-10)


def test_replicates_draw_each_row_as_often_as_poisson_does():
    from estimator_lib.evaluation.tables import multiplicities

    drawn = multiplicities(np.arange(20_000), 40)
    assert drawn.shape == (41, 20_000)
    assert set(drawn[0]) == {1.0}
    assert drawn[1:].mean() == pytest.approx(1.0, abs=0.01)
    assert drawn[1:].var() == pytest.approx(1.0, abs=0.02)
    # Neither the rows nor the replicates go together.
    assert np.abs(np.corrcoef(drawn[1:]) - np.eye(40)).max() < 0.05
    assert np.abs(np.corrcoef(drawn[1:, :-1].ravel(), drawn[1:, 1:].ravel())[0, 1]) < 0.01
    np.testing.assert_array_equal(multiplicities(np.array([7, 3]), 5), drawn[:6, [7, 3]])


def test_the_draws_of_a_row_never_change():
    from estimator_lib.evaluation.tables import multiplicities

    drawn = multiplicities(np.array([0, 1, 2, 3, 1000, 2**40]), 5)
    assert drawn[1:].astype(int).tolist() == [
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 1, 0, 1],
        [2, 2, 1, 1, 4, 3],
        [0, 1, 2, 2, 1, 1],
        [1, 0, 0, 1, 0, 0],
    ]
