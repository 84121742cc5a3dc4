"""Draws the values of all trials."""

from __future__ import annotations

from estimator_lib.core import storage
from estimator_lib.core.config import TunePart
from estimator_lib.tuning import search


def run(config: str, code_version: str) -> list[str]:
    """Runs the step; see `components.draw`."""
    del code_version  # a part of the cache key
    values = search.draw(TunePart.from_json(config).tune)
    return [
        storage.canonical_json({"number": number, "values": one})
        for number, one in enumerate(values)
    ]
