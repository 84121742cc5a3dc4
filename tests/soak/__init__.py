"""Hours of faults: more of what `make faults` tries, drawn with a seed."""
