"""Panels about conversations: sessions, whose turns are runs."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.overview import FAILURE_STEPS
from crewmeter_dashboards.panels.panel import Column, Kind, Panel, Unit
from crewmeter_dashboards.panels.queries import NEWEST, RUN_COST, newest

__all__ = ["PANELS"]

_TURNS = newest(
    "runs",
    f"session, time, calls, status, duration_seconds, {RUN_COST} AS spent",
    "status <> 'running' AND session IS NOT NULL"
    + sql_sources.where(
        {"crew": "name", "team": "team", "service": "service", "environment": "environment"}
    ),
)
_NEWEST = f"Looks at the newest {NEWEST:,} runs of the range."
_EMPTY = "No conversations: give runs a session with crewmeter.attribute(session=…)."
_EACH = (
    f"WITH turn AS ({_TURNS}),\n"
    "each AS (SELECT session, COUNT(*) AS turns, SUM(spent) AS spent FROM turn GROUP BY session)\n"
)

PANELS = (
    Panel(
        id="conversation_turns",
        title="Turns per conversation",
        tells=f"How many runs one session has, on average and at most. {_NEWEST}",
        act="A conversation of many turns carries a long history into each call: trim or "
        "summarise it.",
        source="view runs",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        columns={"mean": Column("mean"), "most": Column("max")},
        empty=_EMPTY,
        sql=f"{_EACH}SELECT AVG(1.0 * turns) AS mean, MAX(turns) AS most FROM each",
    ),
    Panel(
        id="conversation_cost",
        title="Cost per conversation",
        tells=f"What a session costs, on average and at most. {_NEWEST}",
        act="Compare the most expensive one with a usual one: open its runs in the table below.",
        source="view runs",
        kind=Kind.STAT,
        unit=Unit.USD,
        columns={"mean": Column("mean", Unit.USD), "most": Column("max", Unit.USD)},
        empty=_EMPTY,
        sql=f"{_EACH}SELECT AVG(spent) AS mean, MAX(spent) AS most FROM each",
    ),
    Panel(
        id="conversations",
        title="Conversations",
        tells="Per session: its turns (runs), model calls, how long a turn takes, and what the "
        f"conversation costs. {_NEWEST}",
        act="Open the runs of the most expensive one: a cost per turn that grows turn by turn is "
        "a history that is sent again and again.",
        source="view runs",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "session": Column("Session", Unit.TEXT),
            "started": Column("Started", Unit.TIME),
            "turns": Column("Turns", Unit.COUNT),
            "model_calls": Column("Model calls", Unit.COUNT),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "mean_seconds": Column("Mean turn", Unit.SECONDS),
            "longest": Column("Longest turn", Unit.SECONDS),
            "cost_per_turn": Column("Cost per turn", Unit.USD),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        empty=_EMPTY,
        sql=(
            f"WITH turn AS ({_TURNS})\n"
            "SELECT session, MIN(time) AS started, COUNT(*) AS turns, SUM(calls) AS model_calls,\n"
            "  1.0 * SUM(CASE WHEN status = 'ok' THEN 0 ELSE 1 END) / COUNT(*) AS failed_share,\n"
            "  AVG(duration_seconds) AS mean_seconds, MAX(duration_seconds) AS longest,\n"
            "  SUM(spent) / COUNT(*) AS cost_per_turn, SUM(spent) AS cost_usd\n"
            "FROM turn GROUP BY session ORDER BY 9 DESC LIMIT 50"
        ),
    ),
)
