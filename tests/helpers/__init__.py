"""Shared by tests: tables of cases, small files, processes that are killed."""
