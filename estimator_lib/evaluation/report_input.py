"""What a report tells; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.results import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportInput:
    """What a report tells; everything but name and evaluation may be left out.

    Attributes:
        name: Of the model.
        evaluation: What was found.
        description: One sentence: what the model predicts.
        created: When, as it should read.
        positive: What label 1 means, such as "late"; for binary models.
        history: Training curve: `{"step": int, "loss": float | None, "metrics": {name: float}}`
            in order of step. `loss` is that of training, `metrics` those of an evaluation.
        features: From `feature_statistics.compare`.
        rows: Label to a number of rows, such as {"Train rows": 245_000}.
        durations_s: Step to seconds.
        facts: Label to text: data fingerprint, code version, configuration digest and so on.
        configuration: The run configuration as text.
    """

    name: str
    evaluation: Evaluation
    description: str = ""
    created: str = ""
    positive: str = "positive"
    history: Sequence[Mapping[str, Any]] = ()
    features: Sequence[fs.FeatureComparison] = ()
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    durations_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    configuration: str = ""
