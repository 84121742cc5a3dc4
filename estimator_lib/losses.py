"""Losses per example, and the one place that says how they are weighted and summed up.

Layer 2. A loss takes labels and logits and gives float32 `[batch, 1]` (or `[batch, dim]` in
regression), without weights; `reduce` does the rest.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, did_you_mean, quote

LossFn = Callable[..., tf.Tensor]
_SUMMED = "estimator_lib/summed_losses"


class LossReduction(enum.StrEnum):
    """How the losses of a batch become one number."""

    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"


def reduction_of(value: object) -> LossReduction:
    """Returns the reduction that `value` names: one of ours, its text or a constant of TensorFlow.

    Those are of Keras 2 ("sum") and of `tf.compat.v1.losses` ("weighted_sum").

    Raises:
        ConfigError: no such reduction.
    """
    text = str(getattr(value, "value", value)).lower().removeprefix("weighted_")
    if text == "auto":  # as Keras 2 read it outside of its own training
        return LossReduction.SUM_OVER_BATCH_SIZE
    try:
        return LossReduction(text)
    except ValueError:
        raise ConfigError(
            f"loss_reduction is invalid: got {quote(value)}."
            + did_you_mean(text, [r.value for r in LossReduction]),
        ) from None


def reduce(
    losses: tf.Tensor,
    weights: tf.Tensor | None = None,
    reduction: LossReduction = LossReduction.SUM_OVER_BATCH_SIZE,
) -> tf.Tensor:
    """Returns the training loss, a float32 scalar.

    The mean divides by the number of losses, not by the sum of weights, as tf.estimator does:
    two losses of 9 with weights 1 and 2 give 13.5.

    Args:
        losses: float32 `[batch, dim]`.
        weights: float32, broadcast to the losses; None means 1.
        reduction: Sum, or sum over the number of losses.
    """
    weighted = losses if weights is None else losses * weights
    total = tf.reduce_sum(weighted)
    if reduction == LossReduction.SUM:
        if not tf.executing_eagerly():
            tf.compat.v1.get_default_graph().add_to_collection(_SUMMED, total)
        return total
    return total / tf.cast(tf.maximum(tf.size(losses), 1), tf.float32)


def is_summed() -> bool:
    """Whether the graph being traced sums losses up: then those of replicas are summed, too."""
    return bool(tf.compat.v1.get_default_graph().get_collection(_SUMMED))


def sigmoid_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns -log p(label) of a Bernoulli; labels in [0, 1]; float32 of the logits' shape."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


def logistic_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `sigmoid_cross_entropy` of labels that are exactly 0 or 1, in fewer operations."""
    return tf.nn.softplus((1.0 - 2.0 * labels) * logits)


def softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns -log p(label), float32 `[batch, 1]`, of int64 labels `[batch, 1]`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.squeeze(labels, 1), logits=logits
    )
    return losses[:, tf.newaxis]


def squared_error(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns (label - logit) squared."""
    return tf.math.squared_difference(labels, logits)


def absolute_error(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns |label - logit|."""
    return tf.abs(labels - logits)


def poisson(*, full: bool = True) -> LossFn:
    """Returns the negative log likelihood of counts when the logit is the log of their mean.

    Args:
        full: Adds Stirling's approximation of log(label!), for labels above 1.
    """

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_poisson_loss(labels, logits, compute_full_loss=full)

    return loss


def focal(*, gamma: float = 2.0, alpha: float | None = None) -> LossFn:
    """Returns the focal loss of binary labels: easy examples weigh (1 - p) ** gamma.

    Args:
        gamma: 0 is the cross entropy.
        alpha: Weight of the positive class, 1 - alpha that of the negative; None weighs both 1.

    References: Lin et al., arXiv 1708.02002.
    """

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        entropy = sigmoid_cross_entropy(labels, logits)
        # 1 - p(label), from the logit, so that it does not round to 0 too early.
        wrong = tf.sigmoid((1.0 - 2.0 * labels) * logits)
        out = tf.pow(wrong, gamma) * entropy
        if alpha is not None:
            out *= labels * alpha + (1.0 - labels) * (1.0 - alpha)
        return out

    return loss


def smoothed(amount: float) -> LossFn:
    """Returns the cross entropy against labels that are mixed with the uniform distribution.

    Args:
        amount: Share of the uniform distribution, in [0, 1). Works for binary (one logit) and
            for multi-class heads.
    """
    _between("smoothed", "amount", amount, 0.0, 1.0)

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if logits.shape[-1] == 1:
            return sigmoid_cross_entropy(
                tf.cast(labels, tf.float32) * (1.0 - amount) + 0.5 * amount, logits
            )
        classes = logits.shape[-1]
        one_hot = tf.one_hot(tf.squeeze(labels, 1), classes, 1.0 - amount + amount / classes,
                             amount / classes)  # fmt: skip
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=logits)
        return losses[:, tf.newaxis]

    return loss


def quantile(levels: float | Sequence[float]) -> LossFn:
    """Returns the pinball loss; its minimum is at the given quantiles of the label.

    Args:
        levels: One level in (0, 1), or one per logit.
    """
    each = [levels] if isinstance(levels, int | float) else list(levels)
    for level in each:
        _between("quantile", "levels", level, 0.0, 1.0)

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        error = labels - logits
        level = tf.constant(each, tf.float32)
        return tf.maximum(level * error, (level - 1.0) * error)

    return loss


def huber(delta: float = 1.0) -> LossFn:
    """Returns half the squared error up to `delta`, and a line of slope `delta` beyond."""
    _between("huber", "delta", delta, 0.0, math.inf)

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        error = tf.abs(labels - logits)
        near = tf.minimum(error, delta)
        return 0.5 * tf.square(near) + delta * (error - near)

    return loss


def tweedie(power: float = 1.5) -> LossFn:
    """Returns the negative log likelihood (up to a constant) of a compound Poisson-gamma.

    The logit is the log of the mean; labels are >= 0, many of them exactly 0.

    Args:
        power: Variance power, strictly between 1 (Poisson) and 2 (gamma).
    """
    _between("tweedie", "power", power, 1.0, 2.0)

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        first = -labels * tf.exp((1.0 - power) * logits) / (1.0 - power)
        return first + tf.exp((2.0 - power) * logits) / (2.0 - power)

    return loss


def _between(loss: str, argument: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or (value in (low, high) and (loss, value) != ("smoothed", 0)):
        raise ConfigError(
            f"losses.{loss}: argument {argument} is invalid: expected a number between {low} and "
            f"{high}, got {quote(value)}.",
        )
