"""Estimators: one interface from model_fn to served model, native on TensorFlow 2."""
