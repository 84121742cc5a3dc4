"""Inputs of any name in a SavedModel: a field of a table may be called anything.

TensorFlow makes an argument of a Python function of each input of a signature, and tells arguments
apart by letters and digits alone, in lower case. So a signature is traced with arguments of its
own, and the inputs get their names where they are written: clients, TF Serving among them, know an
input by the key in its signature, which may be any text.

Python calls a loaded signature by the same names, but for those that it would take for another's
or cannot pass (`class`, `self`, none at all): these are `input_` and a hash of the name.
"""

from __future__ import annotations

import collections
import hashlib
import keyword
import re
from collections.abc import Collection, Container, Mapping
from typing import Any

from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from estimator_lib.tensorflow_internals import parse_saved_model

_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,199}")
_KEPT = {*keyword.kwlist, "self"}


def traced_as(inputs: Collection[str]) -> dict[str, str]:
    """Returns the arguments that inputs are traced as; the same, where all have plain names."""
    called = called_by(inputs)
    if all(_PLAIN.fullmatch(name) and called[name] == name for name in inputs):
        return called
    # TensorFlow sorts arguments by name, before and after they have got others.
    in_order = sorted(inputs, key=lambda name: _word(called[name]))
    return {name: f"input_{at:05d}" for at, name in enumerate(in_order)}


def called_by(inputs: Collection[str]) -> dict[str, str]:
    """Returns what Python calls each input of a loaded signature by."""
    words = collections.Counter(map(_word, inputs))

    def is_own(name: str) -> bool:
        word = _word(name)
        return bool(name) and words[word] == 1 and word.isidentifier() and word not in _KEPT

    return {
        name: name if is_own(name) else f"input_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        for name in inputs
    }


def loaded_as(directory: str, signature: str, arguments: Container[str]) -> dict[str, str]:
    """Returns the inputs of a signature of a SavedModel, with what Python calls each by.

    Args:
        directory: The SavedModel; anybody's.
        signature: One that it has.
        arguments: Of the function that was loaded.
    """
    graph = parse_saved_model(directory).meta_graphs[0]
    called = called_by(sorted(graph.signature_def[signature].inputs))
    return {
        name: next(one for one in (own, _word(name)) if one in arguments)
        for name, own in called.items()
    }


def rename(graph: MetaGraphDef, inputs: Mapping[str, Collection[str]]) -> None:
    """Gives the inputs of signatures their names, in a MetaGraphDef.

    Args:
        graph: As TensorFlow wrote it, of functions with the arguments of `traced_as`.
        inputs: Those of each signature.
    """
    objects = graph.object_graph_def
    places = {child.local_name: child.node_id for child in objects.nodes[0].children}
    functions = {
        child.local_name: objects.nodes[child.node_id].bare_concrete_function
        for child in objects.nodes[places["signatures"]].children
    }
    for signature, names in inputs.items():
        arguments, called = traced_as(names), called_by(names)
        _rename_keys(graph.signature_def[signature].inputs, {arguments[n]: n for n in names})
        renamed = {arguments[name]: called[name] for name in names}
        function = functions[signature]
        concrete = objects.concrete_functions[function.concrete_function_name]
        _, given = concrete.canonicalized_input_signature.tuple_value.values
        _rename_keys(given.dict_value.fields, renamed)
        function.argument_keywords[:] = [renamed[name] for name in function.argument_keywords]
        parts = function.function_spec.fullargspec.named_tuple_value.values
        (parameters,) = (part.value for part in parts if part.key == "kwonlyargs")
        for parameter in parameters.list_value.values:
            parameter.string_value = _word(renamed[parameter.string_value])


def _rename_keys(fields: Any, renamed: Mapping[str, str]) -> None:
    """Changes the keys of a protocol buffer's map, all at once."""
    values = {
        name: type(value).FromString(value.SerializeToString()) for name, value in fields.items()
    }
    fields.clear()
    for name, value in values.items():
        fields[renamed[name]].CopyFrom(value)


def _word(name: str) -> str:
    """What TensorFlow makes of a name to find a parameter of Python."""
    swapped = "".join(character if character.isalnum() else "_" for character in name)
    return swapped if swapped[:1].isalpha() else f"arg_{swapped}"
