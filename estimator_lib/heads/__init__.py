"""Heads: loss, metrics, predictions and signatures of a task."""
