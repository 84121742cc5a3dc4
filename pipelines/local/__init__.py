"""Runs pipelines on this machine through kfp.local: warm, cached, quiet."""
