"""A path of this machine, as an argument of a command."""

from __future__ import annotations

import argparse
import pathlib

from estimator_lib.core import storage


def local_path(text: str) -> pathlib.Path:
    """Returns the path; `type=` of an argument of argparse.

    Raises:
        ArgumentTypeError: it is a URI, which would become a directory called `gs:` or so.
    """
    if storage.is_uri(text):
        raise argparse.ArgumentTypeError(
            f"expected a path of this machine, got the URI {text}. Give a path, of a mounted "
            "volume if need be"
        )
    return pathlib.Path(text)
