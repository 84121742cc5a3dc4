"""What a model learns to predict: one type from configuration to manifest, head and metrics.

Layer 0. `to_json` and `from_json` are how manifests and lineages keep it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, quote

_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?", re.ASCII)
_TRUTH = ("false", "true")


class ClassNames(tuple[str, ...]):
    """Names of classes for a head whose labels are ids already, by id."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassLabel:
    """One of several classes; the examples hold its id.

    Attributes:
        field: The raw field, and the column of the examples.
        classes: Names by id, at least two.
    """

    field: str
    classes: tuple[str, ...]

    @property
    def positive(self) -> str | None:
        """The class whose probability a model of two classes gives: the last one."""
        return self.classes[-1] if len(self.classes) == 2 else None

    @property
    def numbered(self) -> bool:
        """Whether the classes are called by their ids."""
        return self.classes == digits(len(self.classes))

    @property
    def columns(self) -> dict[str, str]:
        """See `columns`."""
        return {self.field: "int64"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberLabel:
    """A number.

    Attributes:
        field: The raw field, and the column of the examples.
    """

    field: str

    @property
    def columns(self) -> dict[str, str]:
        """See `columns`."""
        return {self.field: "float32"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """Any number of classes at once.

    Attributes:
        fields: For each class, the column of the examples that holds 1 or 0.
        classes: Names, in the same order.
    """

    fields: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def columns(self) -> dict[str, str]:
        """See `columns`."""
        return dict.fromkeys(self.fields, "int64")


OneLabel = ClassLabel | NumberLabel | MultiLabel


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeveralLabels:
    """Several labels, with a head for each.

    Attributes:
        heads: The labels by the names of their heads.
    """

    heads: Mapping[str, OneLabel]

    @property
    def columns(self) -> dict[str, str]:
        """See `columns`."""
        return {name: dtype for own in self.heads.values() for name, dtype in own.columns.items()}


Label = OneLabel | SeveralLabels


def digits(number: int) -> tuple[str, ...]:
    """Returns the names of classes that have none."""
    return tuple(map(str, range(number)))


def canonical(text: str) -> str:
    """Returns the one name of a class however it is written: "1.0" is "1", "True" is "true"."""
    if text.lower() in _TRUTH:
        return text.lower()
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return text
    sign, number = whole.groups()
    return f"-{number}" if sign == "-" and number.strip("0") else number


def class_ids(texts: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Returns the id of each text among classes; -1 for one that is no class.

    0 and 1 are false and true too, for that is how a boolean column stores them.
    """
    ids = {name: at for at, name in enumerate(classes)}
    if sorted(ids) == sorted(_TRUTH):
        ids |= {str(at): ids[name] for at, name in enumerate(_TRUTH)}
    return [ids.get(canonical(text), -1) for text in texts]


def heads(label: Label) -> Mapping[str, OneLabel]:
    """Returns the labels by head; one that is alone has the name ""."""
    return label.heads if isinstance(label, SeveralLabels) else {"": label}


def columns(label: Label) -> dict[str, str]:
    """Returns the columns of the examples that hold a label, each with its numpy dtype."""
    return label.columns


def gather(
    label: Label, by_column: Mapping[str, Any], stack: Callable[[Sequence[Any]], Any]
) -> Any:
    """Returns a label as heads take it.

    Args:
        label: What it is.
        by_column: At least the arrays of `columns`, `[n]` each.
        stack: Makes `[n, classes]` of arrays.

    Returns:
        `[n]`; of a multi-label label `[n, classes]`; a mapping of these by head.
    """
    match label:
        case SeveralLabels():
            return {name: gather(own, by_column, stack) for name, own in label.heads.items()}
        case MultiLabel():
            return stack([by_column[field] for field in label.fields])
    return by_column[label.field]


def to_json(label: Label) -> dict[str, Any]:
    """Returns a label as plain JSON values; classes called by their ids as how many there are."""
    match label:
        case SeveralLabels():
            listed = [{"name": name, **to_json(own)} for name, own in label.heads.items()]
            return {"kind": "heads", "heads": listed}
        case MultiLabel():
            return {
                "kind": "multilabel", "fields": list(label.fields), "classes": list(label.classes)
            }  # fmt: skip
        case NumberLabel():
            return {"field": label.field, "kind": "number", "classes": None}
        case ClassLabel():
            named = len(label.classes) if label.numbered else list(label.classes)
            return {"field": label.field, "kind": "class", "classes": named}


def from_json(content: Mapping[str, Any]) -> Label:
    """Returns the label that `to_json` wrote.

    Raises:
        DataError: it is no such content.
    """
    try:
        if content["kind"] == "heads":
            return SeveralLabels(heads={own["name"]: _one(own) for own in content["heads"]})
        return _one(content)
    except EstimatorLibError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"The description of a label is damaged: expected kind, field and classes, got "
            f"{quote(content)}. Make the artifact again.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def _one(content: Mapping[str, Any]) -> OneLabel:
    match content["kind"]:
        case "multilabel":
            return MultiLabel(fields=_texts(content["fields"]), classes=_texts(content["classes"]))
        case "number":
            return NumberLabel(field=_text(content["field"]))
        case "class":
            given = content["classes"]
            number = isinstance(given, int) and not isinstance(given, bool) and 2 <= given < 1 << 24
            names = digits(given) if number else _texts(given)
            return ClassLabel(field=_text(content["field"]), classes=names)
    raise ValueError(f"unknown kind {content['kind']!r}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) < 2:
        raise TypeError(f"expected at least 2 texts, got {values!r}")
    return tuple(map(_text, values))
