"""Beam jobs: what feature columns need is learned here, and applied."""
