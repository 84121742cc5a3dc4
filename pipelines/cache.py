"""Which steps of a compiled pipeline may be taken from the cluster's cache.

What `compile` writes takes none, so that a specification uploaded by hand, or put on a schedule,
never answers with last month's result. Whoever starts runs switches it on, for every step at any
depth: KFP's own client reaches the outermost tasks only. Three kinds of steps always run: those
that tell how others ended, those that publish, and those that read a place whose content changes
while its name stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines import kubernetes_yaml
from pipelines.specification import Specification

_PUBLISHES = "serving_dir"
_READS = ("champion", "model")
"""Parameters that name a published model: a version, or the directory of versions."""
_VERSION = re.compile(r"/\d+/?$")
_ROOT = "root"


def switch_off(pipeline: Any) -> None:
    """Lets no task of a `PipelineSpec`, at any depth, be taken from the cache."""
    for component in (pipeline.root, *pipeline.components.values()):
        for task in component.dag.tasks.values():
            if task.HasField("caching_options"):
                task.caching_options.Clear()


def choose(specification: Specification, parameters: Mapping[str, Any], *, on: bool) -> str:
    """Returns the specification's text with caching as a run is to have it.

    Args:
        specification: The compiled pipeline.
        parameters: The run's, which differ from the defaults.
        on: Whether steps that did the same before may be taken from the cache.
    """
    document, *platform = yaml.safe_load_all(specification.text)
    pipeline = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    switch_off(pipeline)
    if on:
        defaults = {name: given.default for name, given in specification.parameters.items()}
        components = {_ROOT: pipeline.root, **pipeline.components}
        always: set[tuple[str, str]] = set()
        cacheable: set[tuple[str, str]] = set()
        _sort(components, _ROOT, {**defaults, **parameters}, cacheable, always)
        for component, task in cacheable - always:
            components[component].dag.tasks[task].caching_options.enable_cache = True
    return kubernetes_yaml.dump([json_format.MessageToDict(pipeline), *platform])


def _sort(
    components: Mapping[str, Any],
    name: str,
    values: Mapping[str, Any],
    cacheable: set[tuple[str, str]],
    always: set[tuple[str, str]],
) -> None:
    """Puts each step below component `name`, whose inputs are `values`, into one of the sets."""
    for key, task in components[name].dag.tasks.items():
        inputs = {k: _value(given, values) for k, given in task.inputs.parameters.items()}
        below = task.component_ref.name
        if components[below].HasField("dag"):
            _sort(components, below, inputs, cacheable, always)
        elif _runs_always(task, inputs):
            always.add((name, key))
        else:
            cacheable.add((name, key))


def _runs_always(task: Any, inputs: Mapping[str, Any]) -> bool:
    kinds = {given.WhichOneof("kind") for given in task.inputs.parameters.values()}
    places = [str(inputs.get(name) or "") for name in _READS]
    return (
        "task_final_status" in kinds
        or bool(inputs.get(_PUBLISHES))
        or any(place and not _VERSION.search(place) for place in places)
    )


def _value(given: Any, values: Mapping[str, Any]) -> Any:
    """What a task's input is, as far as it is known before the run."""
    kind = given.WhichOneof("kind")
    if kind == "component_input_parameter":
        return values.get(given.component_input_parameter)
    if kind == "runtime_value":
        return given.runtime_value.constant.string_value
    return None
