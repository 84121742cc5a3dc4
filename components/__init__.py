"""Kubeflow pipeline components: a file here declares one; `steps` holds what they do."""

from estimator_lib.core.version import VERSION

IMAGE = f"estimator-pipelines-python:{VERSION}"
"""The image every step runs in; `make image` builds it from the Dockerfile."""
