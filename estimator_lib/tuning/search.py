"""The search for arguments: which values are tried next, which trials end early, what was best.

Optuna draws and prunes; who trains is a parameter, so this module loads no TensorFlow. Finished
trials are kept in a file. A killed search reads them back and goes on with the trials that
are not there: they get the numbers, and so the values, that they had. Values of a trial follow
from the seed, its number and the trials finished before it, not from how often the search was
started. (Optuna's own storages keep a killed trial as running for ever and give its successor
another number.)
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import optuna
from optuna import distributions

from estimator_lib.core import storage
from estimator_lib.core.config import Parameter, Tune
from estimator_lib.core.errors import ConfigError, PipelineError, StorageError
from estimator_lib.core.processes import Ended

JOURNAL = "trials.json"
State = Literal["complete", "pruned", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A finished trial.

    Attributes:
        number: From 0.
        values: By the names of `Tune.space`.
        state: Whether it went to its end, was ended early, or failed.
        curve: (global step, metric) of its evaluations.
        value: The metric of its last evaluation; None if it failed.
        reason: Why it failed.
        notes: What Optuna noted of it.
    """

    number: int
    values: Mapping[str, Any]
    state: State
    curve: list[tuple[int, float]]
    value: float | None = None
    reason: str | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a running trial says of an evaluation; `decide` takes whether it ends there."""

    step: int
    value: float
    decide: Callable[[bool], None]


class Runner(Protocol):
    """Runs trials."""

    def start(self, number: int, values: Mapping[str, Any]) -> None:
        """Starts a trial."""

    def wait(self) -> tuple[int, Evaluated | Ended]:
        """Returns the next thing that a running trial says; its last value is its metric."""


def run(
    options: Tune,
    runner: Runner,
    directory: str | pathlib.Path,
    *,
    tell: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Runs the trials that have not finished yet and returns all, by number.

    Args:
        options: The configuration's part.
        runner: Trains.
        directory: Keeps the finished trials.
        tell: Called with each trial when it has finished.

    Raises:
        EstimatorLibError: a trial failed in a way that may pass (a retry goes on from here).
        ConfigError: no trial can succeed.
        StorageError: the file system refused; that says nothing about a trial's values.
    """
    study = _Study(options, read(directory))
    waiting = collections.deque(n for n in range(options.trials) if n not in study.finished)
    running = 0
    while waiting or running:
        while waiting and running < options.parallel:
            number = waiting.popleft()
            runner.start(number, study.ask(number))
            running += 1
        number, said = runner.wait()
        if isinstance(said, Evaluated):
            said.decide(study.report(number, said.step, said.value))
            continue
        failure = said.failure
        if failure is not None and (
            failure.retryable or isinstance(failure, ConfigError | StorageError)
        ):
            raise failure
        running -= 1
        trial = study.end(number, said)
        _write(directory, study.finished.values())
        tell(trial)
    return [study.finished[number] for number in sorted(study.finished)]


def draw(options: Tune) -> list[dict[str, Any]]:
    """Returns the values of all trials at once, for a sampler that learns nothing from them."""
    study = _Study(options, [])
    return [study.ask(number) for number in range(options.trials)]


def best(trials: list[Trial], direction: str) -> Trial:
    """Returns the best of the trials that went to their end; of equals the first.

    Raises:
        PipelineError: there is none.
    """
    complete = [t for t in trials if t.state == "complete" and t.value is not None]
    if not complete:
        first = next((t.reason for t in trials if t.reason), "every one was ended early")
        raise PipelineError(f"None of the {len(trials)} trials went to its end: {first}")
    sign = 1.0 if direction == "min" else -1.0
    return min(complete, key=lambda trial: (sign * float(trial.value or 0.0), trial.number))


def line(trial: Trial, options: Tune) -> str:
    """Returns one line on a finished trial, for a terminal."""
    told = "" if trial.value is None else f"  {options.metric} {trial.value:.6g}"
    if trial.state != "complete":
        told += f"  {trial.state}" + (f" at step {trial.curve[-1][0]}" if trial.curve else "")
    names = _short_names(options)
    values = ", ".join(f"{names[name]} {_text(value)}" for name, value in trial.values.items())
    return f"trial {trial.number}{told}  {values}"


def table(trials: list[Trial], options: Tune) -> str:
    """Returns the trials as a Markdown table, the best first."""
    names = _short_names(options)
    sign = 1.0 if options.direction == "min" else -1.0
    order = {"complete": 0, "pruned": 1, "failed": 2}

    def key(trial: Trial) -> tuple[int, float, int]:
        value = 0.0 if trial.value is None else sign * trial.value
        return order[trial.state], value, trial.number

    rows = [
        ["trial", options.metric, *names.values(), "ended", "at step"],
        ["---"] * (len(names) + 4),
    ]
    for trial in sorted(trials, key=key):
        value = "" if trial.value is None else f"{trial.value:.6g}"
        how = trial.state + (f": {trial.reason}" if trial.reason else "")
        at = str(trial.curve[-1][0]) if trial.curve else ""
        cells = [_text(trial.values[name]) for name in names]
        rows.append([str(trial.number), value, *cells, how, at])
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _short_names(options: Tune) -> dict[str, str]:
    """The last part of each name of the space, or the whole where that is not unique."""
    short = [name.rpartition(".")[2] for name in options.space]
    return {n: n if short.count(s) > 1 else s for n, s in zip(options.space, short, strict=True)}


def read(directory: str | pathlib.Path) -> list[Trial]:
    """Returns the trials that have finished, in the order in which they did."""
    try:
        text = (pathlib.Path(directory) / JOURNAL).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = json.loads(text)
    for trial in found:
        trial["curve"] = [(int(step), float(value)) for step, value in trial["curve"]]
    return [Trial(**trial) for trial in found]


class _Study:
    """An Optuna study in memory, filled with the finished trials."""

    def __init__(self, options: Tune, trials: list[Trial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._options = options
        self._distributions = {name: _distribution(p) for name, p in options.space.items()}
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if options.pruner == "halving":
            pruner = optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=options.keep_one_of
            )
        self._study = optuna.create_study(
            direction="minimize" if options.direction == "min" else "maximize", pruner=pruner
        )
        self._running: dict[int, Any] = {}
        self._curves: dict[int, list[tuple[int, float]]] = {}
        self.finished: dict[int, Trial] = {}
        for trial in trials:
            self.finished[trial.number] = trial
            self._study.add_trial(self._frozen(trial))

    def ask(self, number: int) -> dict[str, Any]:
        """Draws the values of a trial."""
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._distributions)
        self._running[number], self._curves[number] = trial, []
        return {
            name: _value(self._options.space[name], trial.params[name])
            for name in self._options.space
        }

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes an evaluation; returns whether the trial should end there."""
        trial, curve = self._running[number], self._curves[number]
        if curve and step <= curve[-1][0]:
            return False
        curve.append((step, value))
        trial.report(value, step=len(curve))  # halving counts evaluations
        return bool(trial.should_prune())

    def end(self, number: int, said: Ended) -> Trial:
        """Notes how a trial ended."""
        trial, curve = self._running.pop(number), self._curves.pop(number)
        value, reason = said.value, said.failure.message if said.failure else None
        state: State = "complete"
        if said.failure is not None or (value is not None and not math.isfinite(value)):
            state, value = "failed", None
            reason = reason or f"{self._options.metric} is not a finite number"
        elif value is None:
            state, value = "pruned", curve[-1][1]
        self._study.tell(
            trial,
            value if state == "complete" else None,
            state=getattr(optuna.trial.TrialState, _STATES[state]),
        )
        notes = self._study.trials[trial.number].system_attrs
        drawn = trial.params
        values = {n: _value(self._options.space[n], drawn[n]) for n in self._options.space}
        self.finished[number] = Trial(
            number=number, values=values, state=state, curve=curve, value=value, reason=reason,
            notes=notes,
        )  # fmt: skip
        return self.finished[number]

    def _sampler(self, number: int) -> Any:
        """A sampler whose next draw depends on the trial's number, not on draws before."""
        seed = (self._options.seed * 1_000_003 + number) % 2**32
        if self._options.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=self._options.parallel > 1
            )

    def _frozen(self, trial: Trial) -> Any:
        return optuna.trial.create_trial(
            state=getattr(optuna.trial.TrialState, _STATES[trial.state]),
            params={n: _drawn(self._options.space[n], v) for n, v in trial.values.items()},
            distributions=self._distributions,
            value=trial.value if trial.state == "complete" else None,
            intermediate_values={i + 1: value for i, (_, value) in enumerate(trial.curve)},
            system_attrs=dict(trial.notes),
        )


_STATES: Mapping[State, str] = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


def _distribution(parameter: Parameter) -> Any:
    if parameter.range is None:
        return distributions.CategoricalDistribution([_text(v) for v in parameter.choice or ()])
    low, high = parameter.range
    if parameter.whole:
        return distributions.IntDistribution(int(low), int(high), log=parameter.log)
    return distributions.FloatDistribution(low, high, log=parameter.log)


def _drawn(parameter: Parameter, value: object) -> object:
    """A value as Optuna knows it: choices are texts, for it compares them."""
    return _text(value) if parameter.range is None else value


def _value(parameter: Parameter, drawn: object) -> Any:
    return json.loads(str(drawn)) if parameter.range is None else drawn


def _text(value: object) -> str:
    return storage.canonical_json(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _write(directory: str | pathlib.Path, trials: Iterable[Trial]) -> None:
    content = [dataclasses.asdict(trial) for trial in trials]
    storage.write_json(pathlib.Path(directory) / JOURNAL, content)
