"""From a user's input_fn to a dataset of (features, labels).

Layer 3. An input_fn returns a `tf.data.Dataset` of (features, labels) or features, or a pair
of tensors or arrays, which then is one batch. It may take `mode`, `params`, `config` and
`input_context`. An `InputSource` is an input_fn that can also begin in its middle, so that a
resumed training sees the batches it would have seen.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops
from tensorflow.python.data.ops.iterator_ops import OwnedIterator

from estimator_lib.core.errors import DataError, Reason, TrainingError, quote
from estimator_lib.errors import BadValueError
from estimator_lib.inputs.feed import Feed

_ARGUMENTS = ("mode", "params", "config", "input_context")
_patching = threading.RLock()
_CHECKED = re.compile(r"assertion failed: \[(LabelError: |)(.*?, got)\] \[(.*)\]")
"""What an assertion of ours says: whether it is about labels, the text, and the values."""
_TRACE = re.compile(r"\s*(Graph execution error|Detected at node|File |<stack|\d+ root error|$)")
_PLACE = re.compile(r"\s*(\(\d+\) )?([A-Z_]+: +)?(\{\{function_node [^}]*\}\} )?")
"""What precedes the text of an error that was raised in a graph: lines, and parts of its line."""


class InputSource:
    """An input_fn that can begin at any batch.

    Attributes:
        fingerprint: Names the data, its order and the batch size; a position is only valid
            for the same fingerprint.
    """

    fingerprint: str = ""

    def dataset(self, first_batch: int = 0) -> Any:
        """Returns the dataset from its batch number `first_batch` on."""
        del first_batch
        raise TypeError(f"{type(self).__name__} must override dataset()")

    def chunks(self, first_batch: int = 0) -> Feed | None:
        """Returns the same batches in chunks, which are faster to read; None if it has none."""
        del first_batch
        return None

    def __call__(self) -> Any:
        return self.dataset()


class _Skipping(InputSource):
    def __init__(self, input_fn: Callable[..., Any], fingerprint: str) -> None:
        self._input_fn = input_fn
        self.fingerprint = fingerprint

    def dataset(self, first_batch: int = 0) -> Any:
        dataset = self._input_fn()
        return dataset.skip(first_batch) if first_batch else dataset


def resumable(input_fn: Callable[[], Any], *, name: str) -> InputSource:
    """Makes an input_fn resumable by skipping the batches that were seen before.

    Args:
        input_fn: Returns a dataset that gives the same batches every time.
        name: Names the data; change it when the data change.
    """
    return _Skipping(input_fn, name)


def function_name(input_fn: Any) -> str:
    """Returns a name of an input_fn for messages."""
    if isinstance(input_fn, functools.partial):
        return function_name(input_fn.func)
    name = getattr(input_fn, "__qualname__", None) or type(input_fn).__qualname__
    code = getattr(input_fn, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


@contextlib.contextmanager
def explained(input_fn: Any) -> Iterator[None]:
    """Tells errors of compiled functions as what they mostly are: an input that does not fit.

    Raises:
        DataError: a value is outside its range or of a shape that does not fit.
        TrainingError: the input cannot be read.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        name, checked = function_name(input_fn), _CHECKED.search(str(error))
        if checked is None:
            raise BadValueError(
                f"A batch of {name} does not fit the model: {_essence(error)}. Correct input_fn or "
                "the model; the cause above says where in the model.",
                reason=Reason.INVALID_VALUE,
            ) from error
        values = " ".join(re.sub(r"[\[\]]+", " ", checked[3]).split())
        raise BadValueError(
            f"{checked[2]} {values} in a batch of {name}. Correct the values, or leave them out.",
            reason=Reason.LABEL_OUT_OF_RANGE if checked[1] else Reason.INVALID_VALUE,
        ) from None
    except (tf.errors.DataLossError, tf.errors.UnknownError, tf.errors.NotFoundError) as error:
        raise TrainingError(
            f"Input of {function_name(input_fn)} failed: {_essence(error)}. Look at its files.",
            reason=Reason.IO,
        ) from error


def _essence(error: Any) -> str:
    """Returns the line that says what is wrong, out of all that a graph's error says."""
    lines = [line for line in str(error).splitlines() if not _TRACE.match(line)]
    return (
        _PLACE.sub("", lines[0].split(" [Op:")[0], count=1).strip().rstrip(".")
        if lines
        else str(type(error))
    )


def call(
    input_fn: Callable[..., Any],
    *,
    mode: str,
    params: Any,
    config: Any,
    input_context: Any = None,
    first_batch: int = 0,
    repeat_tensors: bool = False,
) -> Any:
    """Calls an input_fn and returns its dataset.

    Args:
        input_fn: The user's function, or an InputSource.
        mode: Of ModeKeys.
        params: Hyperparameters.
        config: The RunConfig.
        input_context: A `tf.distribute.InputContext`, if there is a strategy.
        first_batch: Where an InputSource begins.
        repeat_tensors: Whether a pair of tensors is given again and again (training).

    Raises:
        DataError: it returned something else.
    """
    if isinstance(input_fn, InputSource):
        return input_fn.dataset(first_batch)
    given = {"mode": mode, "params": params, "config": config, "input_context": input_context}
    accepted = _parameters(input_fn)
    with _noting_elements() as taken:
        result = input_fn(**{name: given[name] for name in _ARGUMENTS if name in accepted})
    if taken and not isinstance(result, tf.data.Dataset):
        given_ = {name: given[name] for name in _ARGUMENTS if name in accepted}
        result = _dataset_of(lambda: input_fn(**given_), input_fn, result, *taken[-1])
    if isinstance(result, tf.data.Dataset):
        return result
    if isinstance(result, tf.data.Iterator):
        raise DataError(
            f"input_fn {function_name(input_fn)} returned an iterator: expected a "
            "tf.data.Dataset. Return the dataset itself.",
            reason=Reason.TYPE_MISMATCH,
        )
    if isinstance(result, tuple | list) and len(result) == 2:
        parts: Any = (result[0], result[1]) if result[1] is not None else result[0]
    elif isinstance(result, Mapping | np.ndarray) or tf.is_tensor(result):
        parts = result
    else:
        raise DataError(
            f"input_fn {function_name(input_fn)} returned something unusable: expected a "
            f"tf.data.Dataset or a pair (features, labels), got {quote(result)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    dataset = tf.data.Dataset.from_tensors(parts)
    return dataset.repeat() if repeat_tensors else dataset


@contextlib.contextmanager
def _noting_elements() -> Iterator[list[tuple[Any, Any]]]:
    """Notes what `get_next()` of an iterator returns in this thread.

    In the graph of tf.estimator this one call stood for all batches; here it takes the first.
    """
    taken: list[tuple[Any, Any]] = []
    thread = threading.get_ident()
    with _patching:
        get_next = OwnedIterator.get_next

        def noted(iterator: Any) -> Any:
            element = get_next(iterator)
            if threading.get_ident() == thread:
                taken.append((iterator, element))
            return element

        OwnedIterator.get_next = noted
        try:
            yield taken
        finally:
            OwnedIterator.get_next = get_next


def _dataset_of(
    again: Callable[[], Any], input_fn: Any, result: Any, iterator: Any, element: Any
) -> Any:
    """Returns the dataset whose first element an input_fn took from an iterator.

    If it did more with the element, that is traced, by calling it once more, and follows in the
    dataset's `map`.
    """
    given, known = tf.nest.flatten(result), tf.nest.flatten(element)
    if len(given) == len(known) and all(a is b for a, b in zip(given, known, strict=True)):
        return iterator._dataset.map(
            lambda *parts: tf.nest.pack_sequence_as(
                result, tf.nest.flatten(parts if len(parts) > 1 else parts[0])
            )
        )
    try:
        following, structure = _traced_from(again, iterator._dataset.element_spec)
    except (tf.errors.OpError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"input_fn {function_name(input_fn)} took one batch from an iterator and changed it in "
            f"a way that cannot be traced: {error}. Return the dataset, and put what follows "
            "get_next() into its map().",
            reason=Reason.TYPE_MISMATCH,
        ) from error

    def follow(*parts: Any) -> Any:
        flat = tf.nest.flatten(parts if len(parts) > 1 else parts[0], expand_composites=True)
        found = following(*flat)
        return tf.nest.pack_sequence_as(structure, tf.nest.flatten(found), expand_composites=True)

    return iterator._dataset.map(follow, num_parallel_calls=tf.data.AUTOTUNE)


def _traced_from(again: Callable[[], Any], element_spec: Any) -> tuple[Any, Any]:
    """Returns what an input_fn computes from an element, as a function of its tensors.

    Also returns the structure of what that gives.
    """
    fed: list[Any] = []
    made: dict[str, Any] = {}

    def element(self: Any, *args: Any, **kwargs: Any) -> Any:
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
        made["results"] = tf.nest.map_structure(tf.convert_to_tensor, _mutable(again()))

    with _patching, _standing_for_iterators(Standing()):
        wrapped = tf.compat.v1.wrap_function(graph, [])
    results = made["results"]
    if isinstance(results, list):
        results = tuple(results)
    flat = tf.nest.flatten(results, expand_composites=True)
    return wrapped.prune(list(fed), flat), results


def _mutable(result: Any) -> Any:
    """Returns features and labels without what is None."""
    if isinstance(result, tuple | list) and len(result) == 2 and result[1] is None:
        return result[0]
    return result


@contextlib.contextmanager
def _standing_for_iterators(iterator: Any) -> Iterator[None]:
    """Lets every iterator of the first version that is made be `iterator`."""
    kinds = [tf.data.Dataset, tf.compat.v1.data.Dataset]

    def stands(*arguments: Any, **options: Any) -> Any:
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


def _parameters(function: Any) -> frozenset[str]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return frozenset()
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return frozenset(_ARGUMENTS)
    return frozenset(signature.parameters)


def split(element: Any) -> tuple[Any, Any]:
    """Returns (features, labels) of a dataset's element or element_spec; labels may be None."""
    if isinstance(element, tuple):
        if len(element) == 1:
            return element[0], None
        if len(element) == 2:
            return element
        raise DataError(
            f"The input gives {len(element)} parts: expected (features, labels). Put weights "
            "and the like into the features.",
            reason=Reason.TYPE_MISMATCH,
        )
    return element, None


def refuse_endless(dataset: Any, input_fn: Any, what: str) -> None:
    """Refuses an input that never ends where nothing says when to stop.

    Raises:
        DataError: the dataset is infinite.
    """
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            f"input_fn {function_name(input_fn)} repeats for ever: {what} would never end. Give "
            "steps, or leave out .repeat().",
            reason=Reason.TOO_MANY_VALUES,
        )


def empty_input(input_fn: Any) -> TrainingError:
    """The error for an input that gave no batch at all."""
    return TrainingError(
        f"input_fn {function_name(input_fn)} gave no batch at all: expected at least one. Look "
        "at its files and filters.",
        reason=Reason.EMPTY_INPUT,
    )
