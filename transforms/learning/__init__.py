"""What is learned from the rows, and what the columns need of it."""
