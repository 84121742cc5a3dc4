"""What a run on Kubeflow did, read from the Argo Workflow and the logs that its server keeps.

Kubeflow's own list of a run's tasks has every node twice, computed steps that wait for ever, and
neither pods nor reasons; the Workflow has it all, also after the run. Here is what people declared:
each step once, in the order of the graph, with what happened to it. Pure, and without kfp.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components.steps.step import ERROR_MARK, VERDICT_MARK
from estimator_lib.core import logs

_DRIVER = "-driver"
_EXECUTOR = "executor"
_DEPENDENCY = re.compile(r"([\w-]+)\.\w+")
_LAUNCHER = re.compile(
    r"failed to execute component: (?:.*: )?(?:exit status (?P<code>\d+)|signal: (?P<signal>.+))$",
    re.MULTILINE,
)
_KUBEFLOW_SAYS = re.compile(r"[IWEF]\d{4} |time=")
"""Begins the lines that Kubeflow's launcher and Argo's own programs write into a step's log."""


class State(enum.StrEnum):
    """What happened to a step."""

    SUCCEEDED = "succeeded"
    CACHED = "from the cache"
    FAILED = "failed"
    TERMINATED = "terminated"
    RUNNING = "running"
    PENDING = "waiting"
    SKIPPED = "condition not met"
    NOT_REACHED = "not reached"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One pod that worked on a step.

    Attributes:
        node: Its name in the Workflow, by which the server gives its log.
        pod: Its name in the cluster.
        exit_code: Of the container, which is Kubeflow's launcher: 1 for whatever the step's own
            code is; None where it is not known.
    """

    node: str
    pod: str
    started: datetime.datetime | None = None
    ended: datetime.datetime | None = None
    exit_code: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A step as it was declared; in a loop, one for each iteration.

    Attributes:
        name: As declared; in a loop with the iteration's number, such as "trial 2".
        state: What happened to it.
        attempts: The pods that worked on it, in order; none for a step from the cache.
        message: What Argo says about the last attempt, or about what it waits for, or "".
        driver: Whether it failed before its own code began: the attempts are those of Kubeflow's
            driver, which prepares a step.
        handler: Whether it runs however the others end.
    """

    name: str
    state: State
    attempts: tuple[Attempt, ...] = ()
    message: str = ""
    driver: bool = False
    handler: bool = False

    @property
    def started(self) -> datetime.datetime | None:
        """When its first attempt began."""
        return self.attempts[0].started if self.attempts else None

    @property
    def ended(self) -> datetime.datetime | None:
        """When its last attempt ended."""
        return self.attempts[-1].ended if self.attempts else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workflow:
    """A run's Workflow.

    Attributes:
        namespace: Where its pods are.
        message: What Argo says about it as a whole, or "".
        steps: Those that were declared, in the order of the graph.
    """

    namespace: str
    message: str
    steps: tuple[Step, ...]

    def find_failed(self) -> Step | None:
        """Returns the step that made the run fail: the first that failed, else was terminated."""
        by_state = {step.state: step for step in reversed(self.steps)}
        return by_state.get(State.FAILED) or by_state.get(State.TERMINATED)


class Outcome(enum.StrEnum):
    """How a run ended, in the words that people are told."""

    SUCCEEDED = "succeeded"
    CACHED = "succeeded from the cache"
    REFUSED = "refused"
    FAILED = "failed"
    TERMINATED = "terminated"
    UNFINISHED = "unfinished"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion:
    """How a run ended, and why.

    Attributes:
        outcome: In a word.
        step: That decided it: the one that failed, was terminated, or whose condition was not met.
        reason: The step's own words, or of the verdict; "" where there are none.
        exit_code: That the failed step itself ended with; None where it is not known.
    """

    outcome: Outcome
    step: Step | None = None
    reason: str = ""
    exit_code: int | None = None

    @property
    def refused(self) -> bool:
        """Whether its model is known to have been refused."""
        return self.outcome is Outcome.REFUSED and self.reason.startswith("refused")

    @property
    def sentence(self) -> str:
        """How the run ended, and why, as people are told."""
        name = self.step.name if self.step else ""
        match self.outcome:
            case Outcome.FAILED:
                return f"{name} failed: {self.reason}"
            case Outcome.TERMINATED:
                return f"terminated while {name} was running"
            case Outcome.REFUSED:
                return f"{name} did not run: {self.reason or 'its condition was not met'}"
            case Outcome.CACHED:
                return "succeeded from the cache: nothing was computed anew"
        return str(self.outcome)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """What a step's log says about its end.

    Attributes:
        error: The step's own message, or "".
        exit_code: The step's own, as the launcher tells it; None for one that did not fail.
        signal: What killed it, such as "killed", or "".
        last_line: The last that is not Kubeflow's, or "".
        verdict: Of an evaluation, with its reasons, or "".
    """

    error: str = ""
    exit_code: int | None = None
    signal: str = ""
    last_line: str = ""
    verdict: str = ""


def read(manifest: str) -> Workflow:
    """Reads a Workflow.

    Args:
        manifest: As JSON, as the server keeps it.

    Raises:
        ValueError: it is not a Workflow.
    """
    try:
        return _Reader(json.loads(manifest)).workflow()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an Argo Workflow: {type(error).__name__} {error}") from error


def read_log(text: str) -> Ending:
    """Reads the log of a step's last attempt."""
    lines = [logs.text(line) for line in text.splitlines()]
    blocks = itertools.groupby(lines, key=lambda line: line.startswith(ERROR_MARK))
    errors = [[line.removeprefix(ERROR_MARK) for line in block] for ours, block in blocks if ours]
    verdicts = [line.removeprefix(VERDICT_MARK) for line in lines if line.startswith(VERDICT_MARK)]
    launcher = list(_LAUNCHER.finditer(text))
    code = launcher[-1]["code"] if launcher else None
    own = [line.strip() for line in lines if line.strip() and not _KUBEFLOW_SAYS.match(line)]
    return Ending(
        error="\n".join(errors[-1]) if errors else "",
        exit_code=int(code) if code else None,
        signal=(launcher[-1]["signal"] or "") if launcher else "",
        last_line=own[-1] if own else "",
        verdict=verdicts[-1] if verdicts else "",
    )


def log_error(text: str) -> str:
    """Returns why the server gives no log, or "": it says so with status 200, in place of it."""
    start = text.rfind('{"error_message":')
    try:
        return str(json.loads(text[start:])["error_message"]) if start >= 0 else ""
    except ValueError:
        return ""


def conclude(workflow: Workflow, log: Callable[[Step], str | None]) -> Conclusion:
    """Returns how a run ended, from what its steps did; the exit handler counts if it failed.

    Args:
        workflow: The run's.
        log: Gives the log of a step's last attempt, or None where it cannot be had. It is asked
            only for the step that decides.
    """
    step = workflow.find_failed()
    if step is not None:
        return _failure(step, log)
    steps = [step for step in workflow.steps if not step.handler]
    skipped = next((step for step in steps if step.state is State.SKIPPED), None)
    if any(step.state in (State.RUNNING, State.PENDING) for step in steps):
        return Conclusion(outcome=Outcome.UNFINISHED)
    if skipped is not None:
        judges = [step for step in steps[: steps.index(skipped)] if step.attempts]
        text = log(judges[-1]) if judges else None
        verdict = read_log(text).verdict if text else ""
        return Conclusion(outcome=Outcome.REFUSED, step=skipped, reason=verdict)
    if any(step.state is State.NOT_REACHED for step in steps) or not steps:
        return Conclusion(outcome=Outcome.UNFINISHED, reason=workflow.message)
    if all(step.state is State.CACHED for step in steps):
        return Conclusion(outcome=Outcome.CACHED)
    return Conclusion(outcome=Outcome.SUCCEEDED)


def _failure(step: Step, log: Callable[[Step], str | None]) -> Conclusion:
    if step.state is State.TERMINATED:
        return Conclusion(outcome=Outcome.TERMINATED, step=step)
    text = log(step)
    ending = Ending() if text is None else read_log(text)
    said = step.message or "no reason is known"
    if step.driver:
        reason = f"Kubeflow could not prepare it: {said}"
    elif ending.signal:
        hint = "; it may have run out of memory" if ending.signal == "killed" else ""
        reason = f"ended by the signal {ending.signal!r}{hint} ({said})"
    elif ending.exit_code is None:
        reason = f"{ending.error} ({said})" if ending.error else said
    else:
        told = ending.error or f"it told no error; its log ends: {ending.last_line}"
        reason = f"{told} (exit code {ending.exit_code})"
    return Conclusion(outcome=Outcome.FAILED, step=step, reason=reason, exit_code=ending.exit_code)


class _Reader:
    """Walks the templates, which are the graph as declared, and finds the node of each task.

    Names lead from one to the other: a node is called by its task below the node of its graph.
    A node that may be tried again has one more for each attempt, called `(0)`, `(1)` and so on.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._metadata = document["metadata"]
        self._spec = document["spec"]
        self._status = document.get("status") or {}
        self._templates = {template["name"]: template for template in self._spec["templates"]}
        nodes = self._status.get("nodes") or {}
        self._nodes: dict[str, Mapping[str, Any]] = {node["name"]: node for node in nodes.values()}
        # Kubeflow ends a run by leaving it no time, Argo's own command by telling it to shut down.
        ended = self._spec.get("activeDeadlineSeconds") == 0 or self._spec.get("shutdown")
        self._terminated = bool(ended)
        over = self._status.get("phase") in ("Succeeded", "Failed", "Error")
        self._otherwise = State.NOT_REACHED if over else State.PENDING

    def workflow(self) -> Workflow:
        name = self._metadata["name"]
        return Workflow(
            namespace=self._metadata.get("namespace", ""),
            message=self._status.get("message", ""),
            steps=tuple(self._graph(self._spec["entrypoint"], name, (), self._otherwise)),
        )

    def _graph(
        self, template: str, name: str, numbers: Sequence[int], otherwise: State
    ) -> Iterator[Step]:
        """Yields the steps below one node.

        Args:
            template: That declares them.
            name: Of the node.
            numbers: Of the iterations that it is in.
            otherwise: What became of steps without a node.
        """
        attempts = self._attempts(name)
        if attempts:
            otherwise = _without_node(attempts[-1], self._otherwise)
            name = attempts[-1]["name"]
        tasks = self._templates[template]["dag"]["tasks"]
        for task in _in_order(tasks):
            node = f"{name}.{task['name']}"
            if not _is_driver(task):
                for one, within in self._iterations(task, node, numbers):
                    yield from self._task(task["template"], task["name"], one, within, otherwise)
            elif task["name"].removesuffix(_DRIVER) not in self._steps(tasks):
                yield from self._failed_driver(task["name"], node, numbers)
            for hook in (task.get("hooks") or {}).values():
                for step in self._graph(hook["template"], f"{node}.onExit", numbers, otherwise):
                    yield dataclasses.replace(step, handler=True)

    def _iterations(
        self, task: Mapping[str, Any], name: str, numbers: Sequence[int]
    ) -> list[tuple[str, Sequence[int]]]:
        """The names of a task's nodes: of a loop whose length is known, one for each iteration."""
        if not task.get("withSequence"):
            return [(name, numbers)]
        pattern = re.compile(re.escape(name) + r"\((\d+):\d+\)$")
        found = {int(match[1]): node for node in self._nodes if (match := pattern.match(node))}
        return [(found[k], (*numbers, k + 1)) for k in sorted(found)] or [(name, numbers)]

    def _task(
        self, template: str, task: str, name: str, numbers: Sequence[int], otherwise: State
    ) -> Iterator[Step]:
        title = _title(task, numbers)
        kind = self._templates[template]
        if not kind.get("dag"):  # one pod that does a task of Kubeflow's own, such as an import
            yield self._read_single(title, name, otherwise)
        elif _executes(kind):
            yield self._step(title, name, otherwise)
        else:
            yield from self._graph(template, name, numbers, otherwise)

    def _step(self, title: str, name: str, otherwise: State) -> Step:
        node = self._nodes.get(name)
        if node is not None and node["type"] != "Skipped":
            around = self._attempts(name)
            pods = [pod for one in around for pod in self._attempts(f"{one['name']}.{_EXECUTOR}")]
            last = self._nodes.get(f"{around[-1]['name']}.{_EXECUTOR}") if around else None
            return self._read_node(title, last or node, pods)
        drivers = self._attempts(name + _DRIVER)
        if drivers and drivers[-1]["phase"] in ("Failed", "Error"):
            return dataclasses.replace(self._read_node(title, drivers[-1], drivers), driver=True)
        if node is not None:
            otherwise = _without_node(node, otherwise)
        message = drivers[-1].get("message", "") if otherwise is State.PENDING and drivers else ""
        return Step(name=title, state=otherwise, message=message)

    def _read_single(self, title: str, name: str, otherwise: State) -> Step:
        """A step that is one node, with its attempts below it."""
        node = self._nodes.get(name)
        if node is None:
            return Step(name=title, state=otherwise)
        return self._read_node(title, node, self._attempts(name))

    def _failed_driver(self, title: str, name: str, numbers: Sequence[int]) -> Iterator[Step]:
        """Of a group of steps: it is told only where it keeps them all from running."""
        drivers = self._attempts(name)
        if drivers and drivers[-1]["phase"] in ("Failed", "Error"):
            ended = self._read_node(_title(title, numbers), drivers[-1], drivers)
            yield dataclasses.replace(ended, driver=True)

    def _read_node(
        self, title: str, node: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]
    ) -> Step:
        phase = node["phase"]
        if node["type"] == "Skipped":
            skipped = State.CACHED if phase == "Skipped" else State.NOT_REACHED
            return Step(name=title, state=skipped)
        attempts = tuple(self._attempt(pod) for pod in pods)
        message = next((one.get("message", "") for one in reversed(pods)), node.get("message", ""))
        if phase in ("Failed", "Error"):
            by_hand = self._terminated and (not attempts or attempts[-1].exit_code is None)
            state = State.TERMINATED if by_hand else State.FAILED
        elif phase == "Succeeded":
            state = State.SUCCEEDED
        else:
            begun = any(pod["phase"] != "Pending" for pod in pods)
            state = State.RUNNING if begun else State.PENDING
        return Step(name=title, state=state, attempts=attempts, message=message)

    def _attempts(self, name: str) -> list[Mapping[str, Any]]:
        """The nodes that did what the node of that name stands for, in order."""
        node = self._nodes.get(name)
        if node is None:
            return []
        if node["type"] != "Retry":
            return [node]
        numbered = (self._nodes.get(f"{name}({number})") for number in itertools.count())
        return list(itertools.takewhile(lambda one: one is not None, numbered))  # type: ignore[arg-type]

    def _attempt(self, node: Mapping[str, Any]) -> Attempt:
        code = (node.get("outputs") or {}).get("exitCode")
        return Attempt(
            node=node["id"],
            pod=self._pod(node),
            started=_time(node.get("startedAt")),
            ended=_time(node.get("finishedAt")),
            exit_code=int(code) if code is not None else None,
        )

    def _pod(self, node: Mapping[str, Any]) -> str:
        """Argo names a pod by its template too, unless an old release is told otherwise."""
        form = (self._metadata.get("annotations") or {}).get(
            "workflows.argoproj.io/pod-name-format"
        )
        template = node.get("templateName")
        if form != "v2" or not template:
            return str(node["id"])
        return f"{self._metadata['name']}-{template}-{node['id'].rpartition('-')[2]}"

    def _steps(self, tasks: Sequence[Mapping[str, Any]]) -> set[str]:
        return {task["name"] for task in tasks if _executes(self._templates[task["template"]])}


def _is_driver(task: Mapping[str, Any]) -> bool:
    """Whether a task is Kubeflow's own, which prepares the one after it."""
    return bool(task["name"].endswith(_DRIVER) and task["template"].endswith(_DRIVER))


def _executes(template: Mapping[str, Any]) -> bool:
    """Whether a template is a step: a graph of its own that only starts a container."""
    tasks = (template.get("dag") or {}).get("tasks", [])
    return [task["name"] for task in tasks] == [_EXECUTOR]


def _without_node(node: Mapping[str, Any], otherwise: State) -> State:
    """What became of steps below a node that have none of their own."""
    if node["type"] != "Skipped":
        return otherwise
    return State.SKIPPED if node["phase"] == "Skipped" else State.NOT_REACHED


def _in_order(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields tasks after those that they depend on, else by name."""
    left = {task["name"]: task for task in sorted(tasks, key=lambda task: str(task["name"]))}
    needs = {name: _DEPENDENCY.findall(left[name].get("depends") or "") for name in left}
    while left:
        yield left.pop(next(name for name in left if not left.keys() & needs[name]))


def _title(task: str, numbers: Sequence[int]) -> str:
    return f"{task} {'.'.join(map(str, numbers))}" if numbers else task


def _time(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None
