"""Variables that live on parameter servers, where everyone who trains finds them by name.

Layer 1. A `RemoteVariable` is a variable of TensorFlow whose memory is another process's:
operations on it run there. A `SplitVariable` is a table whose rows lie on several servers.
`RemoteStore` makes both in the place of plain variables, so that a model_fn does not notice.

Where a variable lies follows from the order in which variables are made and from their sizes alone:
everyone who traces the same model_fn finds it in the same place.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from estimator_lib import tensorflow_internals
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.protocols import Array
from estimator_lib.variables.naming import GLOBAL_STEP
from estimator_lib.variables.store import AnyVariable, VariableFactory, VariableStore

Partitioner: TypeAlias = Callable[..., Sequence[int]]
"""Takes `shape` and `dtype`; returns the number of parts along each axis."""
_MIN_PART_BYTES = 64 << 20
_DISTINCT = "estimator_lib/distinct"


def distinct(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the distinct ids of a batch, and for each id its place among them.

    Within one traced graph the same tensor gives the same result: what a table is read by is what
    its gradient is for.

    Args:
        ids: int64 `[n]`.

    Returns:
        int64 `[m]`, in the order of their first occurrence, and int32 `[n]`.
    """
    if tf.executing_eagerly():
        return tf.unique(ids)
    graph = tf.compat.v1.get_default_graph()
    kept = graph.get_collection_ref(_DISTINCT)
    for known, found in kept:
        if known is ids and found[0].graph is graph:
            return found
    found = tf.unique(ids)
    kept.append((ids, found))
    return found


class RemoteVariable(tensorflow_internals.BaseResourceVariable):
    """A variable on a parameter server; nothing is assigned when it is made.

    Args:
        name: Its own.
        shared_name: By which all find it on the server.
        device: The server's.
        shape: Its static shape.
        dtype: Its type.
        trainable: Whether gradients are taken with respect to it.
        constraint: As of `tf.Variable`.
    """

    def __init__(
        self,
        *,
        name: str,
        shared_name: str,
        device: str,
        shape: Sequence[int],
        dtype: tf.DType,
        trainable: bool = False,
        constraint: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        super().__init__(
            trainable=trainable,
            shape=shape,
            dtype=dtype,
            handle=tensorflow_internals.shared_handle(shared_name, device, shape, dtype),
            constraint=constraint,
            name=name,
            handle_name=name,
            unique_id=shared_name,
            in_graph_mode=False,
        )

    def sparse_read(self, indices: tf.Tensor, name: str | None = None) -> tf.Tensor:
        """Returns rows; each is sent once, however often its index occurs."""
        flat = indices if indices.shape.rank == 1 else tf.reshape(indices, (-1,))
        rows, place = distinct(flat)
        read = tf.gather(super().sparse_read(rows, name=name), place)
        if flat is indices:
            return read
        return tf.reshape(read, tf.concat([tf.shape(indices), self.shape[1:]], 0))


class SplitVariable:
    """A table whose rows lie on several servers, each part a range of them.

    It is read by rows (`tf.gather`) or whole, assigned whole, and updated part by part.

    Attributes:
        parts: The ranges in order, not trainable by themselves.
        starts: The first row of each.
        trainable: As of `tf.Variable`.
    """

    synchronization = tf.VariableSynchronization.AUTO
    aggregation = tf.VariableAggregation.NONE

    def __init__(self, name: str, parts: Sequence[RemoteVariable], *, trainable: bool) -> None:
        self.name = f"{name}:0"
        self.parts = tuple(parts)
        self.trainable = trainable
        sizes = [int(part.shape[0]) for part in parts]
        self.sizes = tuple(sizes)
        self.starts = (0, *np.cumsum(sizes[:-1]).tolist())
        self.dtype: tf.DType = parts[0].dtype
        self.shape = tf.TensorShape([sum(sizes), *parts[0].shape[1:]])

    def read_value(self) -> tf.Tensor:
        """Returns the whole table."""
        return tf.concat([part.read_value() for part in self.parts], 0)

    def numpy(self) -> Array:
        """Returns the whole table."""
        return self.read_value().numpy()

    def assign(self, value: tf.Tensor) -> None:
        """Sets all rows."""
        for part, size, start in zip(self.parts, self.sizes, self.starts, strict=True):
            part.assign(value[start : start + size])

    def sparse_read(self, indices: tf.Tensor, name: str | None = None) -> tf.Tensor:
        """Returns rows of any parts."""
        flat = tf.reshape(indices, (-1,))
        owned, places = self._by_part(flat, [flat, tf.range(tf.size(flat))])
        rows = [part.sparse_read(at) for part, at in zip(self.parts, owned, strict=True)]
        read = tf.dynamic_stitch(places, rows)
        return tf.reshape(read, tf.concat([tf.shape(indices), self.shape[1:]], 0), name=name)

    def parts_of_dense(self, grad: tf.Tensor) -> list[tf.Tensor]:
        """Returns a tensor of the table's shape, cut as the table is."""
        return tf.split(grad, self.sizes)

    def parts_of_rows(
        self, indices: tf.Tensor, values: tf.Tensor
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Returns for each part which of its own rows are meant, and their values."""
        owned, cut = self._by_part(indices, [indices, values])
        return list(zip(owned, cut, strict=True))

    def _by_part(
        self, indices: tf.Tensor, both: Sequence[tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        bounds = tf.constant(self.starts[1:], indices.dtype)
        owner = tf.searchsorted(bounds, indices, side="right")
        owned, other = [tf.dynamic_partition(t, owner, len(self.parts)) for t in both]
        own = [at - start for at, start in zip(owned, self.starts, strict=True)]
        return own, other

    def __repr__(self) -> str:
        return f"SplitVariable({self.name!r}, rows={list(self.sizes)})"


def _tensor_of(
    variable: SplitVariable,
    dtype: tf.DType | None = None,
    name: str | None = None,
    as_ref: bool = False,
) -> tf.Tensor:
    del name, as_ref
    value = variable.read_value()
    return value if dtype is None else tf.cast(value, dtype)


tf.register_tensor_conversion_function(SplitVariable, _tensor_of)


def parts_of(variable: tf.Variable | SplitVariable) -> tuple[tf.Variable, ...]:
    """Returns the parts of a split variable; any other is its only part."""
    return variable.parts if isinstance(variable, SplitVariable) else (variable,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where new variables go.

    Attributes:
        devices: Of the servers.
        run: Tells the variables of one training from those of another on the same servers.
        assigns: Whether this process gives variables their first values.
        partitioner: Says into how many parts a table is cut; None cuts large ones.
    """

    devices: tuple[str, ...]
    run: str
    assigns: bool
    partitioner: Partitioner | None = None


class RemoteStore(VariableStore):
    """Variables on parameter servers; those of metrics and the step this process is at stay here.

    A variable named `<other>/...` after another one lies where that one lies, split as that one if
    it is of its shape: so the slots of optimizers are beside their variables.

    Args:
        place: Where they go.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self._partitioner = place.partitioner or tf.compat.v1.min_max_variable_partitioner(
            max_partitions=len(place.devices), min_slice_size=_MIN_PART_BYTES
        )
        self._bytes = [0] * len(place.devices)
        self._remote: dict[str, tf.Variable | SplitVariable] = {}

    def adopt(self, name: str, variable: AnyVariable) -> None:
        """Refuses what others would not share.

        Raises:
            ConfigError: the variable was made outside of the model_fn.
        """
        if self.name_of(variable) is None:
            raise ConfigError(
                f"Variable {name!r} was made outside of model_fn, where each worker has its own: "
                "expected one that the parameter servers keep. Make it (or its layer or "
                "optimizer) inside model_fn; give an optimizer as a function that makes it.",
                reason=Reason.UNSUPPORTED,
            )

    def missing(self) -> list[str]:
        """Returns the names of variables that have no value on their servers yet."""
        return [
            name
            for name, variable in self._remote.items()
            if not all(bool(part.is_initialized()) for part in parts_of(variable))
        ]

    def _factory_of(self, name: str, *, local: bool) -> VariableFactory:
        if local or name == GLOBAL_STEP:
            return super()._factory_of(name, local=local)
        return functools.partial(self._make, name)

    def _note_initial(self, name: str, variable: tf.Variable, *, local: bool) -> None:
        """Nothing is evaluated with these variables, so nothing is reset."""

    def _make(
        self,
        full: str,
        initial: Any,
        *,
        name: str = "Variable",
        by_rows: bool = False,
        shape: Sequence[int] | None = None,
        dtype: tf.DType | str | None = None,
        trainable: bool | None = True,
        constraint: Callable[[tf.Tensor], tf.Tensor] | None = None,
        **options: object,
    ) -> tf.Variable | SplitVariable:
        del options  # there are no replicas to aggregate over
        value = None
        if self._place.assigns or shape is None or dtype is None:
            value = tf.convert_to_tensor(initial() if callable(initial) else initial, dtype)
            shape, dtype = value.shape, value.dtype
        sizes, kind = tuple(tf.TensorShape(shape).as_list()), tf.as_dtype(dtype)
        if kind in (tf.resource, tf.variant):
            raise ConfigError(
                f"Variable {full!r} cannot live on a parameter server: expected numbers or texts, "
                f"got {kind.name}.",
                reason=Reason.UNSUPPORTED,
            )
        trains = trainable is not False
        variable: tf.Variable | SplitVariable
        ranges = self._ranges(full, sizes, kind, by_rows=by_rows)
        if len(ranges) == 1:
            variable = RemoteVariable(
                name=name,
                shared_name=f"{self._place.run}/{full}",
                device=ranges[0][1],
                shape=sizes,
                dtype=kind,
                trainable=trains,
                constraint=constraint,
            )
        else:
            parts = [
                RemoteVariable(
                    name=f"{name}/part_{n}",
                    shared_name=f"{self._place.run}/{full}/part_{n}",
                    device=device,
                    shape=(rows, *sizes[1:]),
                    dtype=kind,
                )
                for n, (rows, device) in enumerate(ranges)
            ]
            variable = SplitVariable(name, parts, trainable=trains)
        if self._place.assigns:
            variable.assign(value)
        self._remote[full] = variable
        return variable

    def _ranges(
        self, full: str, sizes: tuple[int, ...], kind: tf.DType, *, by_rows: bool
    ) -> list[tuple[int, str]]:
        """Returns how many rows lie on which server, range after range."""
        beside = self._beside(full)
        if beside is not None:
            devices = [part.device for part in parts_of(beside)]
            if isinstance(beside, SplitVariable) and tuple(beside.shape) == sizes:
                return list(zip(beside.sizes, devices, strict=True))
            return [(sizes[0] if sizes else 1, devices[0])]
        rows = sizes[0] if sizes else 1
        count = self._parts(full, sizes, kind) if by_rows else 1
        row_bytes = int(kind.size or 8) * int(np.prod(sizes[1:], dtype=np.int64))
        ranges = []
        for part in range(count):
            own = rows // count + (part < rows % count)
            server = self._bytes.index(min(self._bytes))
            self._bytes[server] += own * row_bytes
            ranges.append((own, self._place.devices[server]))
        return ranges

    def _beside(self, full: str) -> tf.Variable | SplitVariable | None:
        name = full
        while "/" in name:
            name = name.rpartition("/")[0]
            if name in self._remote:
                return self._remote[name]
        return None

    def _parts(self, full: str, sizes: tuple[int, ...], kind: tf.DType) -> int:
        counts = [int(n) for n in self._partitioner(shape=tf.TensorShape(sizes), dtype=kind)]
        if len(counts) != len(sizes) or not 1 <= counts[0] <= sizes[0] or set(counts[1:]) - {1}:
            raise ConfigError(
                f"RunConfig.partitioner cuts table {full!r} of shape {list(sizes)} in a way that "
                f"cannot be followed: expected a number of parts for its rows and 1 for other "
                f"axes, got {counts}. Use a partitioner of axis 0.",
            )
        return counts[0]
