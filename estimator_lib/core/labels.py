"""What a model learns to predict, as the manifest of examples describes it.

Layer 0. A description is a mapping for JSON, one of

* `{"kind": "class", "field": f, "classes": n}`: the column f holds a class 0..n-1;
* `{"kind": "number", "field": f}`: the column f holds a number;
* `{"kind": "multilabel", "fields": [...], "classes": [...]}`: for each class, by its name, the
  column of the same place holds 1 or 0; a row may have any number of them;
* `{"kind": "heads", "heads": [...]}`: several of these, for a head each, whose `"name"` they
  have beside the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Label = Mapping[str, Any]


def heads(label: Label) -> dict[str, Label]:
    """Returns the descriptions by head; one that is alone has the name ""."""
    return {own.get("name", ""): own for own in label.get("heads", [label])}


def columns(label: Label) -> dict[str, str]:
    """Returns the columns of the examples that hold a label, each with its numpy dtype."""
    found: dict[str, str] = {}
    for own in heads(label).values():
        dtype = "float32" if own["kind"] == "number" else "int64"
        fields = own["fields"] if own["kind"] == "multilabel" else [own["field"]]
        found |= dict.fromkeys(fields, dtype)
    return found


def gathered(
    label: Label, by_column: Mapping[str, Any], stack: Callable[[Sequence[Any]], Any]
) -> Any:
    """Returns a label as heads take it.

    Args:
        label: Its description.
        by_column: At least the arrays of `columns`, `[n]` each.
        stack: Makes `[n, classes]` of arrays.

    Returns:
        `[n]`; of a multi-label label `[n, classes]`; a mapping of these by head.
    """
    if label["kind"] == "heads":
        return {name: gathered(own, by_column, stack) for name, own in heads(label).items()}
    if label["kind"] == "multilabel":
        return stack([by_column[field] for field in label["fields"]])
    return by_column[label["field"]]
