"""What all parts of a configuration share, and how their faults are explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, did_you_mean, quote

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class Section(pydantic.BaseModel):
    """Base of every part: frozen, strict, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
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
            raise explain(error, cls, "step parameter") from error


def explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str
) -> ConfigError:
    """The ConfigError that lists all faults; one that an own check raised keeps its reason."""
    faults = error.errors(include_url=False)
    own = faults[0].get("ctx", {}).get("error") if len(faults) == 1 else None
    if isinstance(own, EstimatorLibError):
        return ConfigError(f"Configuration {where} is invalid: {own.message}", reason=own.reason)
    lines = []
    for fault in faults:
        place = ".".join(str(p) for p in fault["loc"] if not _is_tag(p, fault)) or "(top level)"
        if fault["type"] == "extra_forbidden":
            known = _known_keys(model, fault["loc"][:-1])
            lines.append(f"{place}: unknown key.{did_you_mean(str(fault['loc'][-1]), known)}")
        elif fault["type"] == "missing":
            lines.append(f"{place}: missing.")
        elif fault["type"] == "union_tag_invalid":
            tag = str(fault["ctx"]["tag"])
            kinds = [t.strip(" '") for t in fault["ctx"]["expected_tags"].split(",")]
            lines.append(f"{place}.kind: unknown kind {tag!r}.{did_you_mean(tag, kinds)}")
        elif fault["type"] == "value_error":
            lines.append(f"{place}: {fault['ctx']['error']}.")
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:]
            lines.append(f"{place}: {message}, got {quote(fault['input'])}.")
    text = "; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines)
    return ConfigError(f"Configuration {where} is invalid: {text}", reason=Reason.INVALID_VALUE)


_TAGS = frozenset(
    ("numeric", "missing_indicator", "bucketized", "vocabulary", "hashed", "identity",
     "crossed", "weighted", "sequence", "sequence_numeric", "indicator", "embedding")
)  # fmt: skip


def _is_tag(part: object, fault: Any) -> bool:
    """Whether a part of a location is the union's tag that pydantic puts in, not a key."""
    location = fault["loc"]
    return part in _TAGS and len(location) > 2 and location[0] == "columns" and part == location[2]


def _known_keys(model: type[pydantic.BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys allowed at `location` below `model`."""
    schema = model.model_json_schema()
    node: Any = schema
    for part in location:
        node = _follow(schema, node, str(part))
        if node is None:
            return []
    node = _deref(schema, node)
    return sorted(node.get("properties", {}))


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
