"""Resolved columns as a transform graph, and the rows as training examples."""
