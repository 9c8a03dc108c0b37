"""Spans in the making: open ones, their parents, and the HTTP calls they match."""
