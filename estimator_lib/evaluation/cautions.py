"""What a run's numbers should make one doubt: few, plain warnings; layer 3 (core only).

Each is one sentence with the field or number that it is about and one thing to do. None changes
the verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from estimator_lib.core import labels
from estimator_lib.evaluation.feature_statistics import FeatureComparison
from estimator_lib.evaluation.results import Evaluation, Importance

FEW_ROWS = 200
FEW_OF_A_CLASS = 30
GIVEN_AWAY = 0.97
"""An AUC that is hardly ever honest, if a model has none without one field."""
ALONE = 0.99
"""An AUC of a field by itself that is hardly ever honest; good measurements reach 0.98."""
IDENTIFIER = 0.5
"""The share of distinct texts from which on a vocabulary learns rows by heart."""
LEAST_IDENTIFIERS = 100
WORSE = 1.1
"""How much larger than the best loss the last one is when the model has begun to overfit."""
SHOWN = 5


def cautions(
    evaluation: Evaluation,
    *,
    label: labels.Label,
    counts: Mapping[str, Any],
    features: Sequence[FeatureComparison],
    read: Collection[str],
    vocabularies: Mapping[str, int],
    history: Sequence[Mapping[str, Any]],
) -> tuple[str, ...]:
    """Returns what is doubtful about a model, the worst first.

    Args:
        evaluation: What was found.
        label: What it learned.
        counts: Per split, rows kept and those of each class, as the manifest of examples has them.
        features: Statistics of the fields by split.
        read: The raw fields that the model reads.
        vocabularies: Those of them that are looked up in a vocabulary, with its size.
        history: Losses and evaluations during training, by step.
    """
    # Training may have gone on from the weights that are judged, and come back to them.
    end = evaluation.step
    history = [entry for entry in history if end is None or entry.get("step", 0) <= end]
    mine = [feature for feature in features if feature["name"] in read]
    return (
        *_given_away(evaluation),
        *_missing_classes(label, counts),
        *_missing_labels(label, features),
        *_few_rows(label, counts),
        *(tuple(_diverged(label, history)) or _overfitted(history)),
        *_identifiers(mine, vocabularies),
        *_constants(mine),
    )


def _given_away(evaluation: Evaluation) -> Iterator[str]:
    found: list[tuple[str, Importance | None]] = [("", evaluation.importance)]
    found += [(part.name, part.importance) for part in evaluation.parts]
    for name, importance in found:
        if importance is None or not importance.features:
            continue
        of = f" of {name}" if name else ""
        told = {f.field: f.alone for f in sorted(importance.features, key=lambda f: f.field)
                if (f.alone or 0.0) >= ALONE}  # fmt: skip
        if told:
            fields = _listed([repr(field) for field in told])
            aucs = _listed([f"{auc:.4f}" for auc in told.values()])
            yield (
                f"{'Field' if len(told) == 1 else 'Each of the fields'} {fields} alone gives the "
                f"label{of} away: AUC is {aucs} without any model. Make sure that it is known "
                "when the model is asked."
            )
            continue
        if not importance.metric.startswith("auc"):
            continue
        first, base = importance.features[0], importance.base or 0.0
        # Without the field the model is a coin again, or nearly.
        if base >= GIVEN_AWAY and (first.worse_by or 0.0) >= 0.8 * (base - 0.5):
            yield (
                f"Field {first.field!r} alone gives the label{of} away: AUC is {base:.4f}, and "
                f"{base - (first.worse_by or 0.0):.4f} without it. Make sure that it is known when "
                "the model is asked."
            )


def _by_head(
    label: labels.Label, split: Mapping[str, Any]
) -> Iterator[tuple[Any, Mapping[str, int]]]:
    known = split.get("label", {})
    several = isinstance(label, labels.SeveralLabels)
    for head, own in labels.heads(label).items():
        if isinstance(own, labels.ClassLabel):
            yield own, known.get(head, {}) if several else known


def _missing_classes(label: labels.Label, counts: Mapping[str, Any]) -> Iterator[str]:
    for own, rows in _by_head(label, counts.get("train", {})):
        absent = [name for name in own.classes if not rows.get(name)]
        if absent:
            yield (
                f"No train row of {own.field!r} is {_listed(absent)}: the model cannot learn such "
                "a class. Split otherwise, or leave the class out."
            )


def _missing_labels(label: labels.Label, features: Sequence[FeatureComparison]) -> Iterator[str]:
    """Those of several labels to a row, each of which is a field of 0 and 1."""
    trained = {one["name"]: one["splits"].get("train") for one in features}
    for own in labels.heads(label).values():
        if isinstance(own, labels.MultiLabel):
            found = {
                name: trained.get(field)
                for field, name in zip(own.fields, own.classes, strict=True)
            }
            absent = [name for name, train in found.items() if train and train["max"] == 0.0]
            if absent:
                yield (
                    f"No train row has the label {_listed(absent)}: the model cannot learn it. "
                    "Split otherwise, or leave the label out."
                )


def _few_rows(label: labels.Label, counts: Mapping[str, Any]) -> Iterator[str]:
    split = counts.get("eval", {})
    kept = split.get("kept", FEW_ROWS)
    if kept < FEW_ROWS:
        yield (
            f"The eval split has {kept:,} rows, too few to judge a model by: expected at least "
            f"{FEW_ROWS}. Trust the intervals, not the numbers."
        )
        return
    for own, rows in _by_head(label, split):
        few = [f"{name} {rows.get(name, 0):,}" for name in own.classes
               if rows.get(name, 0) < FEW_OF_A_CLASS]  # fmt: skip
        if few:
            yield (
                f"Few eval rows of {own.field!r} are of some classes ({_listed(few)}): with less "
                f"than {FEW_OF_A_CLASS} a metric says little. Evaluate on more rows."
            )


def _diverged(label: labels.Label, history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    losses = [entry["loss"] for entry in history if entry.get("loss") is not None]
    if len(losses) < 3:
        return
    first, last = losses[0], losses[-1]
    # The last one may be of a few steps only.
    usual = statistics.median(losses[1:][-3:])
    if usual > 2 * first > 0:
        told = f"grew from {first:.4g} to {last:.4g}"
    elif usual >= first and usual > 2 * _of_guesses(label):
        told = (
            f"was {first:.4g} at first and is {last:.4g}, where guesses without any field have "
            f"{_of_guesses(label):.4g}"
        )
    else:
        return
    yield f"The training loss {told}: training diverged. Lower the learning rate."


def _of_guesses(label: labels.Label) -> float:
    """The loss of a model that finds all classes equally likely; infinite of other labels."""
    return math.log(len(label.classes)) if isinstance(label, labels.ClassLabel) else math.inf


def _overfitted(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    found = [
        (float(loss), entry["step"]) for entry in history if (loss := _evaluated(entry)) is not None
    ]
    if len(found) < 3:
        return
    best, step = min(found)
    last, end = found[-1]
    if best > 0 and last > WORSE * best:
        yield (
            f"The loss on unseen rows was best at step {step:,} ({best:.4g}) and is {last:.4g} at "
            f"step {end:,}: the model has begun to overfit. Use train.early_stopping."
        )


def _evaluated(entry: Mapping[str, Any]) -> Any:
    metrics = entry.get("metrics") or {}
    return metrics.get("average_loss", metrics.get("loss"))


def _identifiers(
    features: Sequence[FeatureComparison], vocabularies: Mapping[str, int]
) -> Iterator[str]:
    for feature in features:
        train = feature["splits"].get("train")
        if train is None:
            continue
        learned, values = vocabularies.get(feature["name"], 0), train["values"]
        if learned >= LEAST_IDENTIFIERS and learned > IDENTIFIER * values:
            yield (
                f"Field {feature['name']!r} looks like an identifier: {learned:,} different values "
                f"among {values:,} are learned by heart. Leave it out, or hash it."
            )


def _constants(features: Sequence[FeatureComparison]) -> Iterator[str]:
    constant, empty = [], []
    for feature in features:
        train = feature["splits"].get("train")
        if train is None or not train["rows"]:
            continue
        if train["missing"] == train["rows"]:
            empty.append(feature["name"])
        elif not train["missing"] and (
            train["min"] == train["max"] if train["type"] == "number" else train["distinct"] == 1
        ):
            constant.append(feature["name"])
    for what, names in (("The same value", constant), ("No value", empty)):
        if names:
            yield (
                f"{what} in every train row: {_listed(sorted(names))}. A model learns nothing "
                "from such a field; leave it out."
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
