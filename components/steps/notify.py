"""Tells how a run ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import threading
import time
import urllib.error
import urllib.request

from kfp import dsl

from components.steps import metrics, workflow
from components.steps.metrics import RunMetrics
from components.steps.step import FAILURE
from components.steps.workflow import Conclusion, Outcome, Workflow

WEBHOOK = "NOTIFY_WEBHOOK"
"""Environment variable with the address that the message is posted to; a Secret gives it."""
ATTEMPTS = 3
TIMEOUT_S = 10.0
"""Seconds that one attempt to post may take."""
PAUSE_S = 1.0
"""Seconds between the first two attempts; twice as long before the third."""


SERVER = "KF_PIPELINES_ENDPOINT"
"""Environment variable with the address of Kubeflow's API server, where it is not the usual one."""
_USUAL_SERVER = "http://ml-pipeline.kubeflow:8888"
_POD = "KFP_POD_NAME"
"""Environment variable that Kubeflow gives each of its pods."""
_TOKEN = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the variable's name
_USUAL_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
LOOKS = 4
"""How often a run's steps are read while they are not known to have ended: it takes moments."""
PATIENCE_S = 30.0
"""Seconds after which the server is given up, whatever keeps it."""
_STATES = {
    "COMPLETE": Outcome.SUCCEEDED,
    "SUCCEEDED": Outcome.SUCCEEDED,
    "CACHED": Outcome.CACHED,
    "FAILED": Outcome.FAILED,
    "CANCELED": Outcome.TERMINATED,
    "CANCELLED": Outcome.TERMINATED,
}
"""What Kubeflow's states mean. It says RUNNING of runs of every end, so that one means nothing."""


def run(status: dsl.PipelineTaskFinalStatus, pipeline: str, run: str) -> None:
    """Runs the step; see `components.notify`."""
    try:
        tell(status.state or "", status.error_message or "", pipeline, run)
    except Exception as error:  # noqa: BLE001 - the run has ended as it has, whatever this does
        print(f"not told: {type(error).__name__}: {error}", flush=True)  # noqa: T201


def tell(state: str, error: str, pipeline: str, run: str) -> None:
    """Tells the log and the webhook, if there is one."""
    read = read_steps(run) if os.environ.get(_POD) else None
    ended = read[1] if read else None
    if read:
        problem = metrics.tell(measured(pipeline, *read))
        if problem:
            print(problem, flush=True)  # noqa: T201
    message = describe(state, os.environ.get(FAILURE, ""), error, pipeline, run, ended)
    print(message["text"], flush=True)  # noqa: T201 - standard output is the step's log
    address = os.environ.get(WEBHOOK, "")
    if address:
        problem = post(address, message)
        print(problem or "posted to the webhook", flush=True)  # noqa: T201


def describe(
    state: str,
    reason: str,
    error: str,
    pipeline: str,
    run: str,
    ended: Conclusion | None = None,
) -> dict[str, str]:
    """Returns what is posted: `text` for people, the rest for programs.

    Args:
        state: As Kubeflow gives it, or the local runner.
        reason: Why the run failed, as the local runner knows it; may be empty.
        error: What Kubeflow says, which usually names no step.
        pipeline: Name of the pipeline.
        run: Identifier of the run.
        ended: What the run's steps say; None where they cannot be read.
    """
    if ended is not None:
        outcome, reason = ended.outcome.name, ended.reason
        mark = "" if ended.outcome in (Outcome.SUCCEEDED, Outcome.CACHED) else ":"
        text = f"{pipeline}{mark} {ended.sentence}"
    else:
        known = Outcome.FAILED if reason else _STATES.get(state.upper())
        outcome = known.name if known else "ENDED"
        text = f"{pipeline} {known or 'ended, and Kubeflow does not say how'}"
        if known not in (Outcome.SUCCEEDED, Outcome.CACHED):
            text += f": {reason or error}" if reason or error else "."
            if not reason:
                text += f" `estimator-pipelines runs show {run}` tells which step, and why."
    return {"text": text, "pipeline": pipeline, "run": run, "state": outcome, "reason": reason}


def measured(pipeline: str, found: Workflow, ended: Conclusion) -> RunMetrics:
    """Returns what a run on a cluster tells Prometheus: rows are not known there."""
    taken = {
        step.name: (step.ended - step.started).total_seconds()
        for step in found.steps
        if step.started and step.ended and not step.handler
    }
    match ended.outcome:
        case Outcome.SUCCEEDED | Outcome.CACHED:
            code = 0
        case Outcome.REFUSED:
            code = 3 if ended.refused else 0
        case _:
            code = 75 if ended.exit_code == 75 else 2
    return RunMetrics(
        pipeline=pipeline,
        ended=time.time(),
        exit_code=code,
        seconds=taken,
        verdict="refused" if ended.refused else "",
    )


def read_steps(run: str) -> tuple[Workflow, Conclusion] | None:
    """Returns a run's steps and its end, as the server tells `runs show`; None if it does not.

    It is asked without rights that a pod does not have: one installed for many users may refuse.
    """
    found: list[tuple[Workflow, Conclusion]] = []
    # A name is looked up without a time limit, and a server may send a byte at a time.
    asking = threading.Thread(target=_read_steps, args=(run, found), daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return found[0] if found else None


def _read_steps(run: str, found: list[tuple[Workflow, Conclusion]]) -> None:
    try:
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE_S * 2**look)
            answer = json.loads(_get(f"/apis/v1beta1/runs/{run}"))
            steps = workflow.read(answer["pipeline_runtime"]["workflow_manifest"])
            ended = workflow.conclude(steps, lambda step: _log(run, step))
            if ended.outcome is not Outcome.UNFINISHED:
                found.append((steps, ended))
                return
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        why = f"{type(error).__name__}: {error}"
        print(f"The steps cannot be read from Kubeflow's server ({why}).", flush=True)  # noqa: T201


def _log(run: str, step: workflow.Step) -> str | None:
    if not step.attempts:
        return None
    try:
        text = _get(f"/apis/v1alpha1/runs/{run}/nodes/{step.attempts[-1].node}/log")
    except OSError:
        return None
    return None if workflow.log_error(text) else text


def _get(path: str) -> str:
    headers = {}
    with contextlib.suppress(OSError):
        token = pathlib.Path(os.environ.get(_TOKEN, _USUAL_TOKEN)).read_text(encoding="ascii")
        headers["Authorization"] = f"Bearer {token.strip()}"
    server = os.environ.get(SERVER) or _USUAL_SERVER
    if not server.startswith(("https://", "http://")):
        raise ValueError(f"{SERVER} is no http address")
    request = urllib.request.Request(server.rstrip("/") + path, headers=headers)  # noqa: S310
    # It is in the cluster, or where its owner says; no proxy for other traffic knows it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        return bytes(answer.read()).decode("utf-8", "replace")


def post(address: str, message: dict[str, str]) -> str:
    """Posts a message as JSON; returns what went wrong, or nothing.

    The address is a secret, for whoever knows it may post: it is never part of the answer.
    """
    if not address.startswith(("https://", "http://")):
        return f"not posted: {WEBHOOK} is no http address"
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
                address.strip(),
                data=json.dumps(message).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            problem = f"not posted: the webhook answered {error.code}"
            if error.code < 500 and error.code != 429:
                return problem
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = f"not posted: {type(error).__name__}"
    return problem
