"""Optimizers, gradient handling and schedules."""
