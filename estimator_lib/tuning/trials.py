"""Trials of a search, each in a process of its own."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import Any, Protocol, Self

from estimator_lib.core import processes, storage
from estimator_lib.core.processes import Ended
from estimator_lib.tuning.search import Evaluated


class Train(Protocol):
    """Trains once, in the process of the trial."""

    def __call__(
        self, values: Mapping[str, Any], work: pathlib.Path, ask: Callable[[int, float], bool]
    ) -> float | None:
        """Returns the metric of the last evaluation, or None if the trial was ended early.

        Args:
            values: By the names of `Tune.space`.
            work: The model directory; there already if the trial was killed and goes on.
            ask: Takes step and metric of an evaluation; true ends the trial there.
        """


class ForkedTrials:
    """Runs trials in forked processes; use as a context manager.

    Args:
        train: What a trial does.
        directory: Gets a directory per running trial; a killed trial goes on from there.
    """

    def __init__(self, train: Train, directory: pathlib.Path) -> None:
        self._train = train
        self._directory = directory
        self._running: dict[int, processes.Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running.values():
            child.kill()

    def start(self, number: int, values: Mapping[str, Any]) -> None:
        """Starts a trial."""

        def body(parent: processes.Parent) -> float | None:
            def ask(step: int, value: float) -> bool:
                parent.say([step, value])
                return bool(parent.hear())

            return self._train(values, self._work(number), ask)

        with processes.interrupts_put_off():
            self._running[number] = processes.Child(f"trial {number}", body)

    def wait(self) -> tuple[int, Evaluated | Ended]:
        """Returns the next thing that a running trial says."""
        numbers = {child.fileno(): number for number, child in self._running.items()}
        number = numbers[next(one for one in wait(list(numbers)) if isinstance(one, int))]
        child = self._running[number]
        said = child.hear()
        if isinstance(said, processes.Message):
            step, value = said.content
            return number, Evaluated(step=step, value=value, decide=child.say)
        del self._running[number]
        if said.failure is None or not said.failure.retryable:
            storage.remove(self._work(number))
        return number, said

    def _work(self, number: int) -> pathlib.Path:
        return self._directory / f"trial-{number:04d}"
