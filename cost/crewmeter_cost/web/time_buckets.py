"""Time buckets of the page's charts, as the catalogue has them for Grafana too."""

from __future__ import annotations

from crewmeter_cost.web.panel_queries import catalogue

__all__ = ["auto_bucket"]


def auto_bucket(seconds: int) -> int:
    """Return the seconds per point for a range of so many seconds."""
    *steps, (_, widest) = catalogue()["buckets"]["steps"]
    chosen = (bucket for longest, bucket in steps if seconds <= longest)
    return int(next(chosen, widest))
