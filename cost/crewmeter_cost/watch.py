"""One look at a ledger for the live view: what runs, what was spent, what failed a moment ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from crewmeter_cost.budgets.spend import hourly_pusd
from crewmeter_cost.budgets.store import Status, in_force, status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Engine

__all__ = ["Failure", "RunLine", "Snapshot", "look"]

ALIVE_SECONDS = 3600
"""A run without an end is shown as running for an hour after it began; then its process is taken to be gone."""
RATE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run: seconds, tokens, and USD for people (float; the ledger keeps the exact sum)."""

    run_id: str
    name: str
    status: str
    started: int
    duration_seconds: float | None
    calls: int
    tool_calls: int
    cost_usd: float | None
    unpriced_calls: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call or tool use."""

    time: int
    what: str
    error_type: str
    where: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the live view shows, as of one moment."""

    running: tuple[RunLine, ...]
    finished: tuple[RunLine, ...]
    calls_per_minute: int
    tokens_per_minute: int
    hour_pusd: int
    day_pusd: int
    failures: tuple[Failure, ...]
    budgets: Sequence[Status]


_RUNS = (
    "SELECT run_id, name, status, time, duration_seconds, calls, tool_calls, cost_usd, unpriced_calls "
    "FROM runs WHERE {} ORDER BY time DESC LIMIT :most"
)
_RATE = "SELECT count(*), coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) FROM calls WHERE time >= :since"
_FAILED_CALLS = (
    "SELECT time, coalesce(request_model, operation), coalesce(error_type, 'error'), coalesce(agent, crew, '') "
    "FROM calls WHERE status = 'error' AND time >= :since ORDER BY time DESC LIMIT :most"
)
_FAILED_TOOLS = (
    "SELECT time, name, coalesce(error_type, 'error'), coalesce(agent, crew, '') "
    "FROM steps WHERE status = 'error' AND kind = 'tool' AND time >= :since ORDER BY time DESC LIMIT :most"
)


def look(engine: Engine, *, now: datetime, most: int = 8) -> Snapshot:
    """What the ledger says at `now`, at most `most` lines of each kind."""
    moment = int(now.timestamp())
    day = moment // 86400 * 86400
    hourly = hourly_pusd(engine, scope="everything", value=None, start=day, end=moment + 1)
    with engine.connect() as connection:
        running = connection.execute(
            text(_RUNS.format("status = 'running' AND time >= :since")), {"since": moment - ALIVE_SECONDS, "most": most}
        ).all()
        finished = connection.execute(text(_RUNS.format("status <> 'running'")), {"most": most}).all()
        calls, tokens = connection.execute(text(_RATE), {"since": moment - RATE_SECONDS}).one()
        since = {"since": moment - 86400, "most": most}
        failed = [*connection.execute(text(_FAILED_CALLS), since), *connection.execute(text(_FAILED_TOOLS), since)]
    return Snapshot(
        running=tuple(_line(row) for row in running),
        finished=tuple(_line(row) for row in finished),
        calls_per_minute=int(calls),
        tokens_per_minute=int(tokens),
        hour_pusd=hourly.get(moment // 3600 * 3600, 0),
        day_pusd=sum(hourly.values()),
        failures=tuple(Failure(*row) for row in sorted(failed, key=lambda row: -row[0])[:most]),
        budgets=status(engine, in_force(engine), now=now),
    )


def _line(row: Sequence[object]) -> RunLine:
    return RunLine(*row)  # type: ignore[arg-type]  # the query's columns are the fields, in order
