"""Kubeflow pipeline components: a file here declares one; `steps` holds what they do."""

IMAGE = "estimator-pipelines-python:0.1.0"
"""The image every step runs in; `make image` builds it from the Dockerfile."""
