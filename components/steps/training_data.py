"""What a model keeps of the data it was trained on: statistics and schema, for `monitor`.

The evaluate step puts both into the evaluation, the export step from there beside the model.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason

_FOLDER = "training"
_STATISTICS, _SCHEMA = "statistics.pb", "schema.pbtxt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Where training data is described: the paths of its statistics and its schema."""

    statistics: str
    schema: str


def keep(statistics_dir: str, folder: pathlib.Path) -> None:
    """Copies what is kept of the train split into the folder of an artifact.

    Args:
        statistics_dir: What preprocess wrote.
        folder: The artifact's.
    """
    target = storage.make_directory(folder / _FOLDER)
    with storage.storage_errors("copy", statistics_dir):
        for source, kept in (("train.pb", _STATISTICS), (_SCHEMA, _SCHEMA)):
            shutil.copyfile(pathlib.Path(statistics_dir) / source, target / kept)


def assets(folder: str) -> dict[str, str]:
    """Returns what an artifact keeps as extra assets of a model: name -> path.

    None of an evaluation that an earlier release made.
    """
    kept = pathlib.Path(folder) / _FOLDER
    return {f"{_FOLDER}/{path.name}": str(path) for path in sorted(kept.glob("*"))}


def of_model(version: pathlib.Path) -> Training:
    """Returns what a published model keeps.

    Raises:
        ConfigError: it was published by an earlier release, or by other means.
    """
    kept = version / "assets.extra" / _FOLDER
    if not (kept / _STATISTICS).is_file():
        raise ConfigError(
            f"Model {version} does not keep the statistics of its training: expected "
            f"assets.extra/{_FOLDER}/{_STATISTICS}. Give those of its run: --statistics DIR.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return Training(statistics=str(kept / _STATISTICS), schema=str(kept / _SCHEMA))


def of_run(statistics_dir: str) -> Training:
    """Returns what a preprocess or `statistics` step wrote."""
    return Training(statistics=statistics_dir, schema=os.path.join(statistics_dir, "schema.pbtxt"))
