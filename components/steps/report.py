"""Finds the report and the evaluation that a run left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from estimator_lib.core import storage, stores
from estimator_lib.core.errors import DataError, Reason, StorageError
from estimator_lib.core.places import Place

_PLACES = (("run.json", "report.html"), ("evaluation/evaluation.json", "report"))
"""Where evaluation and page are, in the directory of a run and in that of an evaluate step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A run's evaluation and its page.

    Attributes:
        evaluation: What `evaluation.json` holds.
        page: The HTML page's content.
        place: Where it is.
    """

    evaluation: Mapping[str, Any]
    page: bytes
    place: Place


def find(root: Place) -> Found:
    """Returns what a run left.

    Args:
        root: Output directory of a run, or the directory of an evaluate step's outputs.

    Raises:
        DataError: no evaluation is there.
        StorageError: the place cannot be read for now.
    """
    for described, page in _PLACES:
        text = _read(root / described)
        if text is None:
            continue
        evaluation = _parsed(text, root / described)
        evaluation = evaluation.get("evaluation", evaluation)
        content = _read(root / page)
        if "verdict" in evaluation and content is not None:
            return Found(evaluation=evaluation, page=content, place=root / page)
    raise DataError(
        f"There is no report at {root}: expected the output directory of a run that evaluated a "
        "model, such as runs/flights, or the directory of an evaluate step's outputs.",
        reason=Reason.FILE_NOT_FOUND,
    )


def _parsed(text: bytes, path: Place) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"File {path} is damaged: {error}. Run again.", reason=Reason.CORRUPT_FILE
        ) from error
    return found if isinstance(found, dict) else {}


def _read(place: Place) -> bytes | None:
    """Returns a file's content, or None if it is not there."""
    if not place.is_local:
        return stores.of(place).read(place)
    try:
        with storage.storage_errors("read", place.path):
            return place.path.read_bytes()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
