"""Pipelines, the run configuration's way into them, and the command line."""
