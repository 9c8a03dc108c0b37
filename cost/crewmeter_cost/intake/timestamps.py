"""When a span happened, by the sender's clock where that can be true."""

from __future__ import annotations

__all__ = ["FUTURE_NS", "plausible"]

FUTURE_NS = 3_600 * 10**9
"""How far a sender's clock may run ahead of ours (one hour) before its times are no longer
believed.
"""


def plausible(started_ns: int, ended_ns: int, now_ns: int) -> tuple[int, int]:
    """Return a start and an end (ns since 1970) that reports can use.

    A billed call is never refused for its clock.

    No start: it is the end's; neither: now. A start in the future: the span is moved to end now
    and keeps its duration (at most an hour of it). An end in the future or before the start: now,
    or the start.
    """
    latest = now_ns + FUTURE_NS
    if 0 < started_ns <= ended_ns <= latest:
        return started_ns, ended_ns
    started_ns = started_ns or ended_ns or now_ns
    ended_ns = max(ended_ns, started_ns)
    if started_ns > latest:
        duration = min(ended_ns - started_ns, FUTURE_NS)
        return max(now_ns - duration, 0), now_ns
    return started_ns, ended_ns if ended_ns <= latest else max(started_ns, now_ns)
