"""One trial as a program, for a tuner that is not ours, such as Katib.

    python -m components.tune_once --config JSON --prepared DIR --value NAME=VALUE ...

The values come as texts; every evaluation is a line `metric=value` on standard output.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from components.steps.step import step
from estimator_lib.core.config import Parameter, Tune, TunePart
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains once; ends the process with the exit code of a step."""
    parser = argparse.ArgumentParser(prog="components.tune_once", description=__doc__)
    parser.add_argument("--config", required=True, help="a TunePart as JSON")
    parser.add_argument(
        "--prepared", required=True, type=pathlib.Path, help="what preprocess wrote"
    )
    parser.add_argument("--value", action="append", default=[], metavar="NAME=VALUE")
    parsed = parser.parse_args(arguments)
    with step():
        part = TunePart.from_json(parsed.config)
        values = read(part.tune, parsed.value)
        from components.steps.tune_trial import measure

        with tempfile.TemporaryDirectory() as folder:
            examples, transform = (str(parsed.prepared / n) for n in ("examples", "transform"))
            work = pathlib.Path(folder) / "model"
            last = measure(part, values, examples, transform, work, _tell(part.tune.metric))
        _say(part.tune.metric, last)


def read(options: Tune, settings: Sequence[str]) -> dict[str, Any]:
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
            f"The value of {missing[0]} is missing. Give --value {missing[0]}=VALUE.",
            reason=Reason.MISSING_VALUE,
        )
    return found


def text(value: Any) -> str:
    """Returns a choice as one line of YAML, such as `[128, 64]` or `Adam`.

    Raises:
        ConfigError: it has a character that does not survive being put into a manifest.
    """
    import yaml

    shown = yaml.safe_dump(value, default_flow_style=True, width=2**31).strip()
    shown = shown.removesuffix("...").strip()
    if any(mark in shown for mark in ('"', "\\", "\n")):
        raise ConfigError(
            f"Choice {quote(value)} cannot be given to another tuner: its text {quote(shown)} has "
            "a quotation mark, backslash or line break. Use simpler values.",
            reason=Reason.UNSUPPORTED,
        )
    return shown


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
        reason=Reason.INVALID_VALUE,
    )


def _tell(metric: str) -> Any:
    def ask(_: int, value: float) -> bool:
        _say(metric, value)
        return False

    return ask


def _say(metric: str, value: float | None) -> None:
    sys.stdout.write(f"{metric}={value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
