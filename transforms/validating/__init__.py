"""What is wrong with data: first rows, statistics against a schema, rows left out."""
