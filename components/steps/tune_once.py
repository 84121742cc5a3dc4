"""One trial as a program, for a tuner that is not ours, such as Katib.

    python -m components.steps.tune_once

What it does is in its environment, for tuners put a command into a shell's line, where blanks and
quotation marks mean something else:

    TUNE_CONFIG     a TunePart as JSON
    TUNE_PREPARED   the directory that preprocess wrote
    TUNE_VALUE_*    NAME=VALUE, one for each name of the search space

Every evaluation is a line `TIME metric=value` on standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import math
import os
import pathlib
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from components.steps.step import step
from estimator_lib.core import storage
from estimator_lib.core.config import Parameter, Tune, TunePart
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

CONFIG = "TUNE_CONFIG"
PREPARED = "TUNE_PREPARED"
VALUE = "TUNE_VALUE_"
_MARKERS = pathlib.Path("/var/log/katib")
"""A volume that Katib mounts, in which every user may write."""
METRIC_LINE = r"^\S+ ([^\s=]+)=(-?[0-9.]+(?:e[+-]?[0-9]+)?)$"
"""A line of standard output with a metric's name and value, and no other line of it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the environment asks for."""

    part: TunePart
    values: Mapping[str, Any]
    """By the names of the space."""
    prepared: pathlib.Path
    """What preprocess wrote."""


def main(arguments: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> None:
    """Trains once; ends the process with the exit code of a step."""
    argparse.ArgumentParser(
        prog="components.steps.tune_once",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    with _replace_marker(), step():
        asked = read_environment(environment)
        from components.steps.tune_trial import measure

        metric = asked.part.tune.metric
        with storage.temporary_directory() as folder:
            examples, transform = (str(asked.prepared / n) for n in ("examples", "transform"))
            work = pathlib.Path(folder) / "model"
            last = measure(asked.part, asked.values, examples, transform, work, _reporter(metric))
        say(metric, last)


@contextlib.contextmanager
def _replace_marker() -> Iterator[None]:
    """At the end makes the file that says how the trial ended one that its shell may write to.

    Katib's collector runs as root and marks a trial that it stops; then the trial's shell, which
    is another user, would have to write into the file of root, and Katib waits for that for ever.
    """
    try:
        yield
    finally:
        marker = _MARKERS / f"{os.getppid()}.pid"
        with contextlib.suppress(OSError):
            text = marker.read_text()
            marker.unlink()
            marker.write_text(text)


def read_environment(environment: Mapping[str, str]) -> Request:
    """Returns what the environment's variables ask for.

    Raises:
        ConfigError: one is missing, or a value is not of the search space.
    """
    for name in (CONFIG, PREPARED):
        if not environment.get(name):
            raise ConfigError(
                f"The environment variable {name} is missing. Start a trial by what "
                "`estimator-pipelines katib` writes.",
                reason=Reason.MISSING_VALUE,
            )
    part = TunePart.from_json(environment[CONFIG])
    settings = [text for name, text in environment.items() if name.startswith(VALUE)]
    return Request(
        part=part,
        values=read(part.tune, settings),
        prepared=pathlib.Path(environment[PREPARED]),
    )


def read(options: Tune, settings: Iterable[str]) -> dict[str, Any]:
    """Returns values by the names of the space.

    Args:
        options: The configuration's part.
        settings: `name=text`; of a choice the text that `text` gives.

    Raises:
        ConfigError: a name is unknown or missing, or a value is not in the space.
    """
    found = {}
    for setting in settings:
        name, _, given = setting.partition("=")
        if name not in options.space:
            raise ConfigError(
                f"Value {quote(setting)} is not of the search space."
                + did_you_mean(name, options.space),
                reason=Reason.UNKNOWN_NAME,
            )
        found[name] = _value(name, options.space[name], given)
    missing = sorted(set(options.space) - set(found))
    if missing:
        raise ConfigError(
            f"The value of {missing[0]} is missing. Give {VALUE}0={missing[0]}=VALUE.",
            reason=Reason.MISSING_VALUE,
        )
    return found


def text(value: object) -> str:
    """Returns a choice as one line of YAML, such as `[128, 64]` or `Adam`.

    A tuner puts it as it is into the JSON of a manifest, of which Kubernetes expands dollars. What
    would mean something there is percent-encoded, so the texts of different choices differ.
    """
    import yaml

    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**31)
    shown = shown.removesuffix("\n...\n").removesuffix("\n")
    return "".join(
        urllib.parse.quote(mark, safe="") if mark in '%"\\$' or not mark.isprintable() else mark
        for mark in shown
    )


def _value(name: str, parameter: Parameter, given: str) -> Any:
    if parameter.choice is not None:
        by_text = {text(choice): choice for choice in parameter.choice}
        if given in by_text:
            return by_text[given]
        expected = f"one of {', '.join(by_text)}"
    else:
        low, high = parameter.extremes
        try:
            number = float(given)
        except ValueError:
            number = float("nan")
        if low <= number <= high and (not parameter.whole or number.is_integer()):
            return int(number) if parameter.whole else number
        expected = f"a{' whole' if parameter.whole else ''} number from {low} to {high}"
    raise ConfigError(
        f"Value of {name} is invalid: expected {expected}, got {quote(given)}.",
    )


def _reporter(metric: str) -> Any:
    def ask(_: int, value: float) -> bool:
        say(metric, value)
        return False

    return ask


def say(metric: str, value: float | None) -> None:
    """Says one value; what is no number is said in words, which no tuner takes for one."""
    now = datetime.datetime.now(datetime.UTC)
    known = value is not None and math.isfinite(value)
    said = f"{metric}={value}" if known else f"{metric} is {value}"
    # With the time, for a tuner's latest value is the one with the latest time.
    sys.stdout.write(f"{now:%Y-%m-%dT%H:%M:%S.%fZ} {said}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
