"""How far a job is: rows done by all threads of this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from estimator_lib.core.progress import Progress


class _Counter:
    """Rows done by all threads of this process; workers elsewhere count for themselves."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._progress = Progress(what, total=total)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.done = 0

    def add(self, rows: int) -> None:
        with self._lock:
            self.done += rows
            self._progress.update(self.done, rate=self._rate())

    def close(self) -> None:
        seconds = time.monotonic() - self._began
        text = f"{self._what}  {self.done:,} rows in {seconds:.1f} s  rate {self._rate()}"
        self._progress.line(text)

    def _rate(self) -> str:
        return f"{self.done / max(time.monotonic() - self._began, 1e-3):,.0f} rows/s"


_counters: list[_Counter] = []


@contextlib.contextmanager
def counting(what: str, total: int | None = None) -> Iterator[None]:
    """Tells how many rows are done while something runs, and at its end how fast it was."""
    counter = _Counter(what, total)
    _counters.append(counter)
    try:
        yield
    finally:
        _counters.remove(counter)
    if counter.done:
        counter.close()


def count(rows: int) -> None:
    """Adds rows that are done to what runs."""
    for counter in _counters[-1:]:
        counter.add(rows)
