"""Boards, panels and alert rules as code: one catalogue, rendered for Grafana, Prometheus and the local page."""
