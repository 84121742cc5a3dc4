"""What all parts of a configuration share, and how their faults are explained. Layer 0."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from estimator_lib.core.errors import ConfigError, EstimatorLibError, did_you_mean, quote

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


def _plain(value: object) -> object:
    """A value as JSON has it, tuples as lists; what JSON would change is refused."""
    match value:
        case None | bool() | str():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
    raise ValueError(
        "expected texts, finite numbers, true, false, null, lists and mappings of these, got "
        + quote(value)
    )


Plain = Annotated[Any, BeforeValidator(_plain)]
"""Any value that JSON has."""


def _as_float32(number: float) -> float:
    if abs(number) > _LARGEST:
        raise ValueError(f"expected a number that float32 can hold, got {number:g}")
    return number


_LARGEST = (2.0 - 2.0**-23) * 2.0**127
Float32 = Annotated[float, AfterValidator(_as_float32)]
"""A number that a model can compute with."""
Count = Annotated[int, Field(ge=1, le=10**12)]
"""How many steps, rows or times."""
Several = Annotated[int, Field(ge=1, le=1_000_000)]
"""How many of what is handled one by one."""
Buckets = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""How many ids, each with weights of its own."""
Dimension = Annotated[int, Field(ge=1, le=65_536)]
"""How many numbers stand for a field."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Of random numbers."""


class Section(pydantic.BaseModel):
    """Base of every part: frozen, strict, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> str:
        """The part as one line of JSON, as the steps receive it."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: the text is not such a part.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            try:
                content = json.loads(text)
            except ValueError:
                content = None
            raise explain(error, cls, content, "step parameter") from error


def explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], content: Any, where: str
) -> ConfigError:
    """Returns one error for all faults that pydantic found, each with its place in the file.

    Args:
        error: What validation raised.
        model: What was validated.
        content: Of which content; it tells keys from what pydantic puts into a location.
        where: Which configuration, such as its path.
    """
    faults = error.errors(include_url=False)
    own = faults[0].get("ctx", {}).get("error") if len(faults) == 1 else None
    if isinstance(own, EstimatorLibError):
        # Of an own check, which keeps its reason.
        return ConfigError(f"Configuration {where} is invalid: {own.message}", reason=own.reason)
    lines: dict[str, str] = {}
    for fault in faults:
        place = ".".join(_keys(fault, content)) or "(top level)"
        text = _describe_fault(fault, model)
        known = lines.get(place)
        # Each member of a union has a fault of its own to tell.
        lines[place] = text if known in (None, text) else f"{known} Or{text}"
    told = [f"{place}{text}" for place, text in lines.items()]
    text = told[0] if len(told) == 1 else "\n  " + "\n  ".join(told)
    return ConfigError(f"Configuration {where} is invalid: {text}")


def _describe_fault(fault: Any, model: type[pydantic.BaseModel]) -> str:
    """What is wrong, to stand behind its place."""
    match fault["type"]:
        case "extra_forbidden":
            known = _known_keys(model, fault["loc"][:-1])
            return f": unknown key.{did_you_mean(str(fault['loc'][-1]), known)}"
        case "missing":
            return ": missing."
        case "union_tag_invalid":
            tag = str(fault["ctx"]["tag"])
            kinds = [t.strip(" '") for t in fault["ctx"]["expected_tags"].split(",")]
            return f".kind: unknown kind {tag!r}.{did_you_mean(tag, kinds)}"
        case "union_tag_not_found":
            return ".kind: missing."
        case "value_error":
            return f": {fault['ctx']['error']}."
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f": {message}, got {quote(fault['input'])}."


def _keys(fault: Any, content: Any) -> Iterator[str]:
    """Yields the keys of a fault's location, without the names of a union's members and tags."""
    *path, last = fault["loc"] or (None,)
    for part in path:
        found = _under(content, part)
        if found:
            content = found[0]
            yield str(part)
    if last is not None and (fault["type"] == "missing" or _under(content, last)):
        yield str(last)


def _under(content: Any, part: object) -> list[Any]:
    """What a key, or a place in a list, leads to, if it is one."""
    if isinstance(content, Mapping):
        return [content[part]] if part in content else []
    inside = isinstance(content, list) and isinstance(part, int) and part < len(content)
    return [content[part]] if inside else []


def _known_keys(model: type[pydantic.BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys allowed at `location` below `model`."""
    schema = _schema(model)
    node: Any = schema
    for part in location:
        node = _follow(schema, node, str(part))
        if node is None:
            return []
    node = _deref(schema, node)
    return sorted(node.get("properties", {}))


@functools.cache
def _schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _deref(schema: dict[str, Any], node: Any) -> Any:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for option in node.get("anyOf", []):
        found = _deref(schema, option)
        if found.get("type") == "object":
            return found
    return node


def _follow(schema: dict[str, Any], node: Any, part: str) -> Any:
    node = _deref(schema, node)
    if part in node.get("properties", {}):
        return node["properties"][part]
    if "discriminator" in node and part in node["discriminator"]["mapping"]:
        return {"$ref": node["discriminator"]["mapping"][part]}
    # Keys of a pattern are written otherwise than any keys.
    return node.get("additionalProperties") or next(
        iter(node.get("patternProperties", {}).values()), None
    )
