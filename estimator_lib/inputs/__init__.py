"""Readers that give models their batches."""
