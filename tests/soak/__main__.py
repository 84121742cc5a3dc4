"""Tries for hours what `make faults` tries for minutes, and prints a table of figures.

python -m tests.soak [PART ...] [--minutes M] [--seed S]

Parts: failures (calls that change the disk fail), kills (SIGKILL in every phase), publishing (four
processes at once under a server), stored (the same in a bucket), fuzz (mutated inputs). The exit
code is 1 if there was a fault.
"""

import argparse
import importlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from tests.soak.tally import Tally

PARTS = {
    # Part: how many it does, share of the time, function.
    "publishing": (200, 1, "tests.soak.publishing:publish"),
    "stored": (200, 2, "tests.soak.publishing:publish_stored"),
    "kills": (200, 3, "tests.soak.attempts:kill"),
    "failures": (1_500, 6, "tests.soak.attempts:fail"),
    "fuzz": (100_000, 4, "tests.soak.fuzzing:fuzz"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts one after another; what one leaves of its time the next ones have."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=120.0, help="at most, in all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    unknown = sorted({*given.parts} - {*PARTS})
    if unknown:
        parser.error(f"no part {unknown[0]}; expected one of {', '.join(PARTS)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = [name for name in PARTS if name in given.parts or not given.parts]
    end = time.monotonic() + given.minutes * 60
    tallies = []
    for position, name in enumerate(chosen):
        wanted, share, function = PARTS[name]
        now = time.monotonic()
        left = sum(PARTS[other][1] for other in chosen[position:])
        tally = Tally(name=name, wanted=wanted, until=now + (end - now) * share / left)
        tallies.append(tally)
        with tempfile.TemporaryDirectory(prefix=f"soak-{name}-") as folder:
            _load(function)(tally, given.seed, pathlib.Path(folder))
        tally.seconds = time.monotonic() - now
        print(tally.row(), flush=True)
    print("\n| part | done | faults | minutes |\n|---|---|---|---|")
    print("\n".join(tally.row() for tally in tallies))
    return int(any(tally.faults for tally in tallies))


def _load(name: str) -> Callable[[Tally, int, pathlib.Path], None]:
    """Imports a part when its turn comes: TensorFlow takes a while."""
    module, _, function = name.partition(":")
    found: Callable[[Tally, int, pathlib.Path], None]
    found = getattr(importlib.import_module(module), function)
    return found


if __name__ == "__main__":
    sys.exit(main())
