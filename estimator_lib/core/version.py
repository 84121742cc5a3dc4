"""The release, written here only."""

VERSION = "0.2.0"
