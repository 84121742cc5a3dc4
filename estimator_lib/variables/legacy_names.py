"""How tf.estimator 2.15 named in its checkpoints what has another name here."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np

from estimator_lib.protocols import Array

_CLUSTERS = {"Variable": "cluster_counts", "clusters_updated": "clusters_next"}
"""The state of KMeans, and its names here."""
_SECOND_SLOTS = ("linear", "v", "momentum")
"""Slots that the first optimizers of TensorFlow made after another one."""


def slot(name: str, saved: Collection[str]) -> str | None:
    """Returns the saved name of an optimizer's slot, or None if there is no one such.

    A slot is `<variable>/<Optimizer>/<slot>` here. tf.estimator 2.15 named it
    `training/<Optimizer>/<variable>/<slot>` (optimizers of one kind numbered), its first version
    `<variable>/<Optimizer>`, and `<variable>/<Optimizer>_1` for a second slot.
    """
    if name.count("/") < 2:
        return None
    variable, optimizer, kept = name.rsplit("/", 2)
    kind, where = re.escape(optimizer), re.escape(variable)
    second = "_1" if kept in _SECOND_SLOTS else ""
    old = re.compile(
        rf"(?i:(?:.*/)?{kind}(?:_\d+)?/){where}/{re.escape(kept)}"
        rf"|{where}(?:/part_0)?/(?i:{kind}){second}"
    )
    found = [key for key in saved if old.fullmatch(key)]
    return found[0] if len(found) == 1 else None


def is_learning_rate(name: str) -> bool:
    """Whether a saved name is that of an optimizer's learning rate."""
    return re.fullmatch(r"training(_\d+)?/[^/]+/learning_rate", name) is not None


def is_of_clusters(values: Mapping[str, Array]) -> bool:
    """Whether KMeans wrote these values."""
    return "clusters" in values and getattr(values.get("initialized"), "dtype", None) == np.bool_


def of_clusters(values: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the state of KMeans by the names that it has here."""
    found = {new: values[old] for old, new in _CLUSTERS.items() if old in values}
    return {"chosen": np.asarray(len(values["clusters"]), np.int64), **found}
