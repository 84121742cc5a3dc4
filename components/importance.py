"""Permutation importance of a trained model: raw fields are shuffled in the eval split."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.config import Importance
from estimator_lib.core.progress import Progress

MAX_PREDICTIONS = 400_000
"""Rows that are predicted in all at most; of many fields, fewer rows are drawn."""
MIN_ROWS = 200


def measured(
    problem: Any, wanted: Importance, trained: Any, examples_dir: str, transform_dir: str
) -> Any:
    """Measures how much worse the model gets when a raw field is shuffled.

    Everything that is computed from the field, crosses included, takes the values that it has
    in another row. Says how long it took.

    Args:
        problem: What the model predicts.
        wanted: How.
        trained: A `components.model.Trained`.
        examples_dir: What preprocess wrote.
        transform_dir: What preprocess wrote.

    Returns:
        An `evaluation.Importance`; None if it is switched off or the model reads nothing.
    """
    import numpy as np

    from components import model
    from estimator_lib.core import manifest
    from estimator_lib.evaluation import of_head, permutation_importance

    began = time.monotonic()
    metadata = manifest.read(examples_dir, kind="examples").metadata
    fields = features_by_field(model.read_columns(transform_dir), metadata["features"])
    total = int(metadata["splits"]["eval"]["rows"])
    passes = 1 + len(fields) * wanted.repeats
    rows = min(wanted.rows, total, max(MIN_ROWS, MAX_PREDICTIONS // passes))
    if not fields or rows < 2:
        return None
    drawn = np.sort(np.random.default_rng(wanted.seed).choice(total, rows, replace=False))
    features, labels = _rows(examples_dir, drawn)
    predicted = trained.estimator.predict(
        _shuffles(features, list(fields.values()), rows, wanted),
        checkpoint_path=trained.checkpoint,
        yield_single_examples=False,
    )
    found = [of_head(batch, problem) for batch in predicted]
    by_field = {
        field: found[1 + at * wanted.repeats : 1 + (at + 1) * wanted.repeats]
        for at, field in enumerate(fields)
    }
    weight = metadata["weight"]
    result = permutation_importance(
        problem, labels, found[0], by_field, features[weight].numpy() if weight else None
    )
    Progress("importance").line(
        f"importance  {len(fields)} fields shuffled {wanted.repeats} times in {rows:,} rows, "
        f"{time.monotonic() - began:.1f} s"
    )
    return result


def features_by_field(columns: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """Returns for each raw field the transformed features that read it, both in order of name.

    A feature that no column makes, such as an output of a user's function, is a field itself.

    Args:
        columns: Resolved columns by their name in the configuration.
        features: The features of the examples; others are left out.
    """
    from estimator_lib.core import columns as fc

    found: dict[str, list[str]] = {}
    sources = fc.feature_sources(columns.values())
    for name in features:
        for field in fc.raw_fields([sources[name]]) if name in sources else [name]:
            found.setdefault(field, []).append(name)
    return {field: sorted(found[field]) for field in sorted(found)}


def _rows(examples_dir: str, drawn: Any) -> tuple[dict[str, Any], Any]:
    """The drawn rows (ascending positions) of the eval split: tensors by feature, and labels."""
    import numpy as np
    import tensorflow as tf

    from components.scoring import BATCH_ROWS
    from estimator_lib.inputs.parquet import examples_input

    parts, labels, first = [], [], 0
    for features, label in examples_input(examples_dir, "eval", batch_size=BATCH_ROWS).dataset():
        size = int(label.shape[0])
        at = drawn[(drawn >= first) & (drawn < first + size)] - first
        parts.append({name: tf.gather(values, at) for name, values in features.items()})
        labels.append(label.numpy()[at])
        first += size
    together = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
    return together, np.concatenate(labels)


def _shuffles(features: Mapping[str, Any], groups: Any, rows: int, wanted: Importance) -> Any:
    """An input_fn of whole batches: the rows as they are, then each group's shuffles in turn."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng([wanted.seed, rows])
    # The first order changes nothing; the same shuffles serve every field.
    orders = np.stack([np.arange(rows), *(rng.permutation(rows) for _ in range(wanted.repeats))])
    names = sorted(features)
    shuffled = np.zeros((1 + len(groups) * wanted.repeats, len(names)), dtype=np.int64)
    for at, group in enumerate(groups):
        for repeat in range(wanted.repeats):
            for name in group:
                shuffled[1 + at * wanted.repeats + repeat, names.index(name)] = 1 + repeat

    def input_fn() -> Any:
        known = tf.constant(orders)

        def batch(which: Any) -> dict[str, Any]:
            return {
                name: tf.gather(features[name], known[which[at]]) for at, name in enumerate(names)
            }

        return tf.data.Dataset.from_tensor_slices(shuffled).map(batch)

    return input_fn
