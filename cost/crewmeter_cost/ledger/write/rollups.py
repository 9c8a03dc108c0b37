"""What one call, tool or run adds to the hourly roll-ups and latency counts. Pure.

A change to the ledger is a `Tally`: calls are added with sign +1, taken back with -1, and what is
left at the end is written in the same transaction as the rows. So the roll-ups equal the sum of the
rows at every commit.
"""

from __future__ import annotations

from collections import defaultdict
from operator import add, itemgetter
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.ledger.schema.latency_buckets import bucket_of
from crewmeter_cost.ledger.schema.report_columns import AMOUNTS, SUMS
from crewmeter_cost.ledger.schema.rollup_dimensions import DAY, DIMENSIONS, HOUR, LATENCY
from crewmeter_cost.ledger.write.rows import CALL, CallState
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crewmeter_cost.ledger.write.rows import Row

__all__ = ["Amounts", "Tally", "run_amounts"]

Amounts = list[int]
"""One number for each of `report_columns.SUMS`, in their order."""
Slot = tuple[int, int, int, int]
"""(dimension, hour, key, key2) of a roll-up, (dimension, hour, key, bucket) of a latency count."""

_HOUR_NS = HOUR * 10**9
_WIDTH = len(SUMS)
_WHOLE = AMOUNTS["cost_whole_usd"]
_PICO = AMOUNTS["cost_pusd"]
_CALLS = AMOUNTS["calls"]
_FAILED = AMOUNTS["failed_calls"]
_UNPRICED = AMOUNTS["unpriced_calls"]
_PRICED = AMOUNTS["priced_calls"]
_DURATION = AMOUNTS["duration_ns"]
_TOKENS = tuple(
    (AMOUNTS[each.name], tuple(getattr(CALL, column) for column in each.tokens))
    for each in SUMS
    if each.tokens
)
"""Each sum of tokens, and the positions in a call's row that it adds together."""
_OF_TOOLS = tuple(index for index, each in enumerate(SUMS) if each.own_of_tools)

_CODE = {name: dimension.code for name, dimension in DIMENSIONS.items()}
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


class _Group(NamedTuple):
    """Calls of one hour that are alike in everything a roll-up asks for.

    0 is "no name".
    """

    hour: int
    provider: int
    model: int
    crew: int
    agent: int
    task: int
    team: int
    user: int
    service: int
    environment: int
    tag_set: int
    tool: int
    state: int
    error_type: int
    finish_reason: int
    cost_status: int

    def slots(self, tags: Sequence[int]) -> Iterator[Slot]:
        """Yield every roll-up that these calls count in."""
        hour = self.hour
        yield _CODE["total"], hour, 0, 0
        yield _CODE["model"], hour, self.provider, self.model
        yield _CODE["crew"], hour, self.crew, self.agent
        yield _CODE["crew_model"], hour, self.crew, self.model
        yield _CODE["task"], hour, self.crew, self.task
        yield _CODE["team"], hour, self.team, self.user
        yield _CODE["team_crew"], hour, self.team, self.crew
        yield _CODE["team_model"], hour, self.team, self.model
        yield _CODE["service"], hour, self.service, self.environment
        yield _CODE["finish"], hour, self.finish_reason, self.model
        yield _CODE["cost_status"], hour, self.cost_status, self.model
        if self.state:
            yield _CODE["error"], hour, self.error_type, self.model
        for tag in tags:
            yield _CODE["tag"], hour, tag, 0

    def latencies(self) -> Iterator[tuple[int, int, int]]:
        """Yield (dimension, hour, key) of every latency count of these calls."""
        hour = self.hour
        yield LATENCY["total"], hour, 0
        yield LATENCY["model"], hour, self.model
        yield LATENCY["provider"], hour, self.provider
        yield LATENCY["crew"], hour, self.crew
        yield LATENCY["agent"], hour, self.agent
        yield LATENCY["task"], hour, self.task
        yield LATENCY["team"], hour, self.team


class Tally:
    """What a transaction adds to the roll-ups.

    `tags_of` gives the tag labels of a tag set.
    """

    def __init__(self, tags_of: Callable[[int], Sequence[int]]) -> None:
        self._tags_of = tags_of
        self._groups: dict[tuple[int, ...], Amounts] = {}
        self._durations: defaultdict[tuple[int, ...], defaultdict[int, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self._direct: dict[Slot, Amounts] = {}
        self._latencies: defaultdict[Slot, int] = defaultdict(int)
        self.took_back = False
        """Whether something was taken back, so that a sum may have come to nothing."""

    def call(self, row: Row, sign: int = 1) -> None:
        """Add (or, with -1, take back) one call."""
        hour = row[CALL.started_ns] // _HOUR_NS * HOUR
        group = (hour, *_GROUP(row))
        amounts = _call_amounts(row)
        if sign < 0:
            self.took_back = True
            amounts = [-amount for amount in amounts]
        known = self._groups.get(group)
        self._groups[group] = amounts if known is None else list(map(add, known, amounts))
        self._durations[group][bucket_of(row[CALL.duration_ns])] += sign
        first_token = row[CALL.ttft_ns]
        if first_token is not None:
            model = row[CALL.request_model] or row[CALL.response_model] or 0
            self._latencies[LATENCY["ttft"], hour, model, bucket_of(first_token)] += sign

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
        amounts = [0] * _WIDTH
        amounts[_CALLS] = 1
        amounts[_FAILED] = int(failed)
        amounts[_DURATION] = duration_ns
        hour = started_ns // _HOUR_NS * HOUR
        self._add((_CODE["tool"], hour, tool or 0, agent or 0), amounts, sign)
        self._latencies[LATENCY["tool"], hour, tool or 0, bucket_of(duration_ns)] += sign

    def run(
        self,
        *,
        started_ns: int,
        duration_ns: int,
        name: int | None,
        status: int,
        amounts: Amounts,
        sign: int = 1,
    ) -> None:
        """Add (or subtract) one finished run with the totals of `run_amounts`."""
        hour = started_ns // _HOUR_NS * HOUR
        self._add((_CODE["run"], hour, name or 0, status), amounts, sign)
        self._latencies[LATENCY["run"], hour, name or 0, bucket_of(duration_ns)] += sign

    def _add(self, slot: Slot, amounts: Amounts, sign: int) -> None:
        if sign < 0:
            self.took_back = True
            amounts = [-amount for amount in amounts]
        known = self._direct.get(slot)
        self._direct[slot] = amounts if known is None else list(map(add, known, amounts))

    def rollups(self) -> list[tuple[int, ...]]:
        """Return the rows of `rollup_hour`, those that are all zero left out."""
        sums = dict(self._direct)
        for key, amounts in self._groups.items():
            group = _group(key)
            tags = self._tags_of(group.tag_set) if group.tag_set else ()
            _spread(sums, group.slots(tags), amounts)
            if group.tool:
                # The tool's own steps count its calls, failures and time.
                inside = list(amounts)
                for index in _OF_TOOLS:
                    inside[index] = 0
                slot = _CODE["tool"], group.hour, group.tool, group.agent
                _spread(sums, (slot,), inside)
        rows = [(slot, _carried(sums[slot])) for slot in sorted(sums)]
        return [(*slot, *amounts) for slot, amounts in rows if any(amounts)]

    def latencies(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Return the rows of `latency_hour` and of `latency_day`, zero counts left out."""
        hourly = self._latencies.copy()
        for key, buckets in self._durations.items():
            for dimension, hour, name in _group(key).latencies():
                for bucket, count in buckets.items():
                    hourly[dimension, hour, name, bucket] += count
        daily: defaultdict[Slot, int] = defaultdict(int)
        for (dimension, hour, name, bucket), count in hourly.items():
            daily[dimension, hour // DAY * DAY, name, bucket] += count
        return _counts(hourly), _counts(daily)


def _group(key: tuple[int, ...]) -> _Group:
    hour, provider, requested, responded, *others = (part or 0 for part in key)
    return _Group(hour, provider, requested or responded, *others)


def _spread(sums: dict[Slot, Amounts], slots: Iterable[Slot], added: Amounts) -> None:
    for slot in slots:
        known = sums.get(slot)
        sums[slot] = added if known is None else list(map(add, known, added))


def _carried(amounts: Amounts) -> Amounts:
    """Carry pico-USD into whole dollars."""
    carry, pico = divmod(amounts[_PICO], PICO)
    row = list(amounts)
    row[_WHOLE] += carry
    row[_PICO] = pico
    return row


def _counts(counts: defaultdict[Slot, int]) -> list[tuple[int, ...]]:
    return [(*slot, count) for slot, count in sorted(counts.items()) if count]


def _call_amounts(row: Row) -> Amounts:
    """Return what one call adds, in the order of `SUMS`."""
    amounts = [0] * _WIDTH
    amounts[_CALLS] = 1
    amounts[_DURATION] = row[CALL.duration_ns]
    state = row[CALL.state]
    if state:
        amounts[_FAILED] = 1
    cost = row[CALL.cost_pusd]
    if cost is not None:
        amounts[_PRICED] = 1
        amounts[_WHOLE], amounts[_PICO] = divmod(cost, PICO)
    elif state != CallState.REJECTED:
        amounts[_UNPRICED] = 1
    for index, positions in _TOKENS:
        for position in positions:
            amounts[index] += row[position] or 0
    return amounts


def run_amounts(totals: dict[str, int]) -> Amounts:
    """Return totals by name as amounts in the order of `SUMS`, 0 for those not named."""
    return [totals.get(each.name, 0) for each in SUMS]
