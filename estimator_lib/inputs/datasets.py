"""From a user's input_fn to a dataset of (features, labels).

Layer 3. An input_fn returns a `tf.data.Dataset` of (features, labels) or features, or a pair
of tensors or arrays, which then is one batch. It may take `mode`, `params`, `config` and
`input_context`. An `InputSource` is an input_fn that can also begin in its middle, so that a
resumed training sees the batches it would have seen.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from estimator_lib.core.errors import DataError, Reason, TrainingError, quote
from estimator_lib.errors import BadValueError
from estimator_lib.inputs import legacy_iterators
from estimator_lib.inputs.feed import Feed
from estimator_lib.protocols import InputFn

Part = TypeVar("Part")
_log = logging.getLogger(__name__)
_ARGUMENTS = ("mode", "params", "config", "input_context")
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

    def dataset(self, first_batch: int = 0) -> tf.data.Dataset:
        """Returns the dataset from its batch number `first_batch` on."""
        del first_batch
        raise TypeError(f"{type(self).__name__} must override dataset()")

    def chunks(self, first_batch: int = 0) -> Feed | None:
        """Returns the same batches in chunks, which are faster to read; None if it has none."""
        del first_batch
        return None

    def __call__(self) -> tf.data.Dataset:
        return self.dataset()


@dataclasses.dataclass(frozen=True)
class InputPosition:
    """Where a training left its input.

    Attributes:
        fingerprint: Of the InputSource; None for other inputs, which begin anew.
        batch: The batch that comes next; None if the input has ended.
    """

    fingerprint: str | None = None
    batch: int | None = None

    @classmethod
    def of(cls, engine: Mapping[str, Any]) -> InputPosition:
        """Returns what a checkpoint says; see `saved`."""
        return cls(**(engine.get("input") or {}))

    def saved(self) -> dict[str, object]:
        """Returns it as strict JSON, for a checkpoint."""
        return {"input": dataclasses.asdict(self)}

    def first_batch(self, input_fn: InputFn) -> int:
        """Returns the batch that an input begins at: where it was left, if it is the same."""
        same = self.fingerprint is not None and self.fingerprint == fingerprint(input_fn)
        return int(self.batch or 0) if same else 0


def fingerprint(input_fn: InputFn) -> str | None:
    """Returns what names an InputSource's batches; None for any other input_fn."""
    return input_fn.fingerprint if isinstance(input_fn, InputSource) else None


class _Skipping(InputSource):
    def __init__(self, input_fn: Callable[[], tf.data.Dataset], fingerprint: str) -> None:
        self._input_fn = input_fn
        self.fingerprint = fingerprint

    def dataset(self, first_batch: int = 0) -> tf.data.Dataset:
        dataset = self._input_fn()
        return dataset.skip(first_batch) if first_batch else dataset


def resumable(input_fn: Callable[[], tf.data.Dataset], *, name: str) -> InputSource:
    """Makes an input_fn resumable by skipping the batches that were seen before.

    Args:
        input_fn: Returns a dataset that gives the same batches every time.
        name: Names the data; change it when the data change.
    """
    return _Skipping(input_fn, name)


def function_name(input_fn: object) -> str:
    """Returns a name of an input_fn for messages."""
    if isinstance(input_fn, functools.partial):
        return function_name(input_fn.func)
    name = getattr(input_fn, "__qualname__", None) or type(input_fn).__qualname__
    code = getattr(input_fn, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


@contextlib.contextmanager
def explain_errors(input_fn: InputFn) -> Iterator[None]:
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
                f"A batch of {name} does not fit the model: {essence(error)}. Correct input_fn or "
                "the model; the cause above says where in the model.",
            ) from error
        values = " ".join(re.sub(r"[\[\]]+", " ", checked[3]).split())
        raise BadValueError(
            f"{checked[2]} {values} in a batch of {name}. Correct the values, or leave them out.",
            reason=Reason.LABEL_OUT_OF_RANGE if checked[1] else Reason.INVALID_VALUE,
        ) from None
    except (tf.errors.DataLossError, tf.errors.UnknownError, tf.errors.NotFoundError) as error:
        raise TrainingError(
            f"Input of {function_name(input_fn)} failed: {essence(error)}. Look at its files.",
            reason=Reason.IO,
        ) from error


def essence(error: tf.errors.OpError) -> str:
    """Returns the line that says what is wrong, out of all that a graph's error says."""
    lines = [line for line in str(error).splitlines() if not _TRACE.match(line)]
    return (
        _PLACE.sub("", lines[0].split(" [Op:")[0], count=1).strip().rstrip(".")
        if lines
        else str(type(error))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caller:
    """Calls input_fns for one Estimator.

    Attributes:
        params: Handed to those that ask for them.
        config: The run's.
        share: Which part of an input this process takes, where several train without a strategy.
    """

    params: object
    config: object
    share: tf.distribute.InputContext | None = None

    def feed(
        self,
        input_fn: InputFn,
        mode: str,
        strategy: tf.distribute.Strategy | None = None,
        first_batch: int = 0,
    ) -> Feed:
        """Returns the batches of an input; see `dataset`."""
        alone = strategy is None and (self.share is None or self.share.num_input_pipelines == 1)
        if alone and isinstance(input_fn, InputSource):
            chunks = input_fn.chunks(first_batch)
            if chunks is not None:
                return chunks
        return Feed(dataset=self.dataset(input_fn, mode, strategy, first_batch))

    def dataset(
        self,
        input_fn: InputFn,
        mode: str,
        strategy: tf.distribute.Strategy | None = None,
        first_batch: int = 0,
    ) -> tf.data.Dataset:
        """Returns the dataset of an input.

        Args:
            input_fn: The user's function, or an InputSource.
            mode: Of ModeKeys; a pair of tensors is one batch, given again and again in training.
            strategy: Whose replicas share it.
            first_batch: Where an InputSource begins.

        Raises:
            DataError: the input_fn returned something else.
        """

        def call(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
            if isinstance(input_fn, InputSource):
                return share(input_fn.dataset(first_batch), context)
            given = {
                "mode": mode, "params": copy.deepcopy(self.params), "config": self.config,
                "input_context": context,
            }  # fmt: skip
            accepted = _parameters(input_fn)
            if context is not None and context.num_input_pipelines > 1:
                _warn_of_whole(input_fn, accepted, context.num_input_pipelines)
            arguments = {name: given[name] for name in _ARGUMENTS if name in accepted}
            return _called(lambda: input_fn(**arguments), input_fn, repeat=mode == "train")

        if strategy is None:
            return call(self.share).prefetch(tf.data.AUTOTUNE)
        return strategy.distribute_datasets_from_function(call)


def share(dataset: tf.data.Dataset, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
    """Returns the batches that one worker of several takes of a dataset that all of them have.

    In each step every replica takes a batch: those of the first worker the first ones. So no batch
    is taken twice, and none is left out, however many workers and batches there are.

    Args:
        dataset: Of batches, the same in every worker.
        context: Of the worker; None if it is alone.
    """
    if context is None or context.num_input_pipelines == 1:
        return dataset
    replicas = context.num_replicas_in_sync
    each = replicas // context.num_input_pipelines
    mine = context.input_pipeline_id
    if each == 1:
        return dataset.shard(replicas, mine)
    numbered = dataset.enumerate().filter(lambda number, _: number % replicas // each == mine)
    return numbered.map(lambda _, batch: batch)


def _warn_of_whole(input_fn: InputFn, accepted: frozenset[str], workers: int) -> None:
    if "input_context" not in accepted:
        _log.warning(
            "input_fn %s takes no input_context: each of the %d workers reads all that it gives. "
            "Let it take input_context, and shard its dataset by it.",
            function_name(input_fn),
            workers,
        )


def _called(call: Callable[[], object], input_fn: InputFn, *, repeat: bool) -> tf.data.Dataset:
    with legacy_iterators.noting_elements() as taken:
        result = call()
    name = function_name(input_fn)
    if taken and not isinstance(result, tf.data.Dataset):
        result = legacy_iterators.dataset(call, result, taken[-1], name)
    if isinstance(result, tf.data.Dataset):
        return result
    if isinstance(result, tf.data.Iterator):
        raise DataError(
            f"input_fn {name} returned an iterator: expected a tf.data.Dataset. Return the "
            "dataset itself.",
            reason=Reason.TYPE_MISMATCH,
        )
    if isinstance(result, tuple | list) and len(result) == 2:
        parts = (result[0], result[1]) if result[1] is not None else result[0]
    elif isinstance(result, Mapping | np.ndarray) or tf.is_tensor(result):
        parts = result
    else:
        raise DataError(
            f"input_fn {name} returned something unusable: expected a tf.data.Dataset or a pair "
            f"(features, labels), got {quote(result)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    dataset = tf.data.Dataset.from_tensors(parts)
    return dataset.repeat() if repeat else dataset


def _parameters(function: InputFn) -> frozenset[str]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return frozenset()
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return frozenset(_ARGUMENTS)
    return frozenset(signature.parameters)


def split(element: Part | tuple[Part] | tuple[Part, Part | None]) -> tuple[Part, Part | None]:
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


def refuse_endless(dataset: tf.data.Dataset, input_fn: InputFn, what: str) -> None:
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


def empty_input(input_fn: InputFn) -> TrainingError:
    """The error for an input that gave no batch at all."""
    return TrainingError(
        f"input_fn {function_name(input_fn)} gave no batch at all: expected at least one. Look "
        "at its files and filters.",
        reason=Reason.EMPTY_INPUT,
    )
