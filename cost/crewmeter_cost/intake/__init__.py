"""Spans as OTLP bytes or SDK objects, read into calls and steps."""
