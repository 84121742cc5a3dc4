"""Mutated inputs for everything that reads what others wrote: only typed errors may come out."""
