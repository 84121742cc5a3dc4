"""A compiled pipeline read back and checked: it is what it says, and holds no secret.

Both documents are parsed into the messages that Kubeflow itself reads them with, so that an
unknown field is found here and not by a cluster. Then: images are pinned, packages too, every
reference leads somewhere, and nothing looks like a credential.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from estimator_lib.core.config import unpinned
from estimator_lib.core.errors import (
    ConfigError,
    EstimatorLibError,
    PipelineError,
    Reason,
    SecurityError,
    did_you_mean,
    quote,
)
from pipelines import credentials, step_places

_REFERENCE = re.compile(r"\{\{\$\.inputs\.parameters\[['\"]+([^'\"\]]+)['\"]+\]\}\}")
_INSTALL = re.compile(r"pip3? install(.*?)(?:&&|;|$)", re.DOTALL)
_OWN_IMAGES = ("argostub/",)
"""KFP's stand-ins for steps without a container, such as creating a volume; never pulled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a compiled pipeline.

    Attributes:
        type: KFP's name of its type, such as NUMBER_INTEGER.
        required: Whether a run must give it.
        default: Its value if a run gives none; None where there is none.
    """

    type: str
    required: bool
    default: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specification:
    """A compiled pipeline.

    Attributes:
        name: The pipeline's name.
        text: The file's content, both documents.
        parameters: What a run may give, by name.
        places: Those of them that are paths of a pod, and what steps call them.
    """

    name: str
    text: str
    parameters: Mapping[str, Parameter]
    places: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)


def is_compiled(path: pathlib.Path) -> bool:
    """Returns whether a file looks like a compiled pipeline, rather than a run configuration."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r"^pipelineInfo:", text, re.MULTILINE) is not None


def read(path: pathlib.Path) -> Specification:
    """Reads and checks a compiled pipeline.

    Raises:
        ConfigError: there is no such file, or it is no compiled pipeline.
        EstimatorLibError: what `check` refuses.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"Specification {path} does not exist.", reason=Reason.FILE_NOT_FOUND
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Specification {path} cannot be read: {error}.", reason=Reason.CORRUPT_FILE
        ) from error
    return check(text, str(path))


def check(text: str, origin: str) -> Specification:
    """Checks a compiled pipeline and returns it.

    Args:
        text: IR YAML of one or two documents.
        origin: How messages call it.

    Raises:
        PipelineError: it is not what Kubeflow reads, or refers to what is not there.
        ConfigError: it gives a step a place that the step cannot use.
        SecurityError: it holds what looks like a credential, or something unpinned.
    """
    pipeline, platform = _documents(text, origin)
    executors = pipeline.get("deploymentSpec", {}).get("executors", {})
    faults: list[EstimatorLibError] = []
    faults += _credentials(pipeline, executors, platform)
    faults += [
        ConfigError(f"{fault}.", reason=Reason.UNSUPPORTED)
        for fault in step_places.faults(pipeline)
    ]
    faults += _images(executors)
    faults += _packages(executors)
    faults += _references(pipeline, executors, platform)
    if faults:
        first = faults[0]
        lines = "; ".join(fault.message for fault in faults)
        raise type(first)(f"Specification {origin} is refused: {lines}", reason=first.reason)
    inputs = pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    return Specification(
        name=pipeline["pipelineInfo"]["name"],
        text=text,
        parameters={
            name: Parameter(
                type=declared.get("parameterType", "STRING"),
                required="defaultValue" not in declared and not declared.get("isOptional", False),
                default=declared.get("defaultValue"),
            )
            for name, declared in inputs.items()
        },
        places=step_places.of(pipeline),
    )


def _documents(text: str, origin: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the pipeline's document and the executors' Kubernetes part, parsed strictly."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    def refuse(problem: object) -> PipelineError:
        return PipelineError(
            f"Specification {origin} is not a compiled pipeline: {problem}. Compile it again.",
            reason=Reason.CORRUPT_FILE,
        )

    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise refuse(" ".join(str(error).split())) from error
    if not documents or len(documents) > 2 or not all(isinstance(d, dict) for d in documents):
        raise refuse(f"expected one or two YAML mappings, got {len(documents)} documents")
    pipeline, platform = documents[0], documents[1] if len(documents) == 2 else {}
    executors: dict[str, Any] = {}
    try:
        spec = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
        if platform:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
            kubernetes = platform.get("platforms", {}).get("kubernetes", {})
            executors = kubernetes.get("deploymentSpec", {}).get("executors", {})
            for name, executor in executors.items():
                message = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
                try:
                    json_format.ParseDict(executor, message)
                except json_format.ParseError as error:
                    raise refuse(f"{name}: {error}") from error
    except json_format.ParseError as error:
        raise refuse(error) from error
    if not spec.pipeline_info.name:
        raise refuse("it has no pipelineInfo.name")
    return pipeline, executors


def _credentials(
    pipeline: Mapping[str, Any], executors: Mapping[str, Any], platform: Mapping[str, Any]
) -> Iterator[EstimatorLibError]:
    found: list[tuple[str, str]] = []
    inputs = pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    for name, declared in inputs.items():
        found += credentials.find(declared.get("defaultValue"), f"parameter {name}")
    for executor, content in executors.items():
        container = content.get("container", {})
        for variable in container.get("env", []):
            place = f"{executor}.env.{variable.get('name')}"
            found += credentials.find(variable.get("value"), place)
        for part in ("image", "command", "args"):
            found += credentials.find(container.get(part), f"{executor}.{part}")
    found += credentials.find(pipeline.get("root", {}).get("dag"), "root")
    found += credentials.find(pipeline.get("components"), "components")
    # Names say nothing there: a Secret is named, and which of its keys.
    for place, text in _texts(platform, "platforms.kubernetes"):
        kind = credentials.kind_of(text)
        found += [(place, kind)] if kind is not None else []
    for place, kind in dict(found).items():
        yield SecurityError(
            f"{place} holds {kind}. Keep it in a Secret of the cluster and name that under "
            "cluster.steps.<step>.secrets.",
            reason=Reason.SECRET,
        )


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{place}[{index}]")
    elif isinstance(value, str):
        yield place, value


def _images(executors: Mapping[str, Any]) -> Iterator[EstimatorLibError]:
    for name, content in executors.items():
        image = content.get("container", {}).get("image", "")
        if image.startswith(_OWN_IMAGES) or "container" not in content:
            continue
        problem = "is given by a parameter" if _REFERENCE.search(image) else unpinned(image)
        if problem:
            yield SecurityError(
                f"the image {quote(image)} of {name} {problem}. Give a tag or a digest.",
                reason=Reason.UNPINNED,
            )


def _packages(executors: Mapping[str, Any]) -> Iterator[EstimatorLibError]:
    for name, content in executors.items():
        container = content.get("container", {})
        for text in (*container.get("command", []), *container.get("args", [])):
            for install in _INSTALL.findall(text):
                packages = re.findall(r"['\"]([^'\"]+)['\"]", install)
                for package in packages:
                    if "==" not in package and "@" not in package and package[0] != "-":
                        yield SecurityError(
                            f"{name} installs {quote(package)} unpinned. Put it in the image, or "
                            "name its version.",
                            reason=Reason.UNPINNED,
                        )


def _references(
    pipeline: Mapping[str, Any], executors: Mapping[str, Any], platform: Mapping[str, Any]
) -> Iterator[EstimatorLibError]:
    """Finds parameters and executors that are referred to and not there."""
    components = {"root": pipeline.get("root", {}), **pipeline.get("components", {})}
    for name, component in components.items():
        known = set(component.get("inputDefinitions", {}).get("parameters", {}))
        for task, content in component.get("dag", {}).get("tasks", {}).items():
            for source in content.get("inputs", {}).get("parameters", {}).values():
                used = source.get("componentInputParameter")
                if used is not None and used not in known:
                    yield _unknown(f"task {task} of {name}", used, known)
        label = component.get("executorLabel")
        if label is not None and label not in executors:
            yield _unknown(name, label, executors, what="executor")
        container = executors.get(label, {}).get("container", {})
        for text in (*container.get("command", []), *container.get("args", [])):
            for used in _REFERENCE.findall(text):
                if used not in known:
                    yield _unknown(str(label), used, known)
    for name in platform:
        if name not in executors:
            yield _unknown("platforms.kubernetes", name, executors, what="executor")


def _unknown(
    place: str, name: str, known: Collection[str], *, what: str = "parameter"
) -> EstimatorLibError:
    return PipelineError(
        f"{place} refers to the {what} {name!r}, which is not there.{did_you_mean(name, known)}",
        reason=Reason.UNKNOWN_NAME,
    )
