"""Gives readers mutated inputs, which they must take, or refuse by an error of their own.

python -m tests.fuzz [READER ...] [--inputs N] [--seed S]

Every input follows from the seed and its number alone, so that a failure can be had again. An
input that takes more than SLOW_S of processor time fails as well.
"""

import argparse
import collections
import dataclasses
import random
import sys
import time
from collections.abc import Sequence

from estimator_lib.core.errors import EstimatorLibError
from tests.fuzz import readers

SLOW_S = 10.0
SHOWN = 10
SHOWN_BYTES = 500
"""Of an input; all of it follows from the seed and its number: --first NUMBER --inputs 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """An input that ended in something else than a value or an error of our own."""

    number: int
    content: bytes
    error: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the inputs.

    Attributes:
        reader: Which reader.
        inputs: How many inputs it got.
        seed: That they follow from.
        read: How many were taken.
        refused: How many were refused, by the name of the error and its reason.
        failures: All others.
        seconds: Of the whole run.
    """

    reader: str
    inputs: int
    seed: int
    read: int
    refused: dict[str, int]
    failures: tuple[Failure, ...]
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"{self.reader}: {self.inputs:,} inputs of seed {self.seed} in {self.seconds:.0f} s: "
            f"{self.read:,} read, {sum(self.refused.values()):,} refused, "
            f"{len(self.failures):,} failed"
        ]
        lines += [f"  {count:>9,} {name}" for name, count in sorted(self.refused.items())]
        for failure in self.failures[:SHOWN]:
            lines.append(f"  failed: input {failure.number}: {failure.error}")
            lines.append(f"    {failure.content[:SHOWN_BYTES]!r}")
        return "\n".join(lines)


def run(reader: str, inputs: int, seed: int, first: int = 0) -> Outcome:
    """Gives a reader inputs, and returns what became of them.

    Args:
        reader: One of `readers.READERS`.
        inputs: How many.
        seed: What they follow from.
        first: The number of the first one.
    """
    began = time.monotonic()
    read, refused, failures = 0, collections.Counter[str](), []
    target = readers.READERS[reader]()
    for number in range(first, first + inputs):
        content = target.mutated(random.Random(f"{reader}/{seed}/{number}"))
        before = time.process_time()
        told = ""
        try:
            target.read(content)
            read += 1
        except EstimatorLibError as error:
            refused[f"{type(error).__name__} {error.reason}"] += 1
        except Exception as error:  # noqa: BLE001 - what is looked for
            told = f"{type(error).__name__}: {error}"[:500]
        if not told and (took := time.process_time() - before) > SLOW_S:
            told = f"it took {took:.0f} s"
        if told:
            failures.append(Failure(number=number, content=content, error=told))
    return Outcome(
        reader=reader,
        inputs=inputs,
        seed=seed,
        read=read,
        refused=dict(refused),
        failures=tuple(failures),
        seconds=time.monotonic() - began,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if an input failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(readers.READERS))
    parser.add_argument("--inputs", type=int, default=1000, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    given = parser.parse_args(arguments)
    unknown = sorted({*given.readers} - {*readers.READERS})
    if unknown:
        parser.error(f"no reader {unknown[0]}; expected one of {', '.join(readers.READERS)}")
    failed = False
    for name in given.readers or readers.READERS:
        outcome = run(name, given.inputs, given.seed, given.first)
        print(outcome, flush=True)
        failed |= bool(outcome.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
