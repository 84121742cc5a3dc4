"""SGD, Adagrad, Adam, RMSProp and Ftrl with the numerics of `tf.keras.optimizers.legacy`.

Layer 2. Defaults are those of the legacy classes, with one exception: Adagrad's learning rate
is 0.05, as in the first tf.estimator, not the 0.001 of its second (see `canned.networks`).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.optimizers._base import Optimizer, UniqueRows, dense_of, rewrite_rows


class SGD(Optimizer):
    """Gradient descent: var -= rate * grad, with momentum if given.

    Args:
        learning_rate: See `Optimizer`, as for the last four arguments.
        momentum: Share of the last step that is repeated, in [0, 1].
        nesterov: Looks ahead by one step of momentum.
        clipnorm: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        weight_decay: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            weight_decay=weight_decay,
        )
        if not 0 <= momentum <= 1:
            raise self._invalid("momentum", "a number in [0, 1]", momentum)
        self.momentum = momentum
        self.nesterov = nesterov
        self.rows_as_dense = momentum == 0  # type: ignore[misc]

    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        del step
        if not self.momentum:
            return tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=rate, delta=grad
            )
        return tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self._slot(variable, "momentum").handle,
            lr=rate,
            grad=grad,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )

    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        del step
        if not self.momentum:
            return tf.raw_ops.ResourceScatterAdd(
                resource=variable.handle, indices=grad.indices, updates=-rate * grad.values
            )
        if variables.for_xla():
            momentum = self._slot(variable, "momentum")

            def changed(g: tf.Tensor, row: tf.Tensor, moving: tf.Tensor) -> tuple[tf.Tensor, ...]:
                moving = self.momentum * moving - rate * g
                ahead = self.momentum * moving - rate * g if self.nesterov else moving
                return row + ahead, moving

            return rewrite_rows(grad, changed, variable, momentum)
        return tf.raw_ops.ResourceSparseApplyKerasMomentum(
            var=variable.handle,
            accum=self._slot(variable, "momentum").handle,
            lr=rate,
            grad=grad.values,
            indices=grad.indices,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class Adagrad(Optimizer):
    """Steps shrink by the root of the sum of squared gradients.

    Args:
        learning_rate: See `Optimizer`, as for the last four arguments.
        initial_accumulator_value: The sum of squares at the start.
        epsilon: Added to the root.
        clipnorm: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        weight_decay: See `Optimizer`.

    References: Duchi et al., JMLR 12 (2011).
    """

    rows_as_dense = True

    def __init__(
        self,
        learning_rate: Any = 0.05,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            weight_decay=weight_decay,
        )
        if initial_accumulator_value < 0:
            raise self._invalid(
                "initial_accumulator_value", "a number >= 0", initial_accumulator_value
            )
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        del step
        accumulator = self._slot(variable, "accumulator", self.initial_accumulator_value)
        return tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle, accum=accumulator.handle, lr=rate, epsilon=self.epsilon, grad=grad
        )

    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        del step
        accumulator = self._slot(variable, "accumulator", self.initial_accumulator_value)
        if variables.for_xla():

            def changed(g: tf.Tensor, row: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
                total += tf.square(g)
                return row - rate * g / (tf.sqrt(total) + self.epsilon), total

            return rewrite_rows(grad, changed, variable, accumulator)
        return tf.raw_ops.ResourceSparseApplyAdagradV2(
            var=variable.handle,
            accum=accumulator.handle,
            lr=rate,
            epsilon=self.epsilon,
            grad=grad.values,
            indices=grad.indices,
        )


class Adam(Optimizer):
    """Steps by running means of gradients and of their squares, corrected for their start.

    Rows of a table that have no gradient move too, as with the legacy class.

    Args:
        learning_rate: See `Optimizer`, as for the last four arguments.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squares.
        epsilon: Added to the root ("epsilon hat" of the paper).
        clipnorm: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        weight_decay: See `Optimizer`.

    References: Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101.
    """

    rows_as_dense = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            weight_decay=weight_decay,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._slot(variable, "m").handle,
            v=self._slot(variable, "v").handle,
            beta1_power=tf.pow(self.beta_1, step + 1.0),
            beta2_power=tf.pow(self.beta_2, step + 1.0),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=grad,
        )

    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        return self._apply_dense(dense_of(grad, variable), variable, rate, step)


class RMSProp(Optimizer):
    """Steps shrink by the root of a running mean of squared gradients.

    Args:
        learning_rate: See `Optimizer`, as for the last four arguments.
        rho: Decay of the mean of squares.
        momentum: Share of the last step that is repeated.
        epsilon: Added to the root; under it with momentum, as in the legacy class.
        clipnorm: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        weight_decay: See `Optimizer`.

    References: Tieleman and Hinton, Coursera: Neural Networks for Machine Learning (2012).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            weight_decay=weight_decay,
        )
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.rows_as_dense = momentum == 0  # type: ignore[misc]

    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        del step
        squares = self._slot(variable, "rms")
        if self.momentum:
            return tf.raw_ops.ResourceApplyRMSProp(
                var=variable.handle,
                ms=squares.handle,
                mom=self._slot(variable, "momentum").handle,
                lr=rate,
                rho=self.rho,
                momentum=self.momentum,
                epsilon=self.epsilon,
                grad=grad,
            )
        mean = self.rho * squares + (1.0 - self.rho) * tf.square(grad)
        change = rate * grad / (tf.sqrt(mean) + self.epsilon)
        return tf.group(squares.assign(mean), variable.assign_sub(change))

    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        if not self.momentum:
            return self._apply_dense(dense_of(grad, variable), variable, rate, step)
        if variables.for_xla():

            def changed(
                g: tf.Tensor, row: tf.Tensor, squares: tf.Tensor, moving: tf.Tensor
            ) -> tuple[tf.Tensor, ...]:
                squares = self.rho * squares + (1.0 - self.rho) * tf.square(g)
                moving = self.momentum * moving + rate * g / tf.sqrt(squares + self.epsilon)
                return row - moving, squares, moving

            slots = (self._slot(variable, name) for name in ("rms", "momentum"))
            return rewrite_rows(grad, changed, variable, *slots)
        return tf.raw_ops.ResourceSparseApplyRMSProp(
            var=variable.handle,
            ms=self._slot(variable, "rms").handle,
            mom=self._slot(variable, "momentum").handle,
            lr=rate,
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=grad.values,
            indices=grad.indices,
        )


class Ftrl(Optimizer):
    """Follow the regularized leader: sparse weights by l1, for linear models.

    Args:
        learning_rate: See `Optimizer`, as for the last four arguments.
        learning_rate_power: How the rate falls with the sum of squares; at most 0.
        initial_accumulator_value: The sum of squares at the start.
        l1_regularization_strength: Keeps weights at exactly 0 that gain less than this.
        l2_regularization_strength: Pulls weights towards 0.
        l2_shrinkage_regularization_strength: The same, through the gradient.
        beta: Added to the root of the sum of squares, as in the paper.
        clipnorm: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        weight_decay: See `Optimizer`.

    References: McMahan et al., Ad click prediction, KDD 2013.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            weight_decay=weight_decay,
        )
        if learning_rate_power > 0:
            raise self._invalid("learning_rate_power", "a number <= 0", learning_rate_power)
        for name, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0:
                raise self._invalid(name, "a number >= 0", value)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def _slots(self, variable: Any) -> tuple[Any, Any]:
        accumulator = self._slot(variable, "accumulator", self.initial_accumulator_value)
        return accumulator, self._slot(variable, "linear")

    def _l2(self, rate: Any) -> Any:
        # beta is an l2 that grows as the rate falls, as in the legacy class.
        l2 = self.l2_regularization_strength
        return l2 + self.beta / (2.0 * rate) if self.beta else l2

    def _arguments(self, variable: Any, rate: Any) -> dict[str, Any]:
        accumulator, linear = self._slots(variable)
        return {
            "var": variable.handle,
            "accum": accumulator.handle,
            "linear": linear.handle,
            "lr": rate,
            "l1": self.l1_regularization_strength,
            "l2": self._l2(rate),
            "l2_shrinkage": self.l2_shrinkage_regularization_strength,
            "lr_power": self.learning_rate_power,
        }

    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        del step
        return tf.raw_ops.ResourceApplyFtrlV2(grad=grad, **self._arguments(variable, rate))

    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        del step
        if variables.for_xla():
            l1, l2 = self.l1_regularization_strength, self._l2(rate)

            def root(total: tf.Tensor) -> tf.Tensor:
                power = -self.learning_rate_power
                return tf.sqrt(total) if power == 0.5 else tf.pow(total, power)

            def changed(
                g: tf.Tensor, row: tf.Tensor, total: tf.Tensor, linear: tf.Tensor
            ) -> tuple[tf.Tensor, ...]:
                more = total + tf.square(g)
                shrunk = g + 2.0 * self.l2_shrinkage_regularization_strength * row
                linear += shrunk - (root(more) - root(total)) / rate * row
                cut = tf.clip_by_value(linear, -l1, l1) - linear
                return cut / (root(more) / rate + 2.0 * l2), more, linear

            return rewrite_rows(grad, changed, variable, *self._slots(variable))
        return tf.raw_ops.ResourceSparseApplyFtrlV2(
            grad=grad.values, indices=grad.indices, **self._arguments(variable, rate)
        )
