"""YAML as a configuration is written: each key once, and no value but those of JSON.

Layer 1. Plain scalars mean what YAML 1.2 says (its core schema): `no` and `2026-01-31` are texts,
`true` and `false` the only booleans, `010` is ten. Whatever would reach a step as something else
than what was written is refused with its line.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from estimator_lib.core.errors import ConfigError, Reason, quote

_MOST_BYTES = 4 << 20
_MOST_VALUES = 200_000
_DEEPEST = 60
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SIGNIFICANT = re.compile(r"[1-9]")


class _Loader(yaml.SafeLoader):
    """Composes nodes; their tags are those of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    composed = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Composes a node; too many end the reading before the rest is looked at."""
        self.composed += 1
        if self.composed > 2 * _MOST_VALUES:  # keys are nodes, too
            raise RecursionError("too many values")
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def read(data: str | bytes, what: str) -> Any:
    """Returns the one document of a YAML text, as dicts, lists, texts, numbers, booleans and None.

    Args:
        data: The text, or UTF-8 or UTF-16 bytes.
        what: What messages call it, such as "Run configuration run.yaml".

    Raises:
        ConfigError: it is no YAML, or has a key twice, a key that is no text, a number that is not
            finite or too large, or a value that JSON does not have; every such place is listed.
    """
    if len(data) > _MOST_BYTES:
        raise ConfigError(
            f"{what} is too large: expected at most {_MOST_BYTES >> 20} MiB, got {len(data):,} "
            "bytes. Give another file.",
            reason=Reason.TOO_MANY_VALUES,
        )
    try:
        node = yaml.compose(data, _Loader)
        reading = _Reading()
        content = reading.value(node, (), 0)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{what} is not valid YAML: {' '.join(str(error).split())}.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    except RecursionError as error:
        raise _too_much(what) from error
    if reading.values > _MOST_VALUES:
        raise _too_much(what)
    if reading.faults:
        lines = reading.faults
        text = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        raise ConfigError(f"{what} is invalid:{text}")
    return content


def _too_much(what: str) -> ConfigError:
    return ConfigError(
        f"{what} is too large: expected at most {_MOST_VALUES:,} values and {_DEEPEST} levels, "
        "anchors counted where they are used. Write it shorter.",
        reason=Reason.TOO_MANY_VALUES,
    )


class _Reading:
    """One walk over a document's nodes, and what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.values = 0

    def value(self, node: Any, path: tuple[str, ...], depth: int) -> Any:
        if node is None:  # an empty document
            return None
        self.values += 1
        if self.values > _MOST_VALUES or depth > _DEEPEST:
            self.values = _MOST_VALUES + 1
            return None
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [
                self.value(item, (*path, str(at)), depth + 1) for at, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind, path)
        return self._fault(node, path, f"{node.tag} is not a value of a configuration")

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                several = isinstance(value, yaml.SequenceNode)
                for part in value.value if several else [value]:
                    given = self.value(part, path, depth + 1)
                    if isinstance(given, dict):
                        merged = {**given, **merged}
                    else:
                        self._fault(part, path, "<< takes a mapping")
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                shown = quote(getattr(key, "value", key.tag))
                self._fault(key, path, f"key {shown} is not a text. Put it in quotes")
                continue
            name = self._scalar(key, "str", path)
            line = key.start_mark.line + 1
            if name in lines:
                self._fault(key, (*path, name), f"given twice, first on line {lines[name]}")
                continue
            lines[name] = line
            own[name] = self.value(value, (*path, name), depth + 1)
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: tuple[str, ...]) -> Any:
        text: str = node.value
        match kind:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "str":
                if any("\ud800" <= character <= "\udfff" for character in text):
                    return self._fault(node, path, "half a character is no text")
                return text
            case "int" | "float":
                return self._number(node, kind, path)
        return self._fault(node, path, f"{node.tag} is not a value of a configuration")

    def _number(self, node: yaml.ScalarNode, kind: str, path: tuple[str, ...]) -> Any:
        text: str = node.value
        try:
            if kind == "float":
                number = float(re.sub(r"(?i)\.(inf|nan)$", r"\1", text))
                if not math.isfinite(number):
                    return self._fault(node, path, f"expected a finite number, got {quote(text)}")
                if number == 0 and _SIGNIFICANT.search(text.lower().partition("e")[0]):
                    return self._fault(node, path, f"{quote(text)} is too small for a number")
                return number
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            whole = int(text, base)
        except ValueError:  # an explicit tag, or more digits than Python reads
            return self._fault(node, path, f"expected a number, got {quote(text)}")
        if not -(2**63) <= whole < 2**63:
            return self._fault(node, path, f"expected an integer of 64 bits, got {quote(text)}")
        return whole

    def _fault(self, node: Any, path: tuple[str, ...], text: str) -> None:
        place = ".".join(path) or "(top level)"
        self.faults.append(f"{place} (line {node.start_mark.line + 1}): {text}.")
