"""Scoring a raw CSV with a published model."""

from __future__ import annotations

import pathlib

from estimator_lib.core.errors import ConfigError, Reason


def newest_version(model: pathlib.Path) -> pathlib.Path:
    """Returns `model` if it is a SavedModel, else its highest numbered version.

    Raises:
        ConfigError: it is neither a SavedModel nor a directory of numbered ones.
    """
    if (model / "saved_model.pb").is_file():
        return model
    versions = [p for p in model.glob("[0-9]*") if p.name.isdigit() and p.is_dir()]
    if not versions:
        raise ConfigError(
            f"Model {model} is neither a SavedModel nor a directory of numbered versions. Give "
            "the serving directory of a run, such as runs/flights/serving.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return max(versions, key=lambda path: int(path.name))


def neutral(cell: str) -> str:
    """Returns a text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
