"""Tells how a run ended."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request

from kfp import dsl

from components.steps.step import FAILURE

WEBHOOK = "NOTIFY_WEBHOOK"
"""Environment variable with the address that the message is posted to; a Secret gives it."""
ATTEMPTS = 3
TIMEOUT_S = 10.0
"""Seconds that one attempt to post may take."""
PAUSE_S = 1.0
"""Seconds between the first two attempts; twice as long before the third."""


def run(status: dsl.PipelineTaskFinalStatus, pipeline: str, run: str) -> None:
    """Runs the step; see `components.notify`."""
    try:
        told(status.state or "ENDED", status.error_message or "", pipeline, run)
    except Exception as error:  # noqa: BLE001 - the run has ended as it has, whatever this does
        print(f"not told: {type(error).__name__}: {error}", flush=True)  # noqa: T201


def told(state: str, error: str, pipeline: str, run: str) -> None:
    """Tells the log and the webhook, if there is one."""
    reason = os.environ.get(FAILURE, "")
    message = describe(state, reason, error, pipeline, run)
    print(message["text"], flush=True)  # noqa: T201 - standard output is the step's log
    address = os.environ.get(WEBHOOK, "")
    if address:
        problem = post(address, message)
        print(problem or "posted to the webhook", flush=True)  # noqa: T201


def describe(state: str, reason: str, error: str, pipeline: str, run: str) -> dict[str, str]:
    """Returns what is posted: `text` for people, the rest for programs.

    Args:
        state: SUCCEEDED, FAILED or CANCELLED.
        reason: Why the run failed, as the runner knows it; may be empty.
        error: What Kubeflow says, which usually names no step.
        pipeline: Name of the pipeline.
        run: Identifier of the run.
    """
    text = f"{pipeline} {state.lower()}"
    if state != "SUCCEEDED":
        known = reason or error
        text += f": {known}" if known else ""
        if not reason:
            text += f" `estimator-pipelines runs show {run}` tells which step, and why."
    return {"text": text, "pipeline": pipeline, "run": run, "state": state, "reason": reason}


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
