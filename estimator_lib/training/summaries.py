"""Event files for TensorBoard, written without it being installed.

Layer 3.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib.core import storage
from estimator_lib.core.errors import StorageError
from estimator_lib.tensorflow_internals import default_writer, own_summaries_of_first_version

_COLLECTED = tf.compat.v1.GraphKeys.SUMMARIES
_writers: dict[str, tf.summary.SummaryWriter] = {}


class ModelSummaries:
    """What `tf.summary` and `tf.compat.v1.summary` calls inside of a model_fn write in training.

    Args:
        directory: Where they write.
        every_steps: Steps between two summaries; None writes none.
    """

    def __init__(self, directory: str, every_steps: int | None) -> None:
        self._directory = directory
        self._every = every_steps
        self._writer: tf.summary.SummaryWriter | None = None

    @contextlib.contextmanager
    def recording(self, step: tf.Variable) -> Iterator[None]:
        """Lets calls that are traced in the block write at every so many steps.

        Args:
            step: The global step.
        """
        every = self._every
        if every is None:
            with tf.summary.record_if(False):
                yield
            return
        if self._writer is None:
            self._writer = writer(self._directory)
        tf.summary.experimental.set_step(step)
        with (
            default_writer(self._writer),
            tf.summary.record_if(lambda: tf.equal(tf.math.floormod(step, every), 0)),
            own_summaries_of_first_version(),
        ):
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_collection(_COLLECTED))
            yield
            for made in graph.get_collection(_COLLECTED)[before:]:
                tf.summary.experimental.write_raw_pb(made, step=step)

    def flush(self) -> None:
        """Writes what is buffered to disk."""
        if self._writer is not None:
            self._writer.flush()


def writer(directory: str) -> tf.summary.SummaryWriter:
    """Returns this process's one `tf.summary` writer of a directory, which is made if need be.

    TensorBoard follows one event file of a directory at a time, so whoever writes there shares it.
    """
    place = str(pathlib.Path(directory).absolute())
    ours = f"events.out.tfevents.*.{os.getpid()}.*"
    # The file is gone when the directory was removed, or is another's after a fork.
    if place not in _writers or not any(pathlib.Path(place).glob(ours)):
        storage.make_directory(pathlib.Path(place))
        try:
            with tf.init_scope():
                made = tf.summary.create_file_writer(place)
                made.flush()
        except tf.errors.OpError as error:
            refusal = storage.refused(error)
            if refusal is not None:
                raise storage.storage_error("write summaries to", place, refusal) from error
            raise StorageError(
                f"Summaries cannot be written to {place}: {type(error).__name__}. Use a model_dir "
                "that can be written; predict() only reads.",
            ) from error
        _writers[place] = made
    return _writers[place]


def scalars(
    writer: tf.summary.SummaryWriter,
    step: int,
    values: Mapping[str, Any],
    *,
    text: str | None = None,
) -> None:
    """Writes numbers (others are left out) and a note to an event file.

    Args:
        writer: Of `writer`, or the user's own.
        step: The global step.
        values: Numbers by tag.
        text: Written under the tag `checkpoint_path`.
    """
    summary = tf.compat.v1.Summary()
    for tag, value in values.items():
        if np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number):
            summary.value.add(tag=tag, simple_value=float(value))
    if text is not None:
        note = summary.value.add(tag="checkpoint_path")
        note.metadata.plugin_data.plugin_name = "text"
        note.tensor.CopyFrom(tf.make_tensor_proto([text.encode()]))
    with writer.as_default():
        tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
