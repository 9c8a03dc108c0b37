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
    from collections.abc import Callable, Sequence

    from crewmeter_cost.ledger.write.rows import Row

__all__ = ["Amounts", "Tally", "TallyRows", "run_amounts"]

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

# Bound once: a batch looks them up for every group of calls.
_TOTAL = DIMENSIONS["total"].code
_MODEL = DIMENSIONS["model"].code
_CREW = DIMENSIONS["crew"].code
_CREW_MODEL = DIMENSIONS["crew_model"].code
_TASK = DIMENSIONS["task"].code
_TEAM = DIMENSIONS["team"].code
_TEAM_CREW = DIMENSIONS["team_crew"].code
_TEAM_MODEL = DIMENSIONS["team_model"].code
_SERVICE = DIMENSIONS["service"].code
_FINISH = DIMENSIONS["finish"].code
_COST_STATUS = DIMENSIONS["cost_status"].code
_ERROR = DIMENSIONS["error"].code
_TAG = DIMENSIONS["tag"].code
_TOOL = DIMENSIONS["tool"].code
_RUN = DIMENSIONS["run"].code
_TOTAL_LATENCY = LATENCY["total"]
_MODEL_LATENCY = LATENCY["model"]
_PROVIDER_LATENCY = LATENCY["provider"]
_CREW_LATENCY = LATENCY["crew"]
_AGENT_LATENCY = LATENCY["agent"]
_TASK_LATENCY = LATENCY["task"]
_TEAM_LATENCY = LATENCY["team"]
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
    """Calls of one hour that are alike in every key of a roll-up.

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

    def slots(self, tags: Sequence[int]) -> list[Slot]:
        """Return every roll-up that these calls count in."""
        hour = self.hour
        model = self.model
        slots = [
            (_TOTAL, hour, 0, 0),
            (_MODEL, hour, self.provider, model),
            (_CREW, hour, self.crew, self.agent),
            (_CREW_MODEL, hour, self.crew, model),
            (_TASK, hour, self.crew, self.task),
            (_TEAM, hour, self.team, self.user),
            (_TEAM_CREW, hour, self.team, self.crew),
            (_TEAM_MODEL, hour, self.team, model),
            (_SERVICE, hour, self.service, self.environment),
            (_FINISH, hour, self.finish_reason, model),
            (_COST_STATUS, hour, self.cost_status, model),
        ]
        if self.state:
            slots.append((_ERROR, hour, self.error_type, model))
        slots.extend((_TAG, hour, tag, 0) for tag in tags)
        return slots

    def latencies(self) -> tuple[tuple[int, int], ...]:
        """Return (dimension, key) of every latency count of these calls."""
        return (
            (_TOTAL_LATENCY, 0),
            (_MODEL_LATENCY, self.model),
            (_PROVIDER_LATENCY, self.provider),
            (_CREW_LATENCY, self.crew),
            (_AGENT_LATENCY, self.agent),
            (_TASK_LATENCY, self.task),
            (_TEAM_LATENCY, self.team),
        )


class TallyRows(NamedTuple):
    """What a tally adds to each table, as rows in the order of the table's columns."""

    rollup_hour: list[tuple[int, ...]]
    latency_hour: list[tuple[int, ...]]
    latency_day: list[tuple[int, ...]]


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
        if known is not None:
            amounts = list(map(add, known, amounts))
        self._groups[group] = amounts
        bucket = bucket_of(row[CALL.duration_ns])
        self._durations[group][bucket] += sign
        first_token = row[CALL.ttft_ns]
        if first_token is not None:
            model = row[CALL.request_model] or row[CALL.response_model] or 0
            bucket = bucket_of(first_token)
            self._latencies[LATENCY["ttft"], hour, model, bucket] += sign

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
        self._add(
            (_TOOL, hour, tool or 0, agent or 0),
            amounts,
            sign,
        )
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
        self._add(
            (_RUN, hour, name or 0, status),
            amounts,
            sign,
        )
        self._latencies[LATENCY["run"], hour, name or 0, bucket_of(duration_ns)] += sign

    def _add(self, slot: Slot, amounts: Amounts, sign: int) -> None:
        if sign < 0:
            self.took_back = True
            amounts = [-amount for amount in amounts]
        known = self._direct.get(slot)
        self._direct[slot] = amounts if known is None else list(map(add, known, amounts))

    def rows(self) -> TallyRows:
        """Return the rows to add to each table, those that are all zero left out."""
        sums = dict(self._direct)
        hourly = self._latencies.copy()
        for key, amounts in self._groups.items():
            group = _group(key)
            self._spread_amounts(sums, group, amounts)
            for bucket, count in self._durations[key].items():
                for dimension, name in group.latencies():
                    hourly[dimension, group.hour, name, bucket] += count
        daily: defaultdict[Slot, int] = defaultdict(int)
        for (dimension, hour, name, bucket), count in hourly.items():
            daily[dimension, hour // DAY * DAY, name, bucket] += count
        return TallyRows(
            _nonzero_sums(sums),
            _nonzero_counts(hourly),
            _nonzero_counts(daily),
        )

    def _spread_amounts(self, sums: dict[Slot, Amounts], group: _Group, amounts: Amounts) -> None:
        tags = self._tags_of(group.tag_set) if group.tag_set else ()
        _spread(sums, group.slots(tags), amounts)
        if group.tool:
            # The tool's own steps count its calls, failures and time.
            inside = list(amounts)
            for index in _OF_TOOLS:
                inside[index] = 0
            _spread(
                sums,
                [(_TOOL, group.hour, group.tool, group.agent)],
                inside,
            )


def _group(key: tuple[int, ...]) -> _Group:
    hour, provider, requested, responded, *others = (part or 0 for part in key)
    return _Group(
        hour,
        provider,
        requested or responded,
        *others,
    )


def _spread(sums: dict[Slot, Amounts], slots: list[Slot], added: Amounts) -> None:
    for slot in slots:
        known = sums.get(slot)
        sums[slot] = added if known is None else list(map(add, known, added))


def _carried(amounts: Amounts) -> Amounts:
    """Carry pico-USD into whole dollars."""
    carry, pico = divmod(
        amounts[_PICO],
        PICO,
    )
    row = list(amounts)
    row[_WHOLE] += carry
    row[_PICO] = pico
    return row


def _nonzero_sums(sums: dict[Slot, Amounts]) -> list[tuple[int, ...]]:
    rows = [(slot, _carried(sums[slot])) for slot in sorted(sums)]
    return [(*slot, *amounts) for slot, amounts in rows if any(amounts)]


def _nonzero_counts(counts: defaultdict[Slot, int]) -> list[tuple[int, ...]]:
    return [(*slot, counts[slot]) for slot in sorted(counts) if counts[slot]]


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
