"""The search with trainings that are curves of a formula: no TensorFlow."""

import json

import pytest

from estimator_lib.core.config import Tune
from estimator_lib.core.errors import (
    ConfigError,
    PipelineError,
    Reason,
    StorageError,
    TrainingError,
)
from estimator_lib.tuning import search

RATE, UNITS = "estimator.args.rate", "estimator.args.units"
SPACE = {
    RATE: {"log_uniform": [0.001, 1.0]},
    UNITS: {"choice": [[8], [16, 8], "wide", None]},
    "estimator.args.layers": {"integer": [1, 4]},
}


def options(**given):
    return Tune.model_validate({"space": SPACE, "trials": 12, "seed": 7, **given})


class Killed(Exception):
    pass


class Formula:
    """Trials whose loss falls towards (log rate - log 0.03)^2 in nine evaluations."""

    def __init__(self, faults=None, kill_at=None, evaluations=9):
        self.faults, self.kill_at, self.evaluations = faults or {}, kill_at, evaluations
        self.started, self.running, self.most, self.said = [], {}, 0, 0

    def start(self, number, values):
        self.started.append((number, json.dumps(values, sort_keys=True)))
        self.running[number] = (values[RATE], 0)
        self.most = max(self.most, len(self.running))

    def wait(self):
        self.said += 1
        if self.said == self.kill_at:
            raise Killed
        number = min(self.running, key=lambda n: (self.running[n][1], n))
        rate, done = self.running[number]
        if number in self.faults:
            del self.running[number]
            return number, search.Ended(failure=self.faults[number])
        loss = (rate - 0.03) ** 2 + 1 / (done + 1)
        if done == self.evaluations:
            del self.running[number]
            return number, search.Ended(value=(rate - 0.03) ** 2)
        self.running[number] = (rate, done + 1)

        def decide(stop):
            if stop:
                self.running[number] = (rate, self.evaluations + 1)

        if done > self.evaluations:
            del self.running[number]
            return number, search.Ended()
        return number, search.Evaluated(step=10 * (done + 1), value=loss, decide=decide)


def lines(trials):
    return [(t.number, t.values[RATE], t.state, t.value) for t in trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_killed_search_goes_on_and_finds_what_an_uninterrupted_one_finds(tmp_path, sampler, pruner):
    tune = options(sampler=sampler, pruner=pruner)
    whole = search.run(tune, Formula(), tmp_path / "whole")
    with pytest.raises(Killed):
        search.run(tune, Formula(kill_at=40), tmp_path / "killed")
    before = {t.number for t in search.read(tmp_path / "killed")}
    assert 0 < len(before) < 12
    again = Formula()
    assert lines(search.run(tune, again, tmp_path / "killed")) == lines(whole)
    assert not before & {number for number, _ in again.started}
    done = Formula()
    assert lines(search.run(tune, done, tmp_path / "killed")) == lines(whole)
    assert done.started == []
    other = search.run(options(sampler=sampler, pruner=pruner, seed=8), Formula(), tmp_path / "o")
    assert lines(other) != lines(whole)


def test_choices_keep_their_types(tmp_path):
    found = search.run(options(trials=20), Formula(), tmp_path)
    assert all(t.values[UNITS] in ([8], [16, 8], "wide", None) for t in found)
    assert {type(t.values["estimator.args.layers"]) for t in found} == {int}
    assert search.read(tmp_path) == found


def test_tpe_learns_where_random_does_not(tmp_path):
    def middle(sampler):
        tune = options(trials=40, sampler=sampler, space={RATE: {"uniform": [0.0, 1.0]}})
        found = search.run(tune, Formula(), tmp_path / sampler)
        late = sorted(abs(t.values[RATE] - 0.03) for t in found[20:])
        return late[len(late) // 2]

    assert middle("tpe") < middle("random") / 2


def test_halving_ends_most_trials_early_and_keeps_the_best(tmp_path):
    tune = options(trials=27, sampler="random", pruner="halving")
    found = search.run(tune, Formula(), tmp_path / "h")
    pruned = [t for t in found if t.state == "pruned"]
    assert len(pruned) >= 13
    assert {len(t.curve) for t in pruned} <= {1, 3, 9}
    full = search.run(options(trials=27, sampler="random"), Formula(), tmp_path / "n")
    assert search.best(found, "min").number == search.best(full, "min").number


def test_parallel_runs_so_many_at_once_and_random_draws_the_same(tmp_path):
    one, three = Formula(), Formula()
    search.run(options(sampler="random"), one, tmp_path / "1")
    search.run(options(sampler="random", parallel=3), three, tmp_path / "3")
    assert (one.most, three.most) == (1, 3)
    assert sorted(one.started) == sorted(three.started)
    drawn = [json.dumps(v, sort_keys=True) for v in search.draw(options(sampler="random"))]
    assert drawn == [values for _, values in one.started]


def test_failed_trial_is_noted_and_the_search_goes_on(tmp_path):
    nan = TrainingError("the loss is not finite", reason=Reason.NOT_FINITE)
    found = search.run(options(), Formula(faults={3: nan}), tmp_path)
    assert [t.number for t in found if t.state == "failed"] == [3]
    assert found[3].reason == "the loss is not finite"
    assert search.best(found, "min").number != 3
    assert "failed: the loss is not finite" in search.table(found, options()).splitlines()[-1]


def test_search_without_a_whole_trial_says_why(tmp_path):
    nan = TrainingError("the loss is not finite", reason=Reason.NOT_FINITE)
    found = search.run(options(), Formula(faults=dict.fromkeys(range(12), nan)), tmp_path)
    with pytest.raises(PipelineError, match=r"None of the 12 trials.*the loss is not finite"):
        search.best(found, "min")


@pytest.mark.parametrize(
    "error",
    [
        StorageError("the disk is away", reason=Reason.IO),
        ConfigError("no such metric", reason=Reason.UNKNOWN_NAME),
    ],
)
def test_what_no_other_trial_would_survive_ends_the_search(tmp_path, error):
    with pytest.raises(type(error), match=error.message):
        search.run(options(), Formula(faults={2: error}), tmp_path)
    assert [t.number for t in search.read(tmp_path)] == [0, 1]


def test_table_has_the_best_first_and_larger_is_better_where_it_is_said(tmp_path):
    tune = options(direction="max", metric="auc")
    found = search.run(tune, Formula(), tmp_path)
    best = search.best(found, "max")
    assert best.value == max(t.value for t in found)
    heads, _, first, *_ = search.table(found, tune).splitlines()
    assert heads == "| trial | auc | rate | units | layers | ended | at step |"
    assert first.startswith(f"| {best.number} | ")
