"""Environment variables that a compiled pipeline gives its steps.

Layer 0. `core.config` says their values, placement writes them, and the steps read them.
"""

from __future__ import annotations

RETRIES = "STEP_RETRIES"
"""How often a step tries again by itself after an error that may pass."""
GPUS = "STEP_GPUS"
"""How many GPUs a step was given, at least."""
SCRATCH = "STEP_SCRATCH"
"""Where temporary files go, if the step may write there."""
CODE = "STEP_CODE"
"""Modules of the user's own that the image must have, with commas between."""
OWN = frozenset((RETRIES, GPUS, SCRATCH, CODE))
