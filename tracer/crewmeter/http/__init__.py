"""Observe providers' HTTP calls, by whichever library they are sent. Knows no vendor."""
