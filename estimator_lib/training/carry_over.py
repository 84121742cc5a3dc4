"""Warm start from a published model: each weight goes to where it means the same.

Ids change from one span of data to the next: vocabularies are ordered by count, boundaries are
quantiles. So rows of tables are matched by value: a category by its text, a bucket by the old one
its middle falls into, a combination of a cross by the combination. A category that is new starts
from the row of unknown ones, which is what it had; without such a row, anew. Other variables are
taken by name. Slots of optimizers and the count of steps start anew.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core import description, manifest, storage
from estimator_lib.core.config import Estimator
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason
from estimator_lib.core.progress import Progress
from estimator_lib.features.transform import FeatureTransform
from estimator_lib.protocols import Array
from estimator_lib.training import checkpoints, warm_start

CARRIED = "assets.extra"
"""Directory of a published model with what it carries of its training, beside the weights."""
COLUMNS = description.NAME
DECLARATION = "model.json"
_ANEW = "Train one model from the beginning with --set train.warm_start=null."
_MAX_COMBINATIONS = 1_000_000
"""Those of a larger cross are not enumerated: it starts anew."""
_FIRST_LAYERS = ("dnn/hiddenlayer_0/kernel", "dnn/logits/kernel")

Rows = Sequence[int | None]
"""For each new row the old row it starts from; None: it starts anew."""


def parent(model_dir: str) -> dict[str, Any]:
    """Returns what names a published model: its version, and the digests of it and its training.

    Raises:
        DataError: it is damaged.
    """
    found = manifest.verify(model_dir, deep=True)
    lineage = pathlib.Path(model_dir) / manifest.LINEAGE
    trained = json.loads(lineage.read_text()).get("model") if lineage.is_file() else None
    name = pathlib.Path(model_dir).name
    version = int(name) if name.isdigit() else name
    return {"version": version, "digest": found.digest, "model": trained}


def name_carried(model_dir: str, transform_dir: str) -> dict[str, str]:
    """Returns the files that a published model carries for its successors, by their names."""
    sources = {COLUMNS: transform_dir, DECLARATION: model_dir}
    return {name: str(pathlib.Path(folder) / name) for name, folder in sources.items()}


def settings(
    model_dir: str, columns: Mapping[str, fc.Column], declared: Estimator, scratch: str
) -> Any:
    """Returns the `WarmStartSettings` that carry a published model's weights over.

    Args:
        model_dir: A version below a serving directory.
        columns: The new model's resolved columns, by name in the configuration.
        declared: The new model.
        scratch: Directory for lists of rows; training reads them.

    Raises:
        ConfigError: the published model does not carry its columns.
    """
    old_columns, old_declared = _carried(pathlib.Path(model_dir))
    names = checkpoints.names(warm_start.find(model_dir))
    tables = dict(_tables(columns, old_columns))
    kernel = next((name for name in _FIRST_LAYERS if name in names), "")
    inputs = _dense_inputs(declared, columns), _dense_inputs(old_declared, old_columns)
    if kernel and all(inputs):
        tables[kernel] = _side_by_side(*inputs)
    moved = {name: tables.get(_table(name, tables), ()) for name in names}
    return warm_start.WarmStartSettings(
        ckpt_to_initialize_from=model_dir,
        vars_to_warm_start=[f"{re.escape(n)}$" for n in names if moved[n] is not None],
        var_name_to_vocab_info={
            name: _vocabulary(rows, pathlib.Path(scratch) / str(number))
            for number, (name, rows) in enumerate(moved.items())
            if rows
        },
    )


class Trainable(Protocol):
    """What is asked of the Estimator that trains."""

    def latest_checkpoint(self) -> str | None:
        """Returns the newest checkpoint's path, or None."""


@contextlib.contextmanager
def explain_errors(model_dir: str | None, estimator: Trainable) -> Iterator[None]:
    """Says what training starts from, and what to do where the weights there do not fit.

    Args:
        model_dir: The published model that training starts from, or None.
        estimator: What is trained; where it has a checkpoint already, that is gone on from.
    """
    begun = estimator.latest_checkpoint()
    if begun is not None:
        Progress("train").line(f"train  goes on from step {begun.rpartition('-')[2]}")
    elif model_dir is not None:
        Progress("train").line(f"train  starts from serving version {pathlib.Path(model_dir).name}")
    try:
        yield
    except EstimatorLibError as error:
        misfit = error.reason in (Reason.CONFLICT, Reason.UNKNOWN_NAME)
        if model_dir is None or not misfit or estimator.latest_checkpoint() is not None:
            raise
        raise ConfigError(
            f"The model does not fit the weights of the serving one it starts from: "
            f"{error.message} {_ANEW}",
            reason=error.reason,
        ) from error


def _carried(model_dir: pathlib.Path) -> tuple[dict[str, fc.Column], Estimator]:
    """Returns the columns and the declaration of a published model."""
    try:
        described = (model_dir / CARRIED / COLUMNS).read_bytes()
        declaration = json.loads((model_dir / CARRIED / DECLARATION).read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"The serving model {model_dir} cannot be started from: it carries no {CARRIED}, which "
            f"this release publishes. {_ANEW}",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    estimator = Estimator.model_validate(declaration["config"]["estimator"])
    return dict(description.parse(described, str(model_dir / CARRIED / COLUMNS)).columns), estimator


def _tables(
    columns: Mapping[str, fc.Column], old_columns: Mapping[str, fc.Column]
) -> Iterator[tuple[str, Rows | None]]:
    """Yields the ends of variables' names and how their rows move; None: they start anew.

    An empty sequence stands for rows that stay as they are.
    """
    before = {column.name: column for column in fc.walk(old_columns.values())}
    for column in fc.walk(columns.values()):
        old = before.get(column.name)
        if isinstance(column, fc.EmbeddingColumn) and isinstance(old, fc.EmbeddingColumn):
            shared = isinstance(column, fc.SharedEmbeddingColumn)
            scope = column.collection if shared else column.name  # type: ignore[attr-defined]
            same = column.width == old.width
            rows = _rows(column.categorical_column, old.categorical_column) if same else None
            yield f"{scope}/embedding_weights", _unless_same(rows, old.categorical_column)
        elif isinstance(column, fc.IndicatorColumn) and isinstance(old, fc.IndicatorColumn):
            rows = _rows(column.categorical_column, old.categorical_column)
            yield f"{column.name}/weights", _unless_same(rows, old.categorical_column)
        elif isinstance(column, fc.CategoricalColumn) and isinstance(old, fc.CategoricalColumn):
            yield f"{column.name}/weights", _unless_same(_rows(column, old), old)


def _table(variable: str, ends: Mapping[str, Any]) -> str:
    """Returns the longest of `ends` that a variable's name ends with; "" if none does."""
    parts = variable.split("/")
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if tail in ends), "")


def _unless_same(rows: Rows | None, old: fc.CategoricalColumn) -> Rows | None:
    return () if rows is not None and list(rows) == list(range(old.num_buckets)) else rows


def _rows(column: fc.CategoricalColumn, old: fc.CategoricalColumn) -> Rows | None:
    """Matches the ids of a column with those it had; None where that cannot be done."""
    match column, old:
        case fc.VocabularyColumn(), fc.VocabularyColumn():
            return _by_text(column, old)
        case fc.BucketizedColumn(), fc.BucketizedColumn():
            return _by_middle(tuple(column.boundaries), tuple(old.boundaries))  # type: ignore[arg-type]
        case fc.CrossedColumn(), fc.CrossedColumn():
            return _by_combination(column, old)
        case fc.WeightedColumn(), fc.WeightedColumn():
            return _rows(column.categorical_column, old.categorical_column)
        case fc.SequenceCategoricalColumn(), fc.SequenceCategoricalColumn():
            return _rows(column.categorical_column, old.categorical_column)
        case fc.IdentityColumn(), fc.IdentityColumn():
            return [i if i < old.buckets else None for i in range(column.buckets)]
    same = type(column) is type(old) and column.num_buckets == old.num_buckets
    return range(column.num_buckets) if same else None


def _by_text(column: fc.VocabularyColumn, old: fc.VocabularyColumn) -> Rows:
    tokens, before = _tokens(column), _tokens(old)
    places = {token: place for place, token in enumerate(before)}
    unknown = len(before) if old.num_oov_buckets == 1 else None
    rows: list[int | None] = [places.get(token, unknown) for token in tokens]
    buckets = range(column.num_oov_buckets)
    same = column.num_oov_buckets == old.num_oov_buckets
    return rows + [len(before) + bucket if same else None for bucket in buckets]


def _tokens(column: fc.VocabularyColumn) -> tuple[Any, ...]:
    return tuple(column.vocabulary)  # type: ignore[arg-type]


def _by_middle(boundaries: Sequence[float], old: Sequence[float]) -> Rows:
    if not boundaries:
        return [0]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(boundaries)]
    inner: list[int | None] = [bisect.bisect_right(old, middle) for middle in middles]
    return [0, *inner, len(old)]


def _by_combination(column: fc.CrossedColumn, old: fc.CrossedColumn) -> Rows | None:
    """Matches combinations; where several share a row, that of the lowest ids has it."""
    import numpy as np

    leaves, before = _leaves(column), _leaves(old)
    if [_name(leaf) for leaf in leaves] != [_name(leaf) for leaf in before]:
        return None
    pairs = list(zip(leaves, before, strict=True))
    maps = [_leaf_rows(*pair) for pair in pairs]
    sized = column.hash_bucket_size == old.hash_bucket_size and column.hash_key == old.hash_key
    if sized and all(rows == () for rows in maps):
        return range(column.hash_bucket_size)
    if any(isinstance(leaf, str) for leaf in leaves) or any(rows is None for rows in maps):
        return None
    sizes = [leaf.num_buckets for leaf in leaves]  # type: ignore[union-attr]
    if math.prod(sizes) > _MAX_COMBINATIONS:
        return None
    ids = np.indices(sizes).reshape(len(sizes), -1)
    ids = ids[:, np.argsort(-ids.sum(0), kind="stable")]  # the most frequent ones last
    moves = [
        np.array([-1 if row is None else row for row in rows or range(size)])
        for rows, size in zip(maps, sizes, strict=True)
    ]
    was = np.stack([move[part] for move, part in zip(moves, ids, strict=True)])
    known = (was >= 0).all(0)
    found: list[int | None] = [None] * column.hash_bucket_size
    places = _hashed(column, ids[:, known]), _hashed(old, was[:, known])
    for new_row, old_row in zip(*places, strict=True):
        found[new_row] = old_row
    return found


def _leaves(column: fc.CrossedColumn) -> list[str | fc.CategoricalColumn]:
    found: list[str | fc.CategoricalColumn] = []
    for key in column.keys:
        found.extend(_leaves(key) if isinstance(key, fc.CrossedColumn) else [key])
    return found


def _name(leaf: str | fc.CategoricalColumn) -> str:
    return leaf if isinstance(leaf, str) else leaf.name


def _leaf_rows(leaf: str | fc.CategoricalColumn, old: str | fc.CategoricalColumn) -> Rows | None:
    """How the ids of a part of a cross move: () if they stay, None if that is not known."""
    if isinstance(leaf, str) or isinstance(old, str):
        return () if leaf == old else None
    return _unless_same(_rows(leaf, old), old)


def _hashed(column: fc.CrossedColumn, ids: Array) -> list[int]:
    """Returns the rows of combinations of ids, int64 `[parts, combinations]`."""
    parts = [
        fc.IdentityColumn(key=str(number), buckets=int(part.max(initial=0)) + 1)
        for number, part in enumerate(ids)
    ]
    crossed = fc.CrossedColumn(
        keys=tuple(parts), hash_bucket_size=column.hash_bucket_size, hash_key=column.hash_key
    )
    raw = {part.key: tf.constant(values) for part, values in zip(parts, ids, strict=True)}
    (rows,) = FeatureTransform([crossed])(raw).values()
    return [int(row) for row in rows.numpy()]


def _dense_inputs(declared: Estimator, columns: Mapping[str, fc.Column]) -> list[fc.Column]:
    """Returns what a ready-made DNN reads, in the order of its first layer's rows."""
    if not (declared.name or "").startswith("DNN"):
        return []
    names: Any = declared.args.get("dnn_feature_columns", declared.args.get("feature_columns", []))
    return sorted((columns[name] for name in names), key=lambda column: column.name)


def _side_by_side(columns: Sequence[fc.Column], old: Sequence[fc.Column]) -> Rows:
    """Matches the rows of a layer over columns that lie side by side."""
    offsets, total = {}, 0
    for column in old:
        offsets[column.name] = (total, column)
        total += _width(column)
    rows: list[int | None] = []
    for column in columns:
        start, before = offsets.get(column.name, (0, None))
        own = None if before is None else _dense_rows(column, before)
        if own is None:
            own = [None] * _width(column)
        rows += [None if row is None else start + row for row in own]
    return () if rows == list(range(total)) else rows


def _dense_rows(column: fc.Column, old: fc.Column) -> Rows | None:
    if isinstance(column, fc.IndicatorColumn) and isinstance(old, fc.IndicatorColumn):
        return _rows(column.categorical_column, old.categorical_column)
    if isinstance(column, fc.CategoricalColumn) and isinstance(old, fc.CategoricalColumn):
        return _rows(column, old)
    width = _width(column)
    return range(width) if width == _width(old) else None


def _width(column: fc.Column) -> int:
    match column:
        case fc.IndicatorColumn():
            return column.categorical_column.num_buckets
        case fc.CategoricalColumn():
            return column.num_buckets
        case fc.NumericColumn():
            return math.prod(column.shape)
    return int(getattr(column, "width", 1))


def _vocabulary(rows: Rows, path: pathlib.Path) -> Any:
    """Returns the VocabInfo by which `rows` move: the "tokens" are numbers of old rows."""
    highest = max((row for row in rows if row is not None), default=-1)
    new, old = f"{path}-new.txt", f"{path}-old.txt"
    storage.write_text(new, "".join("anew\n" if row is None else f"{row}\n" for row in rows))
    storage.write_text(old, "".join(f"{row}\n" for row in range(highest + 1)))
    return warm_start.VocabInfo(
        new_vocab=new, new_vocab_size=len(rows), num_oov_buckets=0, old_vocab=old
    )
