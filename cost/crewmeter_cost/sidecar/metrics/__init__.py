"""The sidecar's Prometheus metrics: definitions, registry and call metrics."""
