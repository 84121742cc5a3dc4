"""Keeps TensorFlow's start-up lines from a user's terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def startup_lines_hidden() -> Iterator[None]:
    """Hides what TensorFlow's libraries write to standard error before they can be told not to.

    A Python exception inside the block still gets out.
    """
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
