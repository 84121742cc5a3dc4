"""The names of `tf.feature_column`, and columns beyond them.

Layer 2.
"""

from __future__ import annotations

from estimator_lib.core import columns
from estimator_lib.core.columns import *  # noqa: F403 - the list of names is that module's
from estimator_lib.features.parsing import make_parse_example_spec

__all__ = [*columns.__all__, "make_parse_example_spec"]  # noqa: PLE0604
