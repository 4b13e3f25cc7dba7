"""What one does with a model of a table: fit, predict, impute, draw rows under a rule, score."""
