"""What one Estimator works with: a traced model, its weights, its inputs.

Layer 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from estimator_lib.inputs.datasets import Caller
from estimator_lib.specs import EstimatorSpec
from estimator_lib.training import devices
from estimator_lib.training.checkpoints import CheckpointDirectory
from estimator_lib.training.claims import Claims
from estimator_lib.training.model_function import ModelFunction
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.traced_model import TracedModel
from estimator_lib.training.warm_start import WarmStartSettings
from estimator_lib.training.weights import Weights
from estimator_lib.variables import VariableStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """The parts of one Estimator, which live as long as it does.

    Attributes:
        model_fn: The user's function.
        model: It traced, with its variables.
        weights: The variables and the checkpoints.
        inputs: Calls input_fns.
        config: The run's, with a model_dir.
        strategy: Whose replicas train; None for one device.
    """

    model_fn: ModelFunction
    model: TracedModel
    weights: Weights
    inputs: Caller
    config: RunConfig
    strategy: tf.distribute.Strategy | None

    @classmethod
    def of(
        cls,
        model_fn: Callable[..., EstimatorSpec],
        params: object,
        config: RunConfig,
        warm_start: WarmStartSettings | None,
    ) -> Engine:
        """Returns the engine of a model_fn, with no variables yet."""
        # First of all: TensorFlow may not have computed anything when it joins a cluster.
        strategy = devices.distributing(devices.strategy_of(config))
        function = ModelFunction(model_fn)
        model = TracedModel(function, params, config)
        directory = CheckpointDirectory(
            str(config.model_dir),
            keep_max=config.keep_checkpoint_max,
            keep_every_hours=config.keep_checkpoint_every_n_hours,
        )
        return cls(
            model_fn=function,
            model=model,
            weights=Weights(model.store, directory, warm_start),
            inputs=Caller(params=params, config=config),
            config=config,
            strategy=strategy,
        )

    def with_store(
        self, store: VariableStore, claims: Claims, share: tf.distribute.InputContext
    ) -> Engine:
        """Returns an engine of the same model whose variables are in `store`.

        Args:
            store: Empty.
            claims: Says which steps this process makes.
            share: Says which part of the input this process takes.
        """
        model = TracedModel(self.model_fn, self.inputs.params, self.config, store, claims)
        return Engine(
            model_fn=self.model_fn,
            model=model,
            weights=Weights(store, self.weights.directory, self.weights.warm_start),
            inputs=Caller(params=self.inputs.params, config=self.config, share=share),
            config=self.config,
            strategy=None,
        )

    @property
    def model_dir(self) -> str:
        """The model directory."""
        return str(self.config.model_dir)

    def step(self) -> int:
        """Returns the global step of the variables."""
        return int(self.model.global_step().numpy())
