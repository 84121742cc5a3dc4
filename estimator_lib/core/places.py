"""Which parameters of the steps are paths of the machine that a step runs on.

Layer 0. A URI given for one of them would become a directory on the pod's own disk, called `gs:`
or so, and be gone with the pod.
"""

from __future__ import annotations

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason, quote

LOCAL = frozenset(("base_dir", "champion", "checkpoint_root", "model", "serving_dir", "study_root"))
"""The parameters of components and pipelines that are local paths."""
ANYWHERE = frozenset(("analysis_cache",))
"""Those that may be URIs, too, as file patterns may."""


def fault(name: str, value: object) -> str | None:
    """Returns why a value cannot be given for a parameter, or None if it can."""
    if name not in LOCAL or not isinstance(value, str) or not storage.is_uri(value):
        return None
    return (
        f"expected a path in the pod, such as a directory of a mounted volume, got the URI "
        f"{quote(value)}. Mount a volume (cluster.volume) and give a path on it"
    )


def require_local(name: str, value: object) -> None:
    """Refuses a URI where a local path is meant.

    Args:
        name: Of a parameter; those that are not of `LOCAL` may have any value.
        value: What was given for it; "" is fine.

    Raises:
        ConfigError: naming both.
    """
    found = fault(name, value)
    if found:
        raise ConfigError(f"{name} is invalid: {found}.", reason=Reason.UNSUPPORTED)
