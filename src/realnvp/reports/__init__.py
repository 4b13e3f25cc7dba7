"""Finished runs: what is in their folders, reports and comparisons."""
