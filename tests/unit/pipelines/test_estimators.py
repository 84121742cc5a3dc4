"""`estimators` tells which models there are, and what a configuration may say of them."""

import inspect

import pytest

import estimator_lib
from estimator_lib.core import constructors
from pipelines import cli


def test_every_model_is_listed_with_a_sentence(capsys):
    assert cli.main(["estimators", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told.keys() == set(constructors.signatures())
    assert told["LinearRegressor"] == "A linear model for numbers."


@pytest.mark.parametrize("name", ["DNNClassifier", "TabMRegressor", "MMoEEstimator"])
def test_what_is_shown_is_what_the_constructor_takes(name, capsys):
    assert cli.main(["estimators", "show", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = dict(
        line.strip().rstrip(")").split(" (", 1) for line in lines if line[:2] == "  " != line[2:4]
    )
    parameters = inspect.signature(getattr(estimator_lib, name)).parameters
    own = {"head", "head_weights", "label_vocabulary", "model_dir", "config"}
    assert {*shown} - own == {*parameters} - own
    for argument in {*parameters} - own:
        needed = parameters[argument].default is inspect.Parameter.empty
        assert (shown[argument] == "must be given") == needed
    assert ("head_weights" in shown) == name.endswith("Estimator")


def test_every_argument_is_explained():
    for name in constructors.signatures():
        described = constructors.describe(name)
        assert all(argument.about for argument in described.arguments), described


def test_a_name_that_is_none_is_refused_with_the_nearest(capsys):
    assert cli.main(["estimators", "show", "DNClassifier"]) == 2
    assert "Did you mean 'DNNClassifier'?" in capsys.readouterr().err
