"""Shipped price catalogues: format, files, search, compilers and data."""
