"""Intake: spans as OTLP bytes or SDK objects → `Call`s and `Step`s, through a table of dialects."""
