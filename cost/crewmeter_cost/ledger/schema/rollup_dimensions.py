"""The dimensions of the hourly roll-ups, and the codes that store them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DAY", "DIMENSIONS", "HOUR", "LATENCY", "Dimension"]

HOUR, DAY = 3600, 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One question: its code in `rollup_hour`, and the names of its keys.

    A key that is None is not used and always 0.
    """

    code: int
    key: str | None = None
    key2: str | None = None


DIMENSIONS: Mapping[str, Dimension] = {
    "total": Dimension(0),
    "model": Dimension(1, "provider", "model"),
    "crew": Dimension(2, "crew", "agent"),
    "crew_model": Dimension(3, "crew", "model"),
    "task": Dimension(4, "crew", "task"),
    "team": Dimension(5, "team", "user"),
    "team_crew": Dimension(6, "team", "crew"),
    "team_model": Dimension(7, "team", "model"),
    "service": Dimension(8, "service", "environment"),
    "tag": Dimension(9, "tag"),
    "tool": Dimension(10, "tool", "agent"),
    "run": Dimension(11, "name", "status"),
    "error": Dimension(12, "error_type", "model"),
    "finish": Dimension(13, "finish_reason", "model"),
    "cost_status": Dimension(14, "cost_status", "model"),
}
"""Name → code and keys. Codes are stored: never reuse one."""

LATENCY: Mapping[str, int] = {
    "total": 0,
    "model": 1,
    "crew": 2,
    "agent": 3,
    "tool": 4,
    "run": 5,
    "ttft": 6,
    "provider": 7,
    "team": 8,
    "task": 9,
}
"""Name → code of the latency counts. `run` is by run name, `ttft` by model."""
