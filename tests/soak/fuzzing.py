"""Mutated inputs for every reader."""

import concurrent.futures
import multiprocessing
import pathlib

from tests.fuzz.__main__ import run
from tests.fuzz.readers import READERS
from tests.soak.tally import Tally

WORKERS = 2
CHUNK = 500


def fuzz(tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Gives each reader as many inputs as are wanted, all of them in turn."""
    del folder
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=spawned) as pool:
        first = 0
        while tally.goes_on(first):
            chunks = [pool.submit(run, name, CHUNK, seed, first) for name in READERS]
            for chunk in chunks:
                outcome = chunk.result()
                tally.count(f"inputs of {outcome.reader}", outcome.inputs)
                for failure in outcome.failures:
                    tally.fault(f"{outcome.reader} input {failure.number}: {failure.error}")
            first += CHUNK
