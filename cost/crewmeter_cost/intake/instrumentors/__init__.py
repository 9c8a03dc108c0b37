"""Spans of other instrumentors: dialects, usage names and known faults."""
