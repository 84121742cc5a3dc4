"""Heads: everything after the logits, for each kind of label."""

from estimator_lib.heads._base import (
    Calibration,
    Head,
    LabelHead,
    NamedFeatures,
    Reduction,
    WeightColumn,
)
from estimator_lib.heads.binary import BinaryClassHead
from estimator_lib.heads.multi import MultiHead
from estimator_lib.heads.multiclass import MultiClassHead
from estimator_lib.heads.multilabel import MultiLabelHead
from estimator_lib.heads.ranking import PairwiseRankingHead
from estimator_lib.heads.regression import (
    LogisticRegressionHead,
    PoissonRegressionHead,
    QuantileRegressionHead,
    RegressionHead,
    TweedieRegressionHead,
)
from estimator_lib.heads.sequential import SequentialHead

__all__ = [
    "BinaryClassHead",
    "Calibration",
    "Head",
    "LabelHead",
    "LogisticRegressionHead",
    "MultiClassHead",
    "MultiHead",
    "MultiLabelHead",
    "NamedFeatures",
    "PairwiseRankingHead",
    "PoissonRegressionHead",
    "QuantileRegressionHead",
    "Reduction",
    "RegressionHead",
    "SequentialHead",
    "TweedieRegressionHead",
    "WeightColumn",
]
