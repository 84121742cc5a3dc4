"""The command `report`: what a run's evaluation says, and where its page is."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from estimator_lib.core import storage
from pipelines.local_path import local_path


def add_command(commands: Any) -> None:
    """Adds `report` to the command line.

    Args:
        commands: What `ArgumentParser.add_subparsers` returned.
    """
    report = commands.add_parser(
        "report",
        help="show what a run's evaluation says, and where its page is",
        description="Print verdict, reasons and metrics of a run, and the place of its page.",
    )
    report.add_argument(
        "place",
        metavar="RUN_DIR|URI",
        help="output directory of a run, or an evaluate step's outputs, here or in a bucket",
    )
    report.add_argument("--output", type=local_path, metavar="HTML", help="copy the page there")
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    report.set_defaults(command=_report)


def _report(parsed: argparse.Namespace) -> None:
    from components import report

    found = report.find(parsed.place)
    place = found.place
    if parsed.output is not None:
        storage.write_bytes(parsed.output, found.page)
        place = str(parsed.output)
    sys.stdout.write(f"{text(found.evaluation)}\npage       {place}\n")
    if parsed.open:
        import webbrowser

        webbrowser.open(place if "://" in place else pathlib.Path(place).resolve().as_uri())


def text(evaluation: Mapping[str, Any]) -> str:
    """Returns an evaluation as lines for a terminal.

    Args:
        evaluation: What `evaluation.json` holds.
    """
    verdict = evaluation["verdict"].replace("_", " ")
    lines = [_line("model", f"{evaluation['model']}, step {evaluation['step']:,}")]
    lines.append(_line("verdict", verdict))
    lines += [_line("", reason) for reason in evaluation["reasons"]]
    lines.append(_line("rows", f"{evaluation['rows']:,} evaluated"))
    lines += _table("metrics", evaluation["metrics"], "")
    comparison = evaluation.get("comparison")
    if comparison:
        lines.append(_line("against", str(comparison["model"])))
        lines += _table("change", comparison["changes"], "+")
    return "\n".join(lines)


def _line(name: str, value: str) -> str:
    return f"{name:<11}{value}".rstrip()


def _table(name: str, metrics: Mapping[str, Any], sign: str) -> list[str]:
    width = max(map(len, metrics), default=0)
    shown = [f"{key:<{width}}  {_value(metric, sign)}" for key, metric in metrics.items()]
    return [_line(name if not i else "", row) for i, row in enumerate(shown)]


def _value(metric: Mapping[str, Any], sign: str) -> str:
    if metric["value"] is None:
        return f"undefined: {metric['reason']}"
    interval = ""
    if metric["low"] is not None and metric["high"] is not None:
        interval = f"  ({metric['low']:{sign}.4f} to {metric['high']:{sign}.4f})"
    return f"{metric['value']:{sign}.4f}{interval}"
