"""Captured prompts, answers and tool arguments, stored only on request."""
