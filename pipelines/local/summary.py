"""The closing summary of a run, for a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.places import Place

_SHOWN = (
    "auc", "auc_precision_recall", "accuracy", "loss", "rmse", "mae", "r2",
    "pinball", "interval_coverage",
)  # fmt: skip
_VERDICTS = {
    "blessed": "blessed: every threshold is met",
    "refused": "refused",
    "not_evaluated": "not evaluated, so not published",
}


def render(result: Mapping[str, Any]) -> str:
    """Returns the lines that close a run: rows, metrics, verdict, places, seconds."""
    if "predictions" in result:
        return "\n".join(["", *_predictions(result["predictions"]), *_row("took", _took(result))])
    evaluation = result["evaluation"]
    lines = [
        "",
        *_row("rows", _rows(result["rows"])),
        *_row("tuned", _describe_search(result["tuned"]) if "tuned" in result else ""),
        *_row("metrics", _metrics(evaluation)),
        *_row("verdict", _verdict(evaluation)),
        *_row("warnings", "\n".join(evaluation.get("cautions", ()))),
        *_row("report", _short(result["report"])),
        *_row("model", _short(result["model"]) if result["model"] else "not published"),
        *_row("took", _took(result)),
    ]
    return "\n".join(lines)


def _predictions(scored: Mapping[str, Any]) -> list[str]:
    left_out = f", {scored['left_out']:,} left out" if scored["left_out"] else ""
    return [
        *_row("rows", "\n".join([f"{scored['rows']:,} scored{left_out}", *scored["faults"]])),
        *_row("model", f"version {scored['version']}"),
        *_row("scores", _short(scored["directory"])),
    ]


def _row(name: str, text: str) -> list[str]:
    """The lines of one row; none where there is nothing to say."""
    if not text:
        return []
    first, *rest = text.split("\n")
    return [f"{name:<10}{first}", *(f"{'':<10}{line}" for line in rest)]


def _rows(counts: Mapping[str, Any]) -> str:
    splits = ", ".join(f"{rows:,} {split}" for split, rows in counts["splits"].items())
    skipped = counts.get("skipped", 0)
    return f"{counts['read']:,} read, {skipped:,} skipped without label, {splits}"


def _describe_search(found: Mapping[str, Any]) -> str:
    best = f"best of {found['trials']} trials: {found['metric']} {found['value']:.4f}"
    arguments = [f"{n.removeprefix('estimator.args.')} {v}" for n, v in found["arguments"].items()]
    return "\n".join([best, *arguments])


def _metrics(evaluation: Mapping[str, Any]) -> str:
    """The main metrics, a line for each of several heads."""
    metrics = evaluation["metrics"]
    if evaluation["task"] != "multihead":
        return _list_metrics(metrics, "")
    heads = [part["name"] for part in evaluation["parts"]]
    return "\n".join(f"{head}: {_list_metrics(metrics, f'/{head}')}" for head in heads)


def _list_metrics(metrics: Mapping[str, Any], ending: str) -> str:
    shown = []
    for name in _SHOWN:
        value = metrics.get(f"{name}{ending}")
        if value is None:
            continue
        number = value["value"] if isinstance(value, Mapping) else value
        shown.append(f"{name} {'undefined' if number is None else format(number, '.4f')}")
    return ", ".join(shown)


def _verdict(evaluation: Mapping[str, Any]) -> str:
    verdict = evaluation["verdict"]
    reasons = [] if verdict == "blessed" else evaluation["reasons"]
    return "\n".join([_VERDICTS[verdict], *reasons])


def _took(result: Mapping[str, Any]) -> str:
    seconds = dict(result["seconds"])
    total = seconds.pop("total")
    parts = [f"{name} {value:.1f}" for name, value in seconds.items()]
    cached = f"; from cache: {', '.join(result['cached'])}" if result["cached"] else ""
    return f"{total:.1f} s" + (f" ({', '.join(parts)})" if parts else "") + cached


def _short(path: str) -> str:
    if not Place.parse(path).is_local:
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
