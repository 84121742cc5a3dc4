"""The image every step runs in; `make image` builds it from the Dockerfile."""

IMAGE = "estimator-pipelines-python:0.1.0"
