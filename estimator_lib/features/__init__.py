"""Feature columns lowered to TensorFlow."""
