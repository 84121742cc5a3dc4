"""Phases of a run that are disturbed at a call: it fails, or the whole step is killed."""

import concurrent.futures
import errno
import itertools
import pathlib
import random

from tests.faults.disk import CODES, Act, Plan
from tests.faults.every_call import train_and_export
from tests.faults.phases import PHASES, Phases, attempt
from tests.soak.tally import Tally

WORKERS = 2


def fail(tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Fails every call of a training and an export with each error, then calls of every phase."""
    for turn in range(len(CODES)):
        root = folder / f"every-{turn}"
        root.mkdir()
        try:
            calls = train_and_export(root, CODES[turn:] + CODES[:turn])
        except Exception as error:  # noqa: BLE001 - what is looked for
            tally.fault(f"every call of a training, from {errno.errorcode[CODES[turn]]}: {error!r}")
            continue
        tally.count("calls of a training and its export failed", calls)
    _disturb(tally, seed, folder / "phases", Act.FAIL)


def kill(tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Kills phases by SIGKILL."""
    _disturb(tally, seed, folder / "phases", Act.KILL)


def _disturb(tally: Tally, seed: int, folder: pathlib.Path, act: Act) -> None:
    draw, numbers = random.Random(f"{act} {seed}"), itertools.count()
    with Phases(folder) as phases:
        phases.prepare()

        def one(number: int, phase: str, plan: Plan) -> None:
            _, faults = attempt(phases, phase, plan)
            tally.count(f"{phase} {'killed' if act is Act.KILL else 'failed'}")
            for fault in faults:
                tally.fault(f"{number} {phase} {plan}: {fault}")

        def plan(phase: str) -> Plan:
            return Plan(
                act=act,
                call=draw.randint(1, len(phases.calls[phase])),
                times=draw.choice([0, 1]),
                code=draw.choice(CODES),
            )

        done = sum(tally.counts.values())
        running: set[concurrent.futures.Future[None]] = set()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            while tally.goes_on(done):
                phase = PHASES[done % len(PHASES)]
                running.add(pool.submit(one, next(numbers), phase, plan(phase)))
                done += 1
                if len(running) >= 2 * WORKERS:
                    ended, running = concurrent.futures.wait(
                        running, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in ended:
                        future.result()
            for future in running:
                future.result()
