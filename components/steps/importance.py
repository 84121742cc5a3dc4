"""Permutation importance of a trained model: raw fields are shuffled in the eval split."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.steps import model as artifact
from components.steps.scoring import BATCH_ROWS, Scored
from estimator_lib.core import manifest, storage
from estimator_lib.core.config import Importance
from estimator_lib.core.progress import Progress
from estimator_lib.evaluation import Problem, of_head, permutation_importance, results
from estimator_lib.export.serving_inputs import raw_transform
from transforms.applying import raw_rows

MAX_PREDICTIONS = 400_000
"""Rows that are predicted in all at most; of many fields, fewer rows are drawn."""
MIN_ROWS = 200


def measured(
    problem: Problem,
    wanted: Importance,
    trained: artifact.Trained,
    scored: Scored,
    examples_dir: str,
    transform_dir: str,
) -> results.Importance | dict[str, results.Importance] | None:
    """Measures how much worse the model gets when a raw field is shuffled.

    Everything that is computed from the field is computed again: a cross gets the combination
    of the shuffled value with the row's own other ones. Says how long it took.

    Args:
        problem: What the model predicts.
        wanted: How.
        trained: The model.
        scored: The eval split.
        examples_dir: What preprocess wrote, with the raw eval rows.
        transform_dir: What preprocess wrote.

    Returns:
        The importance, or one by head; None if it is switched off, or if the raw
        rows are not there.
    """
    began = time.monotonic()
    metadata = manifest.read(examples_dir, kind="examples").metadata
    fields = sorted(metadata["raw_fields"])
    total = int(metadata["splits"]["eval"]["rows"])
    passes = 1 + len(fields) * wanted.repeats
    rows = min(wanted.rows, total, max(MIN_ROWS, MAX_PREDICTIONS // passes))
    if rows < 2 or not metadata["raw_eval"]:
        return None
    drawn = np.sort(np.random.default_rng(wanted.seed).choice(total, rows, replace=False))
    raw = raw_at(examples_dir, metadata["raw_eval"], drawn)
    predicted = trained.estimator.predict(
        shuffles(raw, transform_dir, wanted),
        checkpoint_path=trained.checkpoint,
        yield_single_examples=False,
    )
    found = [of_head(batch, problem) for batch in predicted]

    def compared(own: Problem, of: Callable[[Any], Any]) -> results.Importance:
        """Of one head, with what takes the arrays of one head."""
        by_field = {
            field: [of(batch) for batch in found[1 + at * wanted.repeats :][: wanted.repeats]]
            for at, field in enumerate(fields)
        }
        weights = None if scored.weights is None else scored.weights.take(drawn)
        return permutation_importance(
            own, of(scored.labels).take(drawn), of(found[0]), by_field, weights, raw
        )

    heads = problem.heads.items()
    by_head = {name: compared(own, operator.itemgetter(name)) for name, own in heads}
    result = by_head or compared(problem, lambda arrays: arrays)
    Progress("importance").line(
        f"importance  {len(fields)} fields shuffled {wanted.repeats} times in {rows:,} rows, "
        f"{time.monotonic() - began:.1f} s"
    )
    return result


def raw_at(
    examples_dir: str, files: Sequence[str], positions: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Returns the raw rows at ascending positions of a split, as a request gives them."""
    parts, first = [], 0
    for name in files:
        for batch in pq.ParquetFile(storage.safe_join(examples_dir, name)).iter_batches(BATCH_ROWS):
            end = first + batch.num_rows
            at = positions[(positions >= first) & (positions < end)] - first
            parts.append(batch.take(pa.array(at)))
            first = end
    return raw_rows.arrays(pa.Table.from_batches(parts))


def shuffles(raw: Mapping[str, Any], transform_dir: str, wanted: Importance) -> Any:
    """Returns an input_fn of whole batches: the rows as they are, then each field's shuffles.

    Args:
        raw: Raw rows as a request gives them.
        transform_dir: What preprocess wrote.
        wanted: How often, and from which seed; the same shuffles serve every field.
    """
    rows = len(next(iter(raw.values())))
    rng = np.random.default_rng([wanted.seed, rows])
    # The first order changes nothing.
    orders = np.stack([np.arange(rows), *(rng.permutation(rows) for _ in range(wanted.repeats))])
    passes = np.zeros((1 + len(raw) * wanted.repeats, len(raw)), np.int64)
    for at in range(len(raw)):
        own = 1 + at * wanted.repeats
        passes[own : own + wanted.repeats, at] = np.arange(1, 1 + wanted.repeats)

    def input_fn() -> Any:
        transform, known = raw_transform(transform_dir), tf.constant(orders)
        tensors = {name: tf.constant(raw[name]) for name in sorted(raw)}

        def batch(which: Any) -> dict[str, Any]:
            return transform(
                {n: tf.gather(t, known[which[at]]) for at, (n, t) in enumerate(tensors.items())}
            )

        return tf.data.Dataset.from_tensor_slices(passes).map(batch)

    return input_fn
