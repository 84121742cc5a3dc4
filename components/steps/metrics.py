"""How a run ended, as numbers for Prometheus: a file for node_exporter, or a Pushgateway.

Only the place that `ESTIMATOR_PIPELINES_METRICS` names is written to: a directory, which gets a
file for each pipeline, or the http address of a gateway.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import os
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from estimator_lib.core import storage
from estimator_lib.core.errors import StorageError

PLACE = "ESTIMATOR_PIPELINES_METRICS"
"""Environment variable with the directory or the address."""
TIMEOUT_S = 10.0
"""Seconds that the gateway may take."""
VERDICTS = ("blessed", "refused", "not_evaluated")
_SUCCESS = "estimator_pipelines_last_success_timestamp_seconds"
_HELP = {
    "estimator_pipelines_last_run_timestamp_seconds": "When the last run ended.",
    _SUCCESS: "When a run last ended with exit code 0.",
    "estimator_pipelines_last_run_exit_code": "Exit code of the last run.",
    "estimator_pipelines_step_duration_seconds": "How long a step of the last run took.",
    "estimator_pipelines_rows": "Rows of the last run, by split.",
    "estimator_pipelines_verdict": "1 for the verdict of the last run, 0 for the others.",
}
_Label = Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """What is told of a run.

    Attributes:
        pipeline: Its pipeline's name.
        ended: When it ended, as Unix time.
        exit_code: As `run` or `submit --wait` end.
        seconds: How long steps took, by name; those from a cache are left out.
        rows: By split; empty where it is not known.
        verdict: "blessed", "refused", "not_evaluated", or "" where it is not known.
    """

    pipeline: str
    ended: float
    exit_code: int
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    verdict: str = ""


def render(run: RunMetrics, succeeded: float | None = None) -> str:
    """Returns metrics in Prometheus' text format.

    Args:
        run: What they tell.
        succeeded: When a run before this one last succeeded, if that is known.
    """
    success = run.ended if run.exit_code == 0 else succeeded
    verdicts = VERDICTS if run.verdict else ()
    samples: dict[str, Sequence[tuple[_Label, float]]] = {
        "estimator_pipelines_last_run_timestamp_seconds": [({}, run.ended)],
        _SUCCESS: [] if success is None else [({}, success)],
        "estimator_pipelines_last_run_exit_code": [({}, run.exit_code)],
        "estimator_pipelines_step_duration_seconds": _by("step", run.seconds),
        "estimator_pipelines_rows": _by("split", run.rows),
        "estimator_pipelines_verdict": _by("verdict", {v: v == run.verdict for v in verdicts}),
    }
    return "".join(f"{line}\n" for line in _lines(run.pipeline, samples))


def _by(label: str, values: Mapping[str, float]) -> list[tuple[_Label, float]]:
    return [({label: name}, value) for name, value in values.items()]


def _lines(pipeline: str, samples: Mapping[str, Sequence[tuple[_Label, float]]]) -> Iterator[str]:
    for name, values in samples.items():
        if values:
            yield f"# HELP {name} {_HELP[name]}"
            yield f"# TYPE {name} gauge"
        for labels, value in values:
            named = {"pipeline": pipeline, **labels}.items()
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in named)
            yield f"{name}{{{shown}}} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def tell(run: RunMetrics) -> str:
    """Writes a run's metrics where the environment says; returns what went wrong, or "".

    A run is no worse for metrics that cannot be written, so nothing is raised. An address may
    hold a password: it is no part of the answer.
    """
    place = os.environ.get(PLACE, "")
    if not place:
        return ""
    try:
        if place.startswith(("https://", "http://")):
            _push(place, run)
        elif "://" in place:
            return f"metrics not written: {PLACE} is neither a directory nor an http address"
        else:
            _write(pathlib.Path(place), run)
    except StorageError as error:
        return f"metrics not written: {error.message}"
    except urllib.error.HTTPError as error:
        return f"metrics not written: the gateway answered {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"metrics not written: {type(error).__name__}"
    return ""


def _write(directory: pathlib.Path, run: RunMetrics) -> None:
    """Writes `<pipeline>.prom`, with the last success of the file that was there."""
    path = storage.make_directory(directory) / f"estimator_pipelines_{run.pipeline}.prom"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    known = re.search(rf"^{_SUCCESS}\{{.*\}} (\S+)$", before, re.MULTILINE)
    storage.write_text(path, render(run, float(known[1]) if known else None))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Metrics go to the host that was named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _push(address: str, run: RunMetrics) -> None:
    """Replaces the metrics of the pipeline's group by name: a success before a failure stays."""
    given = urllib.parse.urlsplit(address)
    login, _, host = given.netloc.rpartition("@")
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    if login:
        code = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        headers["Authorization"] = f"Basic {code}"
    group = f"/metrics/job/estimator_pipelines/pipeline/{urllib.parse.quote(run.pipeline, safe='')}"
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked by `tell`
        f"{given.scheme}://{host}{given.path.rstrip('/')}{group}",
        data=render(run).encode(),
        headers=headers,
        method="POST",
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S):
        return
