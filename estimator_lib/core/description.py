"""What a transform says of itself: its columns, the raw fields it takes, and what they are.

Layer 1. `columns.json` of a transform directory; every reader of raw rows follows it.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from estimator_lib.core import columns as fc
from estimator_lib.core import storage, strict_json
from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, StorageError, quote
from estimator_lib.core.values import Logical

NAME = "columns.json"
FIELD_TYPES = ("string", "int", "float", "string[]", "int[]", "float[]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What `columns.json` holds.

    Attributes:
        columns: Resolved columns by their names in the configuration.
        raw_fields: Field of a request -> its type, with "[]" where a row has several values.
        types: Such a field -> what its texts are, as far as it is one of texts.
    """

    columns: Mapping[str, fc.Column]
    raw_fields: Mapping[str, str]
    types: Mapping[str, Logical]

    def to_json(self) -> dict[str, Any]:
        """Returns the values of JSON that `parse` reads."""
        known = self.raw_fields.keys() & self.types.keys()
        return {
            "columns": {name: fc.to_json(column) for name, column in self.columns.items()},
            "raw_fields": dict(sorted(self.raw_fields.items())),
            "types": {name: self.types[name] for name in sorted(known)},
        }


def read(directory: str | pathlib.Path) -> Description:
    """Returns what a transform directory says of itself.

    Raises:
        DataError: it has no such file, or one that is damaged.
    """
    path = pathlib.Path(directory) / NAME
    try:
        with storage.storage_errors("read", path):
            content = path.read_bytes()
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        raise DataError(
            f"Directory {directory} is no transform: it has no {NAME}. Give one that preprocess "
            "wrote.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    return parse(content, str(path))


def parse(content: str | bytes, what: str = NAME) -> Description:
    """Returns what the text of a `columns.json` says.

    Args:
        content: JSON, in UTF-8. Files of versions before 0.2.0 have no `types`.
        what: What messages call it.

    Raises:
        DataError: it is damaged.
    """
    try:
        found = strict_json.parse(content)
        columns = {name: fc.from_json(column) for name, column in found["columns"].items()}
        fields = {name: _field_type(kind) for name, kind in found.get("raw_fields", {}).items()}
        types = {name: Logical(kind) for name, kind in found.get("types", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = error.message if isinstance(error, EstimatorLibError) else str(error)
        raise DataError(
            f"File {what} is damaged: {told.rstrip('.')}. Run preprocess again.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    return Description(columns=columns, raw_fields=fields, types=types)


def _field_type(kind: Any) -> str:
    if kind not in FIELD_TYPES:
        raise ValueError(f"expected a type of a field, got {quote(kind)}")
    return str(kind)
