"""Columns of tables: everything that knows what a column is."""
