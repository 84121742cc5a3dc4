"""Fault 33: an export that does not say what its trainer says is not published.

Fails when the exported model is not loaded in a fresh process, when NaN or a missing output passes
the comparison, or when export publishes before it compares.
"""

import math
import shutil

import numpy as np
import pytest

import estimator_lib
from estimator_lib.core.errors import ExportError
from estimator_lib.export import parity
from tests.contract.test_estimator import X, data, estimator

RECEIVER = estimator_lib.export.build_raw_serving_input_receiver_fn({"x": X[:1]})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    made = estimator(folder / "model")
    made.train(data(), steps=2)
    path = made.export_saved_model(str(folder / "export"), RECEIVER).decode()
    return path, np.asarray(made.predictor({"x": X[:1]})({"x": X[:9]})["y"])


def test_fresh_process_says_what_the_trainer_said(exported):
    path, expected = exported
    assert parity.check(path, {"x": X[:9]}, {"y": expected})["y"] <= 1e-6


DISAGREE = {
    "another number": lambda y: {"y": y + np.eye(9)[4]},
    "not a number": lambda y: {"y": np.where(np.arange(9) == 4, np.nan, y)},
    "infinite": lambda y: {"y": np.where(np.arange(9) == 4, np.inf, y)},
    "another shape": lambda y: {"y": y[:, None]},
    "fewer rows": lambda y: {"y": y[:8]},
    "another output": lambda y: {"z": y},
}


@pytest.mark.parametrize("change", DISAGREE)
def test_disagreement_is_refused_and_named(change):
    found = np.arange(9.0)
    for got, want in (
        ({"y": found}, DISAGREE[change](found)),
        (DISAGREE[change](found), {"y": found}),
    ):
        with pytest.raises(ExportError, match="not published") as caught:
            parity.compare(got, want, 1e-5, "model")
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("tolerance", [0.0, 1e-6, 1e-2])
def test_tolerance_is_absolute_up_to_one_and_relative_beyond(tolerance):
    for want in (0.0, 0.5, 1.0, 1e6):
        near = want + tolerance * max(1.0, want) * 0.99
        parity.compare({"y": [near]}, {"y": [want]}, tolerance, "model")
        far = want + max(tolerance * max(1.0, want) * 1.01, math.ulp(want) * 4)
        with pytest.raises(ExportError):
            parity.compare({"y": [far]}, {"y": [want]}, tolerance, "model")


@pytest.mark.parametrize("lost", ["saved_model.pb", "variables"])
def test_export_that_lost_a_part_is_refused_by_the_fresh_process(exported, tmp_path, lost):
    copy = tmp_path / "model"
    shutil.copytree(exported[0], copy)
    shutil.rmtree(copy / lost) if (copy / lost).is_dir() else (copy / lost).unlink()
    with pytest.raises(ExportError):
        parity.check(str(copy), {"x": X[:9]}, {"y": exported[1]})
