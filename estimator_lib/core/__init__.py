"""Declarations, errors and storage; no TensorFlow, no Beam, no numpy."""
