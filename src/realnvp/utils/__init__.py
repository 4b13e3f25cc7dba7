"""Utilities shared by all packages: errors, files, serialization, random numbers, processes."""
