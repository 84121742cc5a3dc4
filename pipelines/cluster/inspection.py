"""A run as an operator wants to know it: what its steps did, how it ended, and why."""

from __future__ import annotations

import dataclasses

from components.steps.workflow import Conclusion, Outcome, State, Step, Workflow, conclude
from estimator_lib.core.errors import PipelineError, Reason, did_you_mean
from pipelines.cluster.client import Connection, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known about a run.

    Attributes:
        run: As the server lists it.
        workflow: What its steps did; None where the server cannot tell.
        conclusion: How it ended.
        missing: What could not be had, in a sentence; or "".
    """

    run: Run
    workflow: Workflow | None
    conclusion: Conclusion
    missing: str = ""


def inspect(server: Connection, run: Run) -> Inspection:
    """Returns what is known about a run; its log is read where that says why it ended so.

    Raises:
        PipelineError: the server is away (`retryable`).
    """
    missing: list[str] = []
    workflow = None
    conclusion = Conclusion(outcome=Outcome.UNFINISHED)

    def log(step: Step) -> str | None:
        try:
            return server.log(run.id, step) if step.attempts else None
        except PipelineError as error:
            missing.append(error.message)
            return None

    try:
        workflow = server.workflow(run.id)
        conclusion = conclude(workflow, log)
    except PipelineError as error:
        if error.retryable:
            raise
        missing.append(error.message)
    return Inspection(run=run, workflow=workflow, conclusion=conclusion, missing=" ".join(missing))


def choose(run: Run, workflow: Workflow, name: str | None) -> Step:
    """Returns the step of that name; by default the failed one, else the last that began.

    Raises:
        PipelineError: there is no such step, or it has no log.
    """
    steps = {step.name: step for step in workflow.steps}
    if name is not None and name not in steps:
        raise PipelineError(
            f"Run {run.name!r} has no step {name!r}.{did_you_mean(name, steps)}",
            reason=Reason.UNKNOWN_NAME,
        )
    begun = [step for step in workflow.steps if step.attempts]
    last = max(begun, key=lambda step: (not step.handler, str(step.started)), default=None)
    step = workflow.find_failed() or last if name is None else steps[name]
    if step is None:
        raise PipelineError(
            f"No step of run {run.name!r} has a log yet. Try again later.",
            reason=Reason.EMPTY_INPUT,
        )
    if not step.attempts:
        raise PipelineError(
            f"Step {step.name!r} of run {run.name!r} has no log: {step.state}.",
            reason=Reason.EMPTY_INPUT,
        )
    return step


def kubectl(workflow: Workflow, step: Step) -> str:
    """Returns the command that shows a step's log where the server does not give it."""
    follow = " -f" if step.state is State.RUNNING else ""
    return f"kubectl logs -n {workflow.namespace} {step.attempts[-1].pod} -c main{follow}"
