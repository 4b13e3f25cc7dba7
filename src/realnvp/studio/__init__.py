"""The studio: a web page to explore models. It computes nothing itself.

Every number and picture comes from the functions that the command line and the library offer, so
that the same seed gives the same samples everywhere.
"""
