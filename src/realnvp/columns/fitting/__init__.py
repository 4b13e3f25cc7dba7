"""What a table's model starts from, fitted without gradients: maps, category tables, mixtures."""
