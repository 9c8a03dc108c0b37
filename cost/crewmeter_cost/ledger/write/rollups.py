"""Hourly sums and latency counts: which questions they answer, and what one call, tool or run adds to them. Pure.

A change to the ledger is a `Tally`: calls are added with sign +1, taken back with -1, and what is left at the end is
written in the same transaction as the rows. So the roll-ups equal the sum of the rows at every commit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from operator import add, itemgetter
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.write.rows import CALL, CallState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crewmeter_cost.ledger.write.rows import Row

__all__ = [
    "BOUNDS_NS",
    "DAY",
    "DIMENSIONS",
    "HOUR",
    "LATENCY",
    "SUMS",
    "Dimension",
    "Tally",
    "bucket_of",
    "quantile",
]

HOUR, DAY = 3600, 86_400
"""Seconds."""
_HOUR_NS = HOUR * 10**9


@dataclass(frozen=True, slots=True)
class Dimension:
    """One question the roll-ups answer: its code in the table, and what its keys are called (None: unused, always 0)."""

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
"""Name → code of the latency counts. ``run`` is by run name, ``ttft`` by model."""

SUMS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "priced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_pusd",
    "duration_ns",
)
"""What is summed, in the order of a tally's lists; there the cost is one unbounded integer, in the table two columns."""


def _bounds() -> tuple[int, ...]:
    """Upper bounds of the latency buckets (ns): 0.1 ms to a day, each 5 % above the last."""
    bounds, bound = [], 100_000.0
    while bound < 86_400e9:
        bounds.append(round(bound))
        bound *= 1.05
    return (*bounds, 86_400 * 10**9)


BOUNDS_NS = _bounds()


def bucket_of(duration_ns: int) -> int:
    """The latency bucket a duration falls in: the first whose bound is not below it; the last one takes all longer ones."""
    return min(bisect_left(BOUNDS_NS, duration_ns), len(BOUNDS_NS) - 1)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The `share` quantile (0 to 1) in seconds out of bucket counts, linear inside a bucket, so at most 5 % off; None where empty."""
    total = sum(counts.values())
    if total <= 0:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if count > 0 and seen + count >= wanted:
            low = BOUNDS_NS[bucket - 1] if bucket else 0
            return (low + (BOUNDS_NS[bucket] - low) * max(0.0, wanted - seen) / count) / 1e9
        seen += count
    return BOUNDS_NS[max(counts)] / 1e9


_GROUP = itemgetter(
    CALL.provider,
    CALL.request_model,
    CALL.response_model,
    CALL.crew,
    CALL.agent,
    CALL.task,
    CALL.team,
    CALL.user,
    CALL.service,
    CALL.environment,
    CALL.tag_set,
    CALL.tool,
    CALL.state,
    CALL.error_type,
    CALL.finish_reason,
    CALL.cost_status,
)
_AMOUNTS = itemgetter(
    CALL.started_ns,
    CALL.duration_ns,
    CALL.ttft_ns,
    CALL.state,
    CALL.input_tokens,
    CALL.cache_read_tokens,
    CALL.cache_write_5m_tokens,
    CALL.cache_write_1h_tokens,
    CALL.output_tokens,
    CALL.reasoning_tokens,
    CALL.cost_pusd,
)

_CODE = {name: dimension.code for name, dimension in DIMENSIONS.items()}
_TOTAL, _MODEL, _CREW, _CREW_MODEL, _TASK, _TEAM, _TEAM_CREW, _TEAM_MODEL = (
    _CODE[name]
    for name in ("total", "model", "crew", "crew_model", "task", "team", "team_crew", "team_model")
)
_SERVICE, _TAG, _TOOL, _RUN, _ERROR, _FINISH, _COST_STATUS = (
    _CODE[name] for name in ("service", "tag", "tool", "run", "error", "finish", "cost_status")
)
_L_TOTAL, _L_MODEL, _L_CREW, _L_AGENT, _L_TOOL, _L_RUN, _L_TTFT, _L_PROVIDER, _L_TEAM, _L_TASK = (
    LATENCY.values()
)


class Tally:
    """What a transaction adds to the roll-ups. `tags_of` gives the tag labels of a tag set."""

    def __init__(self, tags_of: Callable[[int], Sequence[int]]) -> None:
        self._tags_of = tags_of
        self._groups: dict[tuple[int, ...], list[int]] = {}
        self._direct: dict[tuple[int, int, int, int], list[int]] = {}
        self.latencies: defaultdict[tuple[int, int, int, int], int] = defaultdict(int)
        self.took_back = False

    def call(self, row: Row, sign: int = 1) -> None:
        """Add (or, with -1, take back) one call."""
        (
            started,
            duration,
            ttft,
            state,
            tokens_in,
            cached,
            write_5m,
            write_1h,
            tokens_out,
            reasoning,
            cost,
        ) = _AMOUNTS(row)
        group = _GROUP(row)
        hour = started // _HOUR_NS * HOUR
        key = (hour, *group)
        sums = self._groups.get(key)
        if sums is None:
            sums = self._groups[key] = [0] * len(SUMS)
        sums[0] += sign
        if state:
            sums[1] += sign
        if cost is not None:
            sums[3] += sign
            sums[9] += sign * cost
        elif state != CallState.REJECTED:
            sums[2] += sign
        if tokens_in is not None:
            sums[4] += sign * tokens_in
            sums[5] += sign * cached
            sums[6] += sign * (write_5m + write_1h)
        if tokens_out is not None:
            sums[7] += sign * tokens_out
            sums[8] += sign * reasoning
        sums[10] += sign * duration
        if sign < 0:
            self.took_back = True
        self._call_latency(hour, group, duration, ttft, sign)

    def _call_latency(
        self, hour: int, group: tuple[int, ...], duration: int, ttft: int | None, sign: int
    ) -> None:
        counts, bucket = self.latencies, bucket_of(duration)
        model = group[1] or group[2] or 0
        counts[_L_TOTAL, hour, 0, bucket] += sign
        counts[_L_MODEL, hour, model, bucket] += sign
        counts[_L_PROVIDER, hour, group[0] or 0, bucket] += sign
        counts[_L_CREW, hour, group[3] or 0, bucket] += sign
        counts[_L_AGENT, hour, group[4] or 0, bucket] += sign
        counts[_L_TASK, hour, group[5] or 0, bucket] += sign
        counts[_L_TEAM, hour, group[6] or 0, bucket] += sign
        if ttft is not None:
            counts[_L_TTFT, hour, model, bucket_of(ttft)] += sign

    def tool(
        self,
        *,
        started_ns: int,
        duration_ns: int,
        tool: int | None,
        agent: int | None,
        failed: bool,
        sign: int = 1,
    ) -> None:
        """Add (or take back) one tool call, out of a step."""
        hour = started_ns // _HOUR_NS * HOUR
        sums = self._slot(_TOOL, hour, tool or 0, agent or 0)
        sums[0] += sign
        sums[1] += sign * failed
        sums[10] += sign * duration_ns
        self.latencies[_L_TOOL, hour, tool or 0, bucket_of(duration_ns)] += sign
        self.took_back |= sign < 0

    def run(
        self,
        *,
        started_ns: int,
        duration_ns: int,
        name: int | None,
        status: int,
        failed: bool,
        amounts: Sequence[int],
        sign: int = 1,
    ) -> None:
        """Add (or take back) one finished run with its totals: `amounts` are unpriced, priced calls, input, output tokens, cost."""
        hour = started_ns // _HOUR_NS * HOUR
        unpriced, priced, tokens_in, tokens_out, cost = amounts
        sums = self._slot(_RUN, hour, name or 0, status)
        for index, amount in enumerate(
            (1, int(failed), unpriced, priced, tokens_in, 0, 0, tokens_out, 0, cost, duration_ns)
        ):
            sums[index] += sign * amount
        self.latencies[_L_RUN, hour, name or 0, bucket_of(duration_ns)] += sign
        self.took_back |= sign < 0

    def _slot(self, dimension: int, hour: int, key: int, key2: int) -> list[int]:
        slot = (dimension, hour, key, key2)
        sums = self._direct.get(slot)
        if sums is None:
            sums = self._direct[slot] = [0] * len(SUMS)
        return sums

    def rollups(self) -> dict[tuple[int, int, int, int], list[int]]:
        """(dimension, hour, key, key2) → sums, over everything added; all-zero entries are left out."""
        out = {slot: list(sums) for slot, sums in self._direct.items()}
        for (
            hour,
            provider,
            asked,
            answered,
            crew,
            agent,
            task,
            team,
            user,
            service,
            environment,
            tag_set,
            tool,
            state,
            error,
            finish,
            status,
        ), sums in self._groups.items():
            model, provider, crew, agent, team, user = (
                asked or answered or 0,
                provider or 0,
                crew or 0,
                agent or 0,
                team or 0,
                user or 0,
            )
            slots = [
                (_TOTAL, hour, 0, 0),
                (_MODEL, hour, provider, model),
                (_CREW, hour, crew, agent),
                (_CREW_MODEL, hour, crew, model),
                (_TASK, hour, crew, task or 0),
                (_TEAM, hour, team, user),
                (_TEAM_CREW, hour, team, crew),
                (_TEAM_MODEL, hour, team, model),
                (_SERVICE, hour, service or 0, environment or 0),
                (_FINISH, hour, finish or 0, model),
                (_COST_STATUS, hour, status, model),
            ]
            if tag_set:
                slots += [(_TAG, hour, tag, 0) for tag in self._tags_of(tag_set)]
            if state:
                slots.append((_ERROR, hour, error or 0, model))
            for slot in slots:
                known = out.get(slot)
                out[slot] = list(sums) if known is None else list(map(add, known, sums))
            if tool:  # a tool's calls are tool calls, counted by `tool`; the model calls made inside it lend it tokens and cost
                tool_amounts = [0, 0, *sums[2:10], 0]
                known = out.get((_TOOL, hour, tool, agent))
                out[_TOOL, hour, tool, agent] = (
                    tool_amounts if known is None else list(map(add, known, tool_amounts))
                )
        return {slot: sums for slot, sums in out.items() if any(sums)}
