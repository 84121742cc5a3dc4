"""Which parameters of a compiled pipeline reach a step of ours as a path or URI.

It is read from the specification, not from names: in a pipeline of a user's own, `model` may be a
URI that is none of our business, and `published_to` may end as the `serving_dir` of export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from estimator_lib.core import places

_OURS = "from components.steps"
"""What the source of every component of ours holds."""


def of(pipeline: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Returns the pipeline's parameters that are places.

    Args:
        pipeline: The first document of a specification.

    Returns:
        Parameter -> what steps call it, such as {"champion"}.
    """
    reached = _trace(pipeline, "root")
    return {name: frozenset(found) for name, found in reached.items()}


def faults(pipeline: Mapping[str, Any]) -> Iterator[str]:
    """Says where a step cannot use what stands for a place: a default, or a constant of a task."""
    inputs = pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    for parameter, names in of(pipeline).items():
        default = inputs.get(parameter, {}).get("defaultValue")
        for place in sorted(names):
            problem = places.fault(place, default)
            if problem:
                yield f"parameter {parameter}: {problem}"
    for component, task, content in _tasks(pipeline):
        reached = _trace(pipeline, content["componentRef"]["name"])
        for name, source in content.get("inputs", {}).get("parameters", {}).items():
            value = source.get("runtimeValue", {}).get("constant")
            for place in sorted(reached.get(name, ())):
                problem = places.fault(place, value)
                if problem:
                    yield f"{name} of task {task} of {component}: {problem}"


def _trace(pipeline: Mapping[str, Any], component: str) -> dict[str, set[str]]:
    """The inputs of a component that become places in it, and what they are called there."""
    content = _component(pipeline, component)
    found: dict[str, set[str]] = {}
    if "executorLabel" in content:
        if _is_ours(pipeline, content["executorLabel"]):
            inputs = content.get("inputDefinitions", {}).get("parameters", {})
            found = {name: {name} for name in inputs if name in places.LOCAL | places.ANYWHERE}
        return found
    for task in content.get("dag", {}).get("tasks", {}).values():
        inner = _trace(pipeline, task["componentRef"]["name"])
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            outer = source.get("componentInputParameter")
            if outer is not None and name in inner:
                found.setdefault(outer, set()).update(inner[name])
    return found


def _tasks(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for component in ("root", *pipeline.get("components", {})):
        tasks = _component(pipeline, component).get("dag", {}).get("tasks", {})
        for name, content in tasks.items():
            yield component, name, content


def _component(pipeline: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (
        pipeline.get("root", {}) if name == "root" else pipeline.get("components", {}).get(name, {})
    )
    return found


def _is_ours(pipeline: Mapping[str, Any], executor: str) -> bool:
    executors = pipeline.get("deploymentSpec", {}).get("executors", {})
    command = executors.get(executor, {}).get("container", {}).get("command", [])
    return any(_OURS in part for part in command)
