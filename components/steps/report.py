"""Finds the report and the evaluation that a run left; Beam is imported for remote places only."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.errors import DataError, Reason, StorageError, quote

_PLACES = (("run.json", "report.html"), ("evaluation/evaluation.json", "report"))
"""Where evaluation and page are, in the directory of a run and in that of an evaluate step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A run's evaluation and its page.

    Attributes:
        evaluation: What `evaluation.json` holds.
        page: The HTML page's content.
        place: Where it is: a path or a URI.
    """

    evaluation: Mapping[str, Any]
    page: bytes
    place: str


def find(place: str) -> Found:
    """Returns what a run left.

    Args:
        place: Output directory of a local run, or the directory of an evaluate step's outputs: a
            path or a URI that Beam has a file system for.

    Raises:
        DataError: no evaluation is there.
        StorageError: the place cannot be read for now.
    """
    root = place.removeprefix("file://").rstrip("/")
    for described, page in _PLACES:
        text = _read(f"{root}/{described}")
        if text is None:
            continue
        evaluation = _parsed(text, f"{root}/{described}")
        evaluation = evaluation.get("evaluation", evaluation)
        content = _read(f"{root}/{page}")
        if "verdict" in evaluation and content is not None:
            return Found(evaluation=evaluation, page=content, place=f"{root}/{page}")
    raise DataError(
        f"There is no report at {place}: expected the output directory of a run that evaluated a "
        "model, such as runs/flights, or the directory of an evaluate step's outputs.",
        reason=Reason.FILE_NOT_FOUND,
    )


def _parsed(text: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"File {path} is damaged: {error}. Run again.", reason=Reason.CORRUPT_FILE
        ) from error
    return found if isinstance(found, dict) else {}


def _read(path: str) -> bytes | None:
    """Returns a file's content, or None if it is not there."""
    try:
        if "://" not in path:
            return pathlib.Path(path).read_bytes()
        from apache_beam.io import filesystems

        if not filesystems.FileSystems.exists(path):
            return None
        with filesystems.FileSystems.open(path) as file:
            content: bytes = file.read()
        return content
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(
            f"Cannot read {quote(path)}: Beam has no file system for it here. Correct the address, "
            "or install Beam's extra for it, such as apache-beam[gcp].",
            reason=Reason.UNSUPPORTED,
        ) from error
    except OSError as error:
        raise StorageError(f"Cannot read {quote(path)}: {error}") from error
