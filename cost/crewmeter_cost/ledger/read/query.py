"""Groups and filters of reports, and how each group reads from the tables."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import MODEL_CALL_KEYS, Filter
from crewmeter_cost.ledger.schema.rollup_dimensions import DAY, DIMENSIONS, HOUR, LATENCY
from crewmeter_cost.ledger.sql import Sql, column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crewmeter_cost.ledger.schema.rollup_dimensions import Dimension

__all__ = [
    "GROUPS",
    "TIMES",
    "ReportQuery",
    "call_column",
    "formatted_time",
    "read_by",
    "report_query",
    "rollup_columns",
    "rounded",
    "started_within",
    "time_group_start",
    "time_of",
    "tool_column",
    "within",
]

QUARTER_HOUR = "quarter-hour"
"""Not a group of reports: what hours and days of zones such as +05:30 are put together from."""
TIMES: Mapping[str, int] = {
    "hour": HOUR,
    "day": DAY,
    "week": DAY,
    "month": DAY,
    QUARTER_HOUR: HOUR // 4,
}
"""Groups of time, and the seconds they are read by. Days become weeks and months afterwards."""
_TIME_GROUPS = tuple(name for name in TIMES if name != QUARTER_HOUR)
_TIME_FORMATS = {
    "hour": "%Y-%m-%dT%H:00Z",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
}

_NAMES = ("model", "provider", "crew", "agent", "task", "tool", "user", "team", "session")
GROUPS = (*_NAMES[:6], "run", *_NAMES[6:], "tag:KEY", *_TIME_GROUPS)
"""Everything `--by` takes."""

_FILTERS = (*_NAMES, "run", "service", "environment")
_OF_RUNS = ("user", "team", "session", "service", "environment")
"""Groups that a tool step takes from its run."""
_NO_GROUPS = ("run", "tag", "error", "finish", "cost_status")
"""Roll-ups for views. Reports are not grouped by their keys."""
_NO_LATENCIES = ("run", "ttft")
"""Latency counts of something else than calls."""
_NS = 10**9


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A checked report request."""

    by: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    beyond: Filter = field(default_factory=Filter)
    """Terms that no roll-up answers: comparisons, negations, and what describes a run."""

    @property
    def of_tools(self) -> bool:
        """Whether calls are tool calls: grouped by tool, or filtered by one."""
        return "tool" in self.names or any(term.key == "tool" for term in self.beyond.terms)

    @property
    def names(self) -> frozenset[str]:
        """The groups and filters that are not times."""
        filters = [name for name, _ in self.where]
        return frozenset(name for name in (*self.by, *filters) if name not in TIMES)

    @property
    def tag(self) -> str | None:
        """The KEY if this is grouped by one tag and nothing else but time."""
        if self.where or self.beyond.terms or len(self.names) != 1 or QUARTER_HOUR in self.by:
            return None
        (name,) = self.names
        if name.startswith("tag:"):
            return name[4:]
        return None

    @property
    def dimension(self) -> str | None:
        """The roll-up that answers this, None where only the calls themselves can."""
        if self.beyond.terms or QUARTER_HOUR in self.by:
            return None
        for name, dimension in DIMENSIONS.items():
            if name in _NO_GROUPS or (name == "tool") != self.of_tools:
                continue
            if self.names <= _keys(dimension):
                return name
        return None

    @property
    def latency(self) -> str | None:
        """The latency counts that answer this, None where there are none."""
        if self.beyond.terms:
            return None
        if not self.names:
            return "total"
        (name, *more) = self.names
        if more or name not in LATENCY or name in _NO_LATENCIES:
            return None
        return name


def _keys(dimension: Dimension) -> set[str]:
    return {key for key in (dimension.key, dimension.key2) if key is not None}


def _is_tag(word: str) -> bool:
    return word.startswith("tag:") and len(word) > len("tag:")


def report_query(by: Sequence[str], where: Filter) -> ReportQuery:
    """Return a checked request.

    Raises `CrewMeterError` naming the word that is no group.
    """
    groups = tuple(dict.fromkeys(word.strip() for word in by))
    for word in groups:
        if word not in (*_NAMES, "run", *_TIME_GROUPS) and not _is_tag(word):
            raise CrewMeterError(f"cannot group by {word!r}", hint=_nearest(word))
    query = ReportQuery(groups, *_split(where))
    _check_combination(query)
    return query


def _nearest(word: str) -> str:
    """Return the hint for a word that is no group."""
    near = difflib.get_close_matches(
        word.lower(),
        GROUPS,
        n=1,
        cutoff=0.5,
    )
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}one of {', '.join(GROUPS)}"


def _split(where: Filter) -> tuple[tuple[tuple[str, str], ...], Filter]:
    """Split a filter into equal names, which roll-ups answer, and the rest."""
    equal: dict[str, str] = {}
    beyond = []
    for term in where.terms:
        simple = term.operator == "=" and (term.key in _FILTERS or _is_tag(term.key))
        one_name = bool(term.value) and not term.also
        if simple and one_name and term.key not in equal:
            equal[term.key] = term.value
        else:
            beyond.append(term)
    return tuple(equal.items()), Filter(tuple(beyond))


def _check_combination(query: ReportQuery) -> None:
    compared = query.names | {term.key for term in query.beyond.terms}
    of_models = sorted(compared.intersection(MODEL_CALL_KEYS))
    if query.of_tools and of_models:
        raise CrewMeterError(
            f"tool calls have no {of_models[0]}", hint="group by tool, or by model, in two reports"
        )
    if sum(word in TIMES for word in query.by) > 1:
        raise CrewMeterError(
            "only one of hour, day and month at a time", hint="leave all but the finest out"
        )


def rounded(subject: str, step: int) -> str:
    """Return how many whole steps are in a column.

    The step is written out: a bound one would not match the index on whole seconds, and PostgreSQL
    does not see that two parameters in SELECT and GROUP BY are the same.
    """
    return f"({subject} / {step})"


def within(subject: str, first: int | None, last: int | None) -> list[Sql]:
    """Return the conditions for [first, last)."""
    conditions = []
    if first is not None:
        conditions.append(Sql(f"{subject} >= ?", (first,)))
    if last is not None:
        conditions.append(Sql(f"{subject} < ?", (last,)))
    return conditions


def started_within(table: str, since_ns: int | None, until_ns: int | None) -> list[Sql]:
    """Return "started in [since, until)", so that the index on whole seconds serves."""
    started = f"{table}.started_ns"
    # The condition on whole seconds repeats the one on nanoseconds, for the index.
    seconds = rounded(started, _NS)
    conditions = within(started, since_ns, until_ns)
    if since_ns is not None:
        conditions.append(Sql(f"{seconds} >= ?", (since_ns // _NS,)))
    if until_ns is not None:
        conditions.append(Sql(f"{seconds} <= ?", (until_ns // _NS,)))
    return conditions


def time_of(seconds: str, name: str) -> str:
    """Return the hour or day (for months, too) a column of unix seconds falls in."""
    step = TIMES[name]
    return f"{rounded(seconds, step)} * {step}"


def _by_time(table: str, name: str) -> str:
    step = TIMES[name]
    return f"{rounded(f'{table}.started_ns', step * _NS)} * {step}"


def call_column(name: str) -> str:
    """Return a group's raw key on `call`.

    A label id, tag set, run number or unix seconds.
    """
    if name in TIMES:
        return _by_time("call", name)
    if name == "model":
        return "coalesce(call.request_model, call.response_model)"
    if name.startswith("tag:"):
        return "call.tag_set"
    return column("call", name)


def tool_column(name: str) -> str:
    """Return a group's raw key on tool steps, which are joined to their run."""
    if name in TIMES:
        return _by_time("step", name)
    if name == "tool":
        return "step.name"
    if name.startswith("tag:"):
        return "run.tag_set"
    if name in _OF_RUNS:
        return column("run", name)
    return column("step", name)


def rollup_columns(dimension: str) -> dict[str, str]:
    """Return group name → column of `rollup_hour`, for one of its dimensions."""
    known = DIMENSIONS[dimension]
    columns = {name: time_of("rollup_hour.hour", name) for name in TIMES}
    if known.key is not None:
        columns[known.key] = "rollup_hour.key"
    if known.key2 is not None:
        columns[known.key2] = "rollup_hour.key2"
    return columns


def formatted_time(group: str, seconds: int, zone: tzinfo = UTC) -> str:
    """Return a time key as people write it, in a zone.

    `2026-11-21T09:00Z` (elsewhere `2026-11-21T10:00+01:00`), `2026-11-21`, `2026-W47`, `2026-11`.
    """
    moment = datetime.fromtimestamp(seconds, zone)
    if group == "hour" and zone is not UTC:
        return moment.isoformat(timespec="minutes")
    return moment.strftime(_TIME_FORMATS[group])


def time_group_start(group: str, seconds: int, zone: tzinfo = UTC) -> int:
    """Return the start (unix s) of a moment's hour, day, week or month in a zone."""
    moment = datetime.fromtimestamp(seconds, zone)
    start = moment.replace(minute=0, second=0)
    if group == "hour":
        return int(start.timestamp())
    start = start.replace(hour=0, fold=0)
    if group == "week":
        start -= timedelta(days=start.weekday())
    elif group == "month":
        start = start.replace(day=1)
    return int(start.timestamp())


def read_by(group: str, zone: tzinfo) -> str:
    """Return the group of time that one in a zone is put together from.

    Roll-ups are by hours of UTC, so a zone off by a part of an hour needs quarters from the calls.
    """
    if group not in TIMES or zone is UTC:
        return group
    return "hour" if _off_by_whole_hours(zone) else QUARTER_HOUR


def _off_by_whole_hours(zone: tzinfo) -> bool:
    """Return whether a zone's offsets of this century are whole hours."""
    offsets = (
        zone.utcoffset(datetime(year, month, 1)) for year in range(2000, 2038) for month in (1, 7)
    )
    return all(offset is None or offset.total_seconds() % HOUR == 0 for offset in offsets)
