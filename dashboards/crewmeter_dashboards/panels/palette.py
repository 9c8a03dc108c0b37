"""Colours with one meaning each.

People with any colour vision can tell them apart (after Paul Tol's and Okabe & Ito's schemes).

Good and bad are blue and red, never green and red. Contrast is at least 3:1 on Grafana's light and
dark panels.
"""

from __future__ import annotations

__all__ = ["BAD", "GOOD", "MEANING", "NEUTRAL", "OTHER", "SERIES", "WARN"]

GOOD = "#4477AA"
WARN = "#C99700"
BAD = "#D6455D"
NEUTRAL = "#7A869A"
OTHER = "#9AA0A6"

SERIES: tuple[str, ...] = (
    "#4477AA",
    "#E07B39",
    "#2A9D8F",
    "#AA3377",
    "#B8A125",
    "#4FB3DC",
    "#2E8B45",
    "#8C6BB1",
)
"""For names the data brings (models, crews …), in the order of their size."""

MEANING: dict[str, str] = {
    "ok": GOOD,
    "error": BAD,
    "failed": BAD,
    "abandoned": NEUTRAL,
    "running": "#4FB3DC",
    "p50": "#4FB3DC",
    "p95": "#4477AA",
    "p99": "#AA3377",
    "max": BAD,
    "input": "#4477AA",
    "cache_read": "#2A9D8F",
    "cache_write": "#B8A125",
    "output": "#E07B39",
    "reasoning": "#AA3377",
    "spend": "#4477AA",
    "budget": BAD,
    "even pace": NEUTRAL,
    "(other)": OTHER,
    "(none)": OTHER,
}
"""Series whose name says what they are keep one colour on every board."""
