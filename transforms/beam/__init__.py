"""Running Beam jobs, and the files of object stores through Beam."""
