"""Progress of long work: one line now and then, on a terminal, in a file or in a pod's log.

Layer 0.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Prints a throttled line such as `train  step 1,200 of 2,400  loss 0.51  0:12 left`.

    Args:
        what: The work, first word of the line.
        unit: What is counted: "rows", "step".
        total: How many there will be; None if unknown.
        every_s: Seconds between two lines at least.
        clock: Monotonic seconds.
        out: Where lines go; standard output by default.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: str = "rows",
        total: int | None = None,
        every_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        out: TextIO | None = None,
    ) -> None:
        self._what = what
        self._unit = unit
        self._total = total
        self._every_s = every_s
        self._clock = clock
        self._out = out
        self._began = self._printed = clock()
        self._first: int | None = None

    def update(self, done: int, *, force: bool = False, **values: object) -> None:
        """Says that `done` units are finished; `values` are printed behind, such as loss=0.5."""
        now = self._clock()
        if self._first is None:
            self._first = done
        if not force and now - self._printed < self._every_s:
            return
        self._printed = now
        of = f" of {self._total:,}" if self._total else ""
        parts = [f"{self._what}  {self._unit} {done:,}{of}"]
        parts += [f"{name} {_short(value)}" for name, value in values.items()]
        rate = (done - self._first) / (now - self._began) if now > self._began else 0.0
        if rate > 0 and self._total and done < self._total:
            left = int((self._total - done) / rate)
            parts.append(f"{left // 60}:{left % 60:02d} left")
        self.line("  ".join(parts))

    def line(self, text: str) -> None:
        """Prints a whole line at once."""
        out = self._out or sys.stdout
        out.write(text + "\n")
        out.flush()


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
