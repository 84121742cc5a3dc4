"""What a part of the soak did, and until when it may go on."""

import collections
import dataclasses
import threading
import time


@dataclasses.dataclass(kw_only=True)
class Tally:
    """Figures of one part; several threads may count.

    Attributes:
        name: The part's.
        wanted: How many of what it counts it is to do.
        until: When it stops, as `time.monotonic` counts.
        counts: What was done, by name.
        faults: What must not be.
    """

    name: str
    wanted: int
    until: float
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    began: float = dataclasses.field(default_factory=time.monotonic)
    seconds: float = 0.0
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a figure."""
        with self._lock:
            self.counts[what] += number

    def fault(self, told: str) -> None:
        """Notes what must not be, and shows it at once."""
        with self._lock:
            self.faults.append(told)
        print(f"FAULT in {self.name}: {told}", flush=True)

    def goes_on(self, done: int) -> bool:
        """Whether there is more to do, and time for it."""
        return done < self.wanted and time.monotonic() < self.until

    def row(self) -> str:
        """Returns the part's row of the table."""
        done = ", ".join(f"{number:,} {what}" for what, number in sorted(self.counts.items()))
        return f"| {self.name} | {done} | {len(self.faults)} | {self.seconds / 60:.1f} |"
