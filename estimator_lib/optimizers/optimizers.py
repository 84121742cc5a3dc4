"""SGD, Adagrad, Adam, RMSProp and Ftrl with the numerics of `tf.keras.optimizers.legacy`.

Layer 2. tf.estimator used those. Defaults are those of the legacy classes, with one exception:
Adagrad's learning rate is 0.05, as in the first tf.estimator, not the 0.001 of its second (see
`canned.networks`). In the equations w are the weights, g their gradient, t the step from 1 on;
all products, squares and roots are by element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import tensorflow as tf

from estimator_lib.core.constraints import Fraction, NotNegative, Share, Switch, number
from estimator_lib.optimizers._base import Apply, Fused, Now, Optimizer, Tensors
from estimator_lib.optimizers.gradients import UniqueRows
from estimator_lib.optimizers.schedules import Rate


@dataclasses.dataclass(frozen=True)
class _Descent:
    """SGD without momentum: TensorFlow's operations for it are a pair of their own."""

    rate: tf.Tensor
    rows_compile: ClassVar[bool] = True

    def dense(
        self, grad: tf.Tensor, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        del slots
        return tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=self.rate, delta=grad, use_locking=True
        )

    def rows(
        self, grad: UniqueRows, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        del slots
        return tf.raw_ops.ResourceScatterAdd(
            resource=variable.handle, indices=grad.indices, updates=-self.rate * grad.values
        )


@dataclasses.dataclass(eq=False)
class SGD(Optimizer):
    """Gradient descent, with momentum if given.

    Without:  w = w - rate * g
    With:     v = momentum * v - rate * g
              w = w + v,  or  w + momentum * v - rate * g  with nesterov

    Args:
        learning_rate: See `Optimizer`, as for the options that are not here; 0.01.
        momentum: Share of the last change that is made again, in [0, 1]; 0.
        nesterov: Whether to look ahead by one step of momentum; False.

    References: Sutskever et al., On the importance of initialization and momentum in deep
    learning, ICML 2013.
    """

    learning_rate: Rate = 0.01
    momentum: Fraction = 0.0
    nesterov: Switch = False

    @property
    def slots(self) -> Mapping[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        if not self.momentum:
            return (w - now.rate * g,)
        (v,) = slots
        v = self.momentum * v - now.rate * g
        ahead = self.momentum * v - now.rate * g if self.nesterov else v
        return w + ahead, v

    def fused(self, now: Now) -> Fused:
        if not self.momentum:
            return _Descent(now.rate)
        own = {"lr": now.rate, "momentum": self.momentum, "use_nesterov": self.nesterov}
        return Apply("KerasMomentum", ("accum",), own)

    @property
    def rows_as_dense(self) -> bool:
        return not self.momentum


@dataclasses.dataclass(eq=False)
class Adagrad(Optimizer):
    """Steps shrink by the root of the sum of squared gradients.

    s = s + g^2
    w = w - rate * g / (sqrt(s) + epsilon)

    Args:
        learning_rate: See `Optimizer`, as for the options that are not here; 0.05.
        initial_accumulator_value: s at the start, >= 0; 0.1.
        epsilon: >= 0; 1e-7.

    References: Duchi et al., Adaptive subgradient methods for online learning and stochastic
    optimization, JMLR 12 (2011).
    """

    learning_rate: Rate = 0.05
    initial_accumulator_value: NotNegative = 0.1
    epsilon: NotNegative = 1e-7

    @property
    def slots(self) -> Mapping[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        (s,) = slots
        s = s + tf.square(g)
        return w - now.rate * g / (tf.sqrt(s) + self.epsilon), s

    def fused(self, now: Now) -> Fused:
        return Apply("AdagradV2", ("accum",), {"lr": now.rate, "epsilon": self.epsilon})

    @property
    def rows_as_dense(self) -> bool:
        return True


@dataclasses.dataclass(eq=False)
class Adam(Optimizer):
    """Steps by running means of gradients and of their squares, corrected for their start.

    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g^2
    w = w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    Rows of a table that have no gradient move too, as with the legacy class.

    Args:
        learning_rate: See `Optimizer`, as for the options that are not here; 0.001.
        beta_1: Decay of the mean of gradients, in [0, 1); 0.9.
        beta_2: Decay of the mean of squares, in [0, 1); 0.999.
        epsilon: "Epsilon hat" of the paper, >= 0; 1e-7.

    References: Kingma and Ba, Adam, arXiv 1412.6980.
    """

    learning_rate: Rate = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: NotNegative = 1e-7

    @property
    def slots(self) -> Mapping[str, float]:
        return {"m": 0.0, "v": 0.0}

    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        m, v = slots
        t = now.step + 1.0
        m = self.beta_1 * m + (1.0 - self.beta_1) * g
        v = self.beta_2 * v + (1.0 - self.beta_2) * tf.square(g)
        rate = now.rate * tf.sqrt(1.0 - tf.pow(self.beta_2, t)) / (1.0 - tf.pow(self.beta_1, t))
        return w - rate * m / (tf.sqrt(v) + self.epsilon), m, v

    def fused(self, now: Now) -> Fused:
        own = {
            "lr": now.rate,
            "beta1": self.beta_1,
            "beta2": self.beta_2,
            "beta1_power": tf.pow(self.beta_1, now.step + 1.0),
            "beta2_power": tf.pow(self.beta_2, now.step + 1.0),
            "epsilon": self.epsilon,
        }
        return Apply("Adam", ("m", "v"), own)

    @property
    def rows_as_dense(self) -> bool:
        return True

    @property
    def moves_all_rows(self) -> bool:
        return True


@dataclasses.dataclass(eq=False)
class RMSProp(Optimizer):
    """Steps shrink by the root of a running mean of squared gradients.

    s = rho * s + (1 - rho) * g^2
    Without momentum:  w = w - rate * g / (sqrt(s) + epsilon)
    With:              v = momentum * v + rate * g / sqrt(s + epsilon)
                       w = w - v

    Where epsilon stands differs, as in the legacy class.

    Args:
        learning_rate: See `Optimizer`, as for the options that are not here; 0.001.
        rho: Decay of the mean of squares, in [0, 1); 0.9.
        momentum: Share of the last change that is made again, in [0, 1]; 0.
        epsilon: >= 0; 1e-7.

    References: Tieleman and Hinton, Lecture 6.5 of Neural Networks for Machine Learning,
    Coursera (2012).
    """

    learning_rate: Rate = 0.001
    rho: Share = 0.9
    momentum: Fraction = 0.0
    epsilon: NotNegative = 1e-7

    @property
    def slots(self) -> Mapping[str, float]:
        return {"rms": 0.0, "momentum": 0.0} if self.momentum else {"rms": 0.0}

    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        s = self.rho * slots[0] + (1.0 - self.rho) * tf.square(g)
        if not self.momentum:
            return w - now.rate * g / (tf.sqrt(s) + self.epsilon), s
        v = self.momentum * slots[1] + now.rate * g / tf.sqrt(s + self.epsilon)
        return w - v, s, v

    def fused(self, now: Now) -> Fused | None:
        if not self.momentum:
            return None
        own = {
            "lr": now.rate,
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
        return Apply("RMSProp", ("ms", "mom"), own)

    @property
    def rows_as_dense(self) -> bool:
        return not self.momentum

    @property
    def moves_all_rows(self) -> bool:
        return not self.momentum


@dataclasses.dataclass(eq=False)
class Ftrl(Optimizer):
    """Follow the regularized leader: sparse weights by l1, for linear models.

    n' = n + g^2
    z  = z + g + 2 * shrinkage * w - (n'^-power - n^-power) / rate * w
    w  = (clip(z, -l1, l1) - z) / (n'^-power / rate + 2 * l2 + beta / rate),  n = n'

    Args:
        learning_rate: See `Optimizer`, as for the options that are not here; 0.001.
        learning_rate_power: How the rate falls with the sum of squares, at most 0; -0.5.
        initial_accumulator_value: n at the start, >= 0; 0.1.
        l1_regularization_strength: Keeps weights at exactly 0 that gain less, >= 0; 0.
        l2_regularization_strength: Pulls weights towards 0, >= 0; 0.
        l2_shrinkage_regularization_strength: The same, through the gradient, >= 0; 0.
        beta: Added to the root of the sum of squares, >= 0; 0.

    References: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013.
    """

    learning_rate: Rate = 0.001
    learning_rate_power: Annotated[float, number(at_most=0)] = -0.5
    initial_accumulator_value: NotNegative = 0.1
    l1_regularization_strength: NotNegative = 0.0
    l2_regularization_strength: NotNegative = 0.0
    l2_shrinkage_regularization_strength: NotNegative = 0.0
    beta: NotNegative = 0.0

    @property
    def slots(self) -> Mapping[str, float]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        n, z = slots
        l1, l2 = self.l1_regularization_strength, self._l2(now.rate)
        more = n + tf.square(g)
        shrunk = g + 2.0 * self.l2_shrinkage_regularization_strength * w
        z = z + shrunk - (self._root(more) - self._root(n)) / now.rate * w
        cut = tf.clip_by_value(z, -l1, l1) - z
        return cut / (self._root(more) / now.rate + 2.0 * l2), more, z

    def fused(self, now: Now) -> Fused:
        own = {
            "lr": now.rate,
            "l1": self.l1_regularization_strength,
            "l2": self._l2(now.rate),
            "l2_shrinkage": self.l2_shrinkage_regularization_strength,
            "lr_power": self.learning_rate_power,
        }
        return Apply("FtrlV2", ("accum", "linear"), own)

    def _root(self, total: tf.Tensor) -> tf.Tensor:
        power = -self.learning_rate_power
        return tf.sqrt(total) if power == 0.5 else tf.pow(total, power)

    def _l2(self, rate: tf.Tensor) -> tf.Tensor | float:
        # beta is an l2 that grows as the rate falls.
        l2 = self.l2_regularization_strength
        return l2 + self.beta / (2.0 * rate) if self.beta else l2


BY_NAME = {kind.__name__: kind for kind in Optimizer.__subclasses__()}
"""What a name in a program or a configuration stands for."""
