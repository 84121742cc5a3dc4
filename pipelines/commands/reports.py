"""`report`: what a run's evaluation says, and where its page is."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from typing import Any

import click

from estimator_lib.core import stores
from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, say

with defer_imports(__name__):
    from components.steps import report as reports


@click.command()
@click.argument("place", type=PLACE, metavar="RUN_DIR")
@click.option("--output", type=PLACE, metavar="HTML", help="copy the page there")
@click.option("--open", "show", is_flag=True, help="open the page in a browser")
def report(place: Place, output: Place | None, show: bool) -> None:
    """Print verdict, reasons and metrics of a run, and where its page is.

    RUN_DIR is the output directory of a run, or what its evaluate step wrote, here or in a bucket.
    """
    found = reports.find(place)
    page = found.place
    if output is not None:
        stores.write(output, found.page)
        page = output
    say(f"{text(found.evaluation)}\npage       {page}")
    if show:
        webbrowser.open(page.path.resolve().as_uri() if page.is_local else str(page))


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
