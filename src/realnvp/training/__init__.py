"""Training: from a recipe and data to a run directory."""
