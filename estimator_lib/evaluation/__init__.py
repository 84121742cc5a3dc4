"""Metrics worth trusting, verdicts and the report."""
