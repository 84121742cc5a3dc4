"""How tf.estimator 2.15 named in its checkpoints what has another name here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from estimator_lib.protocols import Array
from estimator_lib.variables.naming import GLOBAL_STEP

_CLUSTERS = {"Variable": "cluster_counts", "clusters_updated": "clusters_next"}
"""The state of KMeans, and its names here."""
_LAYER = "input_from_feature_columns/"
_TABLE = "/embedding_weights"
_TRAINED = re.compile(r"training(?:_\d+)?/([^/]+)/")
_POWER = re.compile(r"(?<![^/])beta[12]_power$")


class _Optimizer(NamedTuple):
    """One kind of optimizer.

    Attributes:
        here: Its name here; "" if there is none.
        keras_3: Its name in Keras 3.
        slots: What Keras 2 called its slots, to what Keras 3 calls them.
        first: The slots as `tf.compat.v1.train` made them, which numbered them.
    """

    here: str
    keras_3: str
    slots: Mapping[str, str]
    first: Sequence[str] = ()


_OPTIMIZERS = {
    "adadelta": _Optimizer(
        "",
        "adadelta",
        {"accum_grad": "accumulated_grad", "accum_var": "accumulated_delta_var"},
        ["accum_grad", "accum_var"],
    ),
    "adagrad": _Optimizer("Adagrad", "adagrad", {"accumulator": "accumulator"}, ["accumulator"]),
    "adam": _Optimizer(
        "Adam", "adam", {"m": "momentum", "v": "velocity", "vhat": "velocity_hat"}, ["m", "v"]
    ),
    "adamax": _Optimizer("", "adamax", {"m": "momentum", "v": "norm"}),
    "ftrl": _Optimizer(
        "Ftrl",
        "ftrl",
        {"accumulator": "accumulator", "linear": "linear"},
        ["accumulator", "linear"],
    ),
    "nadam": _Optimizer("", "nadam", {"m": "momentum", "v": "velocity"}),
    "rmsprop": _Optimizer(
        "RMSProp",
        "rm_sprop",
        {"rms": "velocity", "momentum": "momentum", "mg": "average_gradient"},
        ["rms", "momentum"],
    ),
    # The accumulator of the first version's momentum is another number.
    "sgd": _Optimizer("SGD", "sgd", {"momentum": "momentum"}),
}
_CENTERED = ["rms", "mg", "momentum"]
_NUMBERED = re.compile(
    rf"(?:optimizer/)?({'|'.join(o.keras_3 for o in _OPTIMIZERS.values())})(?:_\d+)?/"
)


_PART = re.compile(r"(?P<before>.+)/(?P<cut>(?:[^/]*\D)?(?P<part>\d+))/(?P<slot>[^/]+)")


class _Slot(NamedTuple):
    variable: str
    optimizer: _Optimizer
    name: str


def parts(saved: Collection[str]) -> dict[str, list[str]]:
    """Returns the slots that were saved by parts of their variable, and those parts in order.

    A part is `<variable>/part_<k>/<Optimizer>` or `training/<Optimizer>/<variable>/part_<k>/<slot>`
    and is returned as `<variable>/<Optimizer>`, `training/<Optimizer>/<variable>/<slot>`. The first
    version cut as much from "part_<k>" as the name of the scope is long that it trained in.
    """
    found: dict[str, dict[int, str]] = {}
    for key in saved:
        match = _PART.fullmatch(key)
        if match is None:
            continue
        variable = _variable_before(key, saved)
        middle = key[len(variable) + 1 : match.start("slot") - 1]
        if variable and not f"{variable}/part_{match['part']}".endswith(middle):
            continue
        if not variable:
            variable = match["before"]
            if match["cut"] != f"part_{match['part']}" or not _variable_in(variable, saved):
                continue
        found.setdefault(f"{variable}/{match['slot']}", {})[int(match["part"])] = key
    return {name: [keys[part] for part in sorted(keys)] for name, keys in found.items()}


def variable_of(slot: str, saved: Collection[str]) -> str:
    """Returns the variable that a slot belongs to, by what `parts` calls the slot."""
    before = slot.rpartition("/")[0]
    return _variable_before(slot, saved) or _variable_in(before, saved)


def _variable_before(key: str, saved: Collection[str]) -> str:
    """Returns the longest beginning of a key that is a saved name itself; "" if none is."""
    pieces = key.split("/")
    begins = ("/".join(pieces[:end]) for end in range(len(pieces) - 1, 0, -1))
    return next((begin for begin in begins if begin in saved), "")


def _variable_in(key: str, saved: Collection[str]) -> str:
    """Returns the longest end of a key that is a saved name itself; "" if none is."""
    pieces = key.split("/")
    ends = ("/".join(pieces[start:]) for start in range(len(pieces)))
    return next((end for end in ends if end in saved), "")


def names_here(saved: Collection[str]) -> dict[str, str]:
    """Returns what optimizers keep by the names that they have here, and the saved names.

    A slot is `<variable>/<Optimizer>/<slot>` here, and for an optimizer of Keras 3
    `<optimizer>/<variable, flat>_<slot>`. tf.estimator 2.15 named it
    `training/<Optimizer>/<variable>/<slot>` (optimizers of one kind numbered), its first version
    `<variable>/<Optimizer>`, and `<variable>/<Optimizer>_1` for a second slot. Names that two saved
    ones could be meant by are left out.
    """
    found: dict[str, set[str]] = {}
    for key in saved:
        for name in _names_of(key, saved):
            found.setdefault(name, set()).add(key)
        if (slot := _slot(key, saved)) is not None:
            found[f"{slot.optimizer.keras_3}/iteration"] = {GLOBAL_STEP}
    return {name: keys.pop() for name, keys in found.items() if len(keys) == 1}


def find(name: str, saved: Collection[str], here: Mapping[str, str]) -> str | None:
    """Returns the saved name of a variable that is called otherwise here, or None.

    Args:
        name: Here.
        saved: All names.
        here: What `names_here` returns for them.
    """
    power = _POWER.search(name)
    known = here.get(power[0] if power else _NUMBERED.sub(r"\1/", name, count=1))
    if known in saved:
        return known
    if name.endswith(_TABLE):
        # Those of KMeans had no scope, and those of `shared_embeddings` their own name only.
        others = [name.replace(_LAYER, "", 1), name.removesuffix(_TABLE).rpartition("/")[2]]
        return next((other for other in others if other in saved), None)
    return None


def _names_of(key: str, saved: Collection[str]) -> Iterator[str]:
    if power := _POWER.search(key):
        yield power[0]
    if re.fullmatch(r"training(_\d+)?/Nadam(_\d+)?/momentum_cache", key):
        yield "nadam/variable"
    slot = _slot(key, saved)
    if slot is None:
        return
    optimizer = slot.optimizer
    if optimizer.here:
        yield f"{slot.variable}/{optimizer.here}/{slot.name}"
    flat = slot.variable.replace("/", "_")
    for variable in (flat, f"{flat}_0"):
        yield f"{optimizer.keras_3}/{variable}_{optimizer.slots[slot.name]}"


def _slot(key: str, saved: Collection[str]) -> _Slot | None:
    before, _, last = key.rpartition("/")
    if before in saved:
        return _first_slot(before, last, saved)
    if trained := _TRAINED.match(before):
        kind, variable = trained[1], before[trained.end() :]
    else:
        variable = _variable_in(before, saved)
        kind = before.removesuffix(variable).rstrip("/").rpartition("/")[2]
    optimizer = _OPTIMIZERS.get(re.sub(r"_\d+$", "", kind).lower())
    if not variable or optimizer is None or last not in optimizer.slots:
        return None
    return _Slot(variable, optimizer, last)


def _first_slot(variable: str, last: str, saved: Collection[str]) -> _Slot | None:
    kind, _, number = last.partition("_")
    optimizer = _OPTIMIZERS.get(kind.lower())
    if optimizer is None or not (number or "0").isdigit():
        return None
    centered = optimizer.here == "RMSProp" and f"{variable}/{kind}_2" in saved
    order = _CENTERED if centered else optimizer.first
    at = int(number or 0)
    return _Slot(variable, optimizer, order[at]) if at < len(order) else None


def is_learning_rate(name: str) -> bool:
    """Whether a saved name is that of an optimizer's learning rate."""
    return re.fullmatch(r"training(_\d+)?/[^/]+/learning_rate", name) is not None


def is_of_duals(saved: Collection[str]) -> bool:
    """Whether LinearSDCA trained what has these saved names."""
    return any(re.fullmatch(r"ShardedMutableHashTable-\d+-of-\d+-keys", key) for key in saved)


def is_of_clusters(values: Mapping[str, Array]) -> bool:
    """Whether KMeans wrote these values."""
    return "clusters" in values and getattr(values.get("initialized"), "dtype", None) == np.bool_


def of_clusters(values: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the state of KMeans by the names that it has here."""
    found = {new: values[old] for old, new in _CLUSTERS.items() if old in values}
    return {"chosen": np.asarray(len(values["clusters"]), np.int64), **found}
