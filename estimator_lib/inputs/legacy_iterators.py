"""Iterators of TensorFlow 1: an input_fn that takes one element, which stood for all batches.

Layer 3. In the graph of tf.estimator one call of `get_next()` was run with every step. Here it
takes the first batch; the dataset behind the iterator gives all of them, and what the input_fn
did with the element is traced and follows in the dataset's `map`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.protocols import Specs
from estimator_lib.tensorflow_internals import OwnedIterator, dataset_of, dataset_ops

_patching = threading.RLock()


class Taken(NamedTuple):
    """An element, and the iterator that gave it."""

    iterator: tf.data.Iterator
    element: object


@contextlib.contextmanager
def noting_elements() -> Iterator[list[Taken]]:
    """Notes what `get_next()` of an iterator returns in this thread."""
    taken: list[Taken] = []
    thread = threading.get_ident()
    with _patching:
        get_next = OwnedIterator.get_next

        def noted(iterator: tf.data.Iterator) -> object:
            element = get_next(iterator)
            if threading.get_ident() == thread:
                taken.append(Taken(iterator, element))
            return element

        OwnedIterator.get_next = noted
        try:
            yield taken
        finally:
            OwnedIterator.get_next = get_next


def dataset(
    again: Callable[[], object], result: object, taken: Taken, name: str
) -> tf.data.Dataset:
    """Returns the dataset whose first element an input_fn took from an iterator.

    Args:
        again: Calls the input_fn once more.
        result: What it returned.
        taken: What it took.
        name: Of the input_fn.

    Raises:
        DataError: it did with the element what cannot be traced.
    """
    batches = dataset_of(taken.iterator)
    given, known = tf.nest.flatten(result), tf.nest.flatten(taken.element)
    if len(given) == len(known) and all(a is b for a, b in zip(given, known, strict=True)):
        return batches.map(
            lambda *parts: tf.nest.pack_sequence_as(
                result, tf.nest.flatten(parts if len(parts) > 1 else parts[0])
            )
        )
    try:
        following, structure = _traced_from(again, batches.element_spec)
    except (tf.errors.OpError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"input_fn {name} took one batch from an iterator and changed it in a way that cannot "
            f"be traced: {error}. Return the dataset, and put what follows get_next() into its "
            "map().",
            reason=Reason.TYPE_MISMATCH,
        ) from error

    def follow(*parts: object) -> object:
        flat = tf.nest.flatten(parts if len(parts) > 1 else parts[0], expand_composites=True)
        found = following(*flat)
        return tf.nest.pack_sequence_as(structure, tf.nest.flatten(found), expand_composites=True)

    return batches.map(follow, num_parallel_calls=tf.data.AUTOTUNE)


def _traced_from(
    again: Callable[[], object], element_spec: Specs
) -> tuple[Callable[..., object], object]:
    """Returns what an input_fn computes from an element, as a function of its tensors.

    Also returns the structure of what that gives.
    """
    fed: list[tf.Tensor] = []
    results: list[object] = []

    def element(self: object, *args: object, **kwargs: object) -> object:
        del self, args, kwargs
        fed[:] = [
            tf.compat.v1.placeholder(spec.dtype, spec.shape)
            for spec in tf.nest.flatten(element_spec, expand_composites=True)
        ]
        return tf.nest.pack_sequence_as(element_spec, fed, expand_composites=True)

    class Standing:
        get_next = element
        __next__ = element

    def graph() -> None:
        results.append(tf.nest.map_structure(tf.convert_to_tensor, _without_none(again())))

    with _patching, _standing_for_iterators(Standing()):
        wrapped = tf.compat.v1.wrap_function(graph, [])
    (result,) = results
    if isinstance(result, list):
        result = tuple(result)
    return wrapped.prune(list(fed), tf.nest.flatten(result, expand_composites=True)), result


def _without_none(result: object) -> object:
    """Returns features and labels without what is None."""
    if isinstance(result, tuple | list) and len(result) == 2 and result[1] is None:
        return result[0]
    return result


@contextlib.contextmanager
def _standing_for_iterators(iterator: object) -> Iterator[None]:
    """Lets every iterator of the first version that is made be `iterator`."""
    kinds = [tf.data.Dataset, tf.compat.v1.data.Dataset]

    def stands(*arguments: object, **options: object) -> object:
        del arguments, options
        return iterator

    known = [
        (module, name, getattr(module, name))
        for module, name in (
            (dataset_ops, "make_one_shot_iterator"),
            (dataset_ops, "make_initializable_iterator"),
            (tf.compat.v1.data, "make_one_shot_iterator"),
            (tf.compat.v1.data, "make_initializable_iterator"),
            *((kind, "make_one_shot_iterator") for kind in kinds),
            *((kind, "__iter__") for kind in kinds),
        )
        if hasattr(module, name)
    ]
    try:
        for module, name, _ in known:
            setattr(module, name, stands)
        yield
    finally:
        for module, name, original in known:
            setattr(module, name, original)
