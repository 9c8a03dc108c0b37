"""Prices: what a usage cost at a moment, or why that is not known."""
