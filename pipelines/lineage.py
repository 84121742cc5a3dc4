"""What made a published model, as its `lineage.json` says."""

from __future__ import annotations

import json
from typing import Any

import pydantic


class _Parent(pydantic.BaseModel, extra="allow", strict=True):
    version: int | str


class _Server(pydantic.BaseModel, extra="allow", strict=True):
    tensorflow: str
    because: list[str]


class _Lineage(pydantic.BaseModel, extra="allow", strict=True):
    """What is read of a lineage here; what is not named may be anything."""

    step: int | None = None
    parent: _Parent | None = None
    metrics: dict[str, float | None] = {}
    main_metric: str | None = None
    data_fingerprint: str = ""
    code_version: str = ""
    again: int | None = None
    server: _Server | None = None


def parse(data: bytes | None, path: str) -> tuple[dict[str, Any], str | None]:
    """Returns a version's lineage, and what is wrong with it.

    Args:
        data: Of its file; None where there is none.
        path: Where that is, for messages.
    """
    if data is None:
        return {}, None
    try:
        content = json.loads(data)
        _Lineage.model_validate(content)
    except (ValueError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pydantic.ValidationError):
            fault = error.errors()[0]
            first = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        return {}, f"{path} is damaged: {first}"
    return content, None
