"""The pipelines by name: what `run`, `compile`, `submit` and `schedule` build.

A run configuration chooses one by its `pipeline`; `--set pipeline=tuned_training` chooses another
for one command. A pipeline's module is imported when it is built, for it needs kfp.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_lib.core.config import Pipeline, RunConfiguration, Step
from estimator_lib.core.places import Place

_MODULES: dict[Pipeline, str] = {
    "training": "pipelines.training",
    "continuous_training": "pipelines.continuous_training",
    "tuned_training": "pipelines.tuned_training",
    "batch_prediction": "pipelines.batch_prediction",
}


def build(config: RunConfiguration) -> Any:
    """Returns the KFP pipeline that a run configuration chooses."""
    return importlib.import_module(_MODULES[config.pipeline]).build(config)


def steps(config: RunConfiguration) -> tuple[Step, ...]:
    """Returns the steps of the pipeline that a run configuration chooses; `notify` aside."""
    found: tuple[Step, ...] = importlib.import_module(_MODULES[config.pipeline]).STEPS
    return found


def functions(config: RunConfiguration) -> tuple[str | None, ...]:
    """Returns the functions of the user's own that steps call, as module:function, and modules."""
    own = config.preprocess.function if config.preprocess is not None else None
    return (config.estimator.function, own, *config.cluster.code)


def patterns(config: RunConfiguration) -> Mapping[str, Sequence[str]]:
    """Returns the patterns of the raw files that the chosen pipeline reads, by split."""
    if config.pipeline == "batch_prediction":
        return {"": config.predict_part().files}
    return config.data.patterns()


def local_patterns(config: RunConfiguration) -> Mapping[str, Sequence[str]]:
    """Returns those patterns that are of this machine, by split."""
    return {
        split: [pattern for pattern in several if Place.parse(pattern).is_local]
        for split, several in patterns(config).items()
    }


def reads_elsewhere(config: RunConfiguration) -> bool:
    """Whether the pipeline reads what is not on this machine: by URI, or of BigQuery."""
    wanted = config.data_schema
    judged_by = (wanted.path, wanted.previous, wanted.serving) if wanted is not None else ()
    return (
        local_patterns(config) != patterns(config)
        or not patterns(config)
        or any(given is not None and not Place.parse(given).is_local for given in judged_by)
    )


def base_dir(place: Place) -> pathlib.Path:
    """Returns where relative file patterns of a configuration start: the file's own directory.

    One that was read by URI has no relative ones, and user functions are those of this directory.
    """
    return place.path.parent if place.is_local else pathlib.Path.cwd()


def name(config: RunConfiguration) -> str:
    """Returns the compiled pipeline's name: the configuration's, and the kind unless training."""
    kind = "" if config.pipeline == "training" else f"-{config.pipeline.replace('_', '-')}"
    return f"{config.name}{kind}"
