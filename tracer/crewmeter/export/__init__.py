"""The way of finished spans to exporters: batches, tracer provider and metrics."""
