"""Observe providers' HTTP calls; knows no vendor."""
