"""Boards, panels and alert rules as code.

One catalogue is rendered for Grafana, Prometheus and the local page.
"""
