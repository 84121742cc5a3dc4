"""Ready-made Estimators: short constructors over public building blocks."""
