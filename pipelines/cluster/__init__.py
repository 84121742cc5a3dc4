"""Talks to a Kubeflow Pipelines server: runs, schedules and the commands for them."""
