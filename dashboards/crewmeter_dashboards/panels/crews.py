"""Panels about crews, agents, tasks and their runs."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.overview import FAILURE_STEPS, SUCCESS_STEPS
from crewmeter_dashboards.panels.palette import BAD, GOOD, WARN
from crewmeter_dashboards.panels.panel import EMPTY_LIVE, Column, Kind, Panel, Step, Unit
from crewmeter_dashboards.panels.queries import (
    COST,
    NEWEST,
    RUN_COST,
    newest,
    over_time,
    quantiles_by,
)

__all__ = ["PANELS"]

FINISHED = "status <> 'running'"
_RUN_WHERE = sql_sources.where(
    {"crew": "name", "team": "team", "service": "service", "environment": "environment"}
)
_NEWEST = f"Looks at the newest {NEWEST:,} runs of the range."
_RUN_COLUMNS = {
    "time": Column("Started", Unit.TIME),
    "name": Column("Run", Unit.TEXT),
    "status": Column("Outcome", Unit.TEXT),
    "duration_seconds": Column("Duration", Unit.SECONDS),
    "calls": Column("Model calls", Unit.COUNT),
    "tool_calls": Column("Tool calls", Unit.COUNT),
    "tokens": Column("Tokens", Unit.COUNT),
    "cost_usd": Column("Cost", Unit.USD, bar=True),
    "trace_id": Column("Trace", Unit.TEXT, link="trace"),
    "run_id": Column("Run id", Unit.TEXT, link="run"),
}


def _runs_list(order: str, *, only: str = FINISHED) -> str:
    columns = (
        "time, name, status, duration_seconds, calls, tool_calls, unpriced_calls, "
        "input_tokens, output_tokens, cost_usd, trace_id, run_id"
    )
    return (
        f"WITH recent AS ({newest('runs', columns, only + _RUN_WHERE)})\n"
        "SELECT time, COALESCE(name, '(none)') AS name, status, duration_seconds, calls, "
        "tool_calls,\n"
        f"  input_tokens + output_tokens AS tokens, {RUN_COST} AS cost_usd, trace_id, run_id\n"
        f"FROM recent ORDER BY {order} LIMIT 20"
    )


def _per_run(column: str) -> str:
    """Return SQL for p50, p95 and max of a count per finished run (nearest rank)."""
    return (
        f"WITH r AS ({newest('runs', f'{column} AS n', FINISHED + _RUN_WHERE)}),\n"
        "h AS (SELECT n, COUNT(*) AS c FROM r GROUP BY n),\n"
        "cum AS (SELECT n, SUM(c) OVER (ORDER BY n) AS seen, SUM(c) OVER () AS total FROM h)\n"
        "SELECT MIN(CASE WHEN seen >= 0.5 * total THEN n END) AS p50,\n"
        "  MIN(CASE WHEN seen >= 0.95 * total THEN n END) AS p95, MAX(n) AS max\n"
        "FROM cum"
    )


_AGENT_ROWS = sql_sources.CREW.rows(
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "duration_seconds",
)
_PER_RUN = {"p50": Column("p50"), "p95": Column("p95"), "max": Column("max")}

_TASK_ROWS = sql_sources.TASK.rows(
    "calls", "failed_calls", "unpriced_calls", "cost_usd", "duration_seconds"
)

_STATS = (
    Panel(
        id="cost_per_run",
        title="Cost per run",
        tells="Cost of finished runs divided by their number.",
        act="Rising: look for a longer prompt, a more expensive model or more calls per run, "
        "next to this.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH facts AS ({sql_sources.RUN.rows('calls', 'cost_usd')})\nSELECT SUM(cost_usd) / "
        "NULLIF(SUM(calls), 0) AS cost FROM facts",
    ),
    Panel(
        id="cost_per_success",
        title="Cost per successful run",
        tells="All cost, also that of failed runs, divided by the runs that ended well: what a "
        "result really costs.",
        act="Far above cost per run means failures are expensive: see cost of failed runs on "
        "Spend.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=(
            f"WITH facts AS ({sql_sources.RUN.rows('calls', 'cost_usd')})\n"
            "SELECT SUM(cost_usd) / NULLIF(SUM(CASE WHEN status = 'ok' THEN calls ELSE 0 END), 0) "
            "AS cost FROM facts"
        ),
    ),
    Panel(
        id="calls_per_run",
        title="Model calls per run",
        tells=f"How many model calls a finished run makes. {_NEWEST}",
        act="A max far above p95 is a loop: open the most expensive runs below; "
        "docs/runbooks/calls-per-run.md.",
        source="view runs",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        columns=_PER_RUN,
        sql=_per_run("calls"),
    ),
    Panel(
        id="tools_per_run",
        title="Tool calls per run",
        tells=f"How many tool calls a finished run makes. {_NEWEST}",
        act="Growing: an agent retries a tool whose result does not help it; see tools on "
        "Models and tools.",
        source="view runs",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        columns=_PER_RUN,
        sql=_per_run("tool_calls"),
    ),
)

_SERIES = (
    Panel(
        id="runs_by_name",
        title="Runs by crew or flow",
        tells="Finished runs per bucket, by the outermost crew, flow or agent.",
        act="A crew that stops running deserves a look as much as one that runs too often.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="name",
        sql=over_time(sql_sources.RUN.rows("calls"), "name", "SUM(calls)", "runs"),
    ),
    Panel(
        id="run_p95_by_name",
        title="Run p95 by crew or flow",
        tells="95th percentile duration of a run, per bucket.",
        act="One crew slower: click into its slowest runs below. All slower: the provider, see "
        "Models and tools.",
        source="view runs (up to 3 h), then tables latency_hour and latency_day, dimension run",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        series="name",
        sql=quantiles_by("run", "name"),
    ),
    Panel(
        id="cost_per_run_by_name",
        title="Cost per run by crew or flow",
        tells="Average cost of a finished run, per bucket.",
        act="Steps are releases or model changes: compare with the date of the step.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.LINES,
        unit=Unit.USD,
        series="name",
        sql=over_time(
            sql_sources.RUN.rows("calls", "cost_usd"),
            "name",
            "SUM(cost_usd) / NULLIF(SUM(calls), 0)",
            "cost",
        ),
    ),
    Panel(
        id="agent_p95",
        title="Model call p95 by agent",
        tells="95th percentile latency of one model call, for the busiest agents.",
        act="An agent slower than the others on the same model has the longest prompts or answers.",
        source="view calls (up to 3 h), then tables latency_hour and latency_day, dimension agent",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        series="agent",
        sql=quantiles_by("agent", "agent"),
    ),
)

_TABLES = (
    Panel(
        id="run_names",
        title="Crews and flows",
        tells="Per outermost crew, flow or agent: runs, success, average duration, cost per run "
        "and per successful run.",
        act="Sort by cost per success: that is where a fix pays most.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "name": Column("Crew or flow", Unit.TEXT),
            "runs": Column("Runs", Unit.COUNT),
            "success": Column("Success", Unit.SHARE, steps=SUCCESS_STEPS),
            "mean_seconds": Column("Mean duration", Unit.SECONDS),
            "cost_per_run": Column("Cost per run", Unit.USD),
            "cost_per_success": Column("Per success", Unit.USD),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        sql=(
            f"WITH facts AS ({sql_sources.RUN.rows('calls', 'cost_usd', 'duration_seconds')})\n"
            "SELECT COALESCE(name, '(none)') AS name, SUM(calls) AS runs,\n"
            "  1.0 * SUM(CASE WHEN status = 'ok' THEN calls ELSE 0 END) / NULLIF(SUM(calls), 0) "
            "AS success,\n"
            "  SUM(duration_seconds) / NULLIF(SUM(calls), 0) AS mean_seconds, SUM(cost_usd) / "
            "NULLIF(SUM(calls), 0) AS cost_per_run,\n"
            "  SUM(cost_usd) / NULLIF(SUM(CASE WHEN status = 'ok' THEN calls ELSE 0 END), 0) AS "
            "cost_per_success,\n"
            "  SUM(cost_usd) AS cost_usd\n"
            "FROM facts GROUP BY 1 ORDER BY 7 DESC LIMIT 50"
        ),
    ),
    Panel(
        id="agents",
        title="Agents",
        tells="Per crew and agent: model calls, failures, tokens per call and cost.",
        act="Many input tokens a call: trim its backstory, memory or tool results. Many failures: "
        "read their error types.",
        source="view crew_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "crew": Column("Crew", Unit.TEXT),
            "agent": Column("Agent", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "mean_seconds": Column("Mean call", Unit.SECONDS),
            "input_per_call": Column("Input / call", Unit.COUNT),
            "output_per_call": Column("Output / call", Unit.COUNT),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        sql=(
            f"WITH facts AS ({_AGENT_ROWS})\n"
            "SELECT COALESCE(crew, '(none)') AS crew, COALESCE(agent, '(none)') AS agent, "
            "SUM(calls) AS calls,\n"
            "  1.0 * SUM(failed_calls) / NULLIF(SUM(calls), 0) AS failed_share,\n"
            "  SUM(duration_seconds) / NULLIF(SUM(calls), 0) AS mean_seconds,\n"
            "  1.0 * SUM(input_tokens) / NULLIF(SUM(calls), 0) AS input_per_call,\n"
            f"  1.0 * SUM(output_tokens) / NULLIF(SUM(calls), 0) AS output_per_call, {COST} AS "
            "cost_usd\n"
            "FROM facts GROUP BY 1, 2 ORDER BY SUM(cost_usd) DESC LIMIT 50"
        ),
    ),
    Panel(
        id="tasks",
        title="Tasks",
        tells="Per crew and task: model calls, failures, mean latency and cost.",
        act="One task with most of the cost is the one to give a smaller model or a shorter "
        "context.",
        source="view task_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "crew": Column("Crew", Unit.TEXT),
            "task": Column("Task", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "mean_seconds": Column("Mean call", Unit.SECONDS),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        sql=(
            f"WITH facts AS ({_TASK_ROWS})\n"
            "SELECT COALESCE(crew, '(none)') AS crew, COALESCE(task, '(none)') AS task, "
            "SUM(calls) AS calls,\n"
            "  1.0 * SUM(failed_calls) / NULLIF(SUM(calls), 0) AS failed_share,\n"
            f"  SUM(duration_seconds) / NULLIF(SUM(calls), 0) AS mean_seconds, {COST} AS cost_usd\n"
            "FROM facts GROUP BY 1, 2 ORDER BY SUM(cost_usd) DESC LIMIT 50"
        ),
    ),
    Panel(
        id="most_expensive_runs",
        title="Most expensive runs",
        tells=f"The runs that cost most. {_NEWEST}",
        act="Open the trace: many equal calls in a row are a loop, one huge call is a context "
        "that grew.",
        source="view runs",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns=_RUN_COLUMNS,
        sql=_runs_list("recent.cost_usd DESC"),
    ),
    Panel(
        id="slowest_runs",
        title="Slowest runs",
        tells=f"The finished runs that took longest. {_NEWEST}",
        act="Open the trace: the widest bar is the step to speed up, run in parallel or cap.",
        source="view runs",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns=_RUN_COLUMNS,
        sql=_runs_list(
            "duration_seconds DESC", only=f"{FINISHED} AND duration_seconds IS NOT NULL"
        ),
    ),
    Panel(
        id="failed_runs",
        title="Failed runs",
        tells="The latest runs that failed or were abandoned, with the error.",
        act="Same error over and over: a bug or a provider outage. Mixed ones: limits and "
        "timeouts; raise retries.",
        source="view runs",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "time": Column("Started", Unit.TIME),
            "name": Column("Run", Unit.TEXT),
            "status": Column("Outcome", Unit.TEXT),
            "error_type": Column("Error", Unit.TEXT),
            "duration_seconds": Column("Duration", Unit.SECONDS),
            "failed_calls": Column(
                "Failed calls", Unit.COUNT, steps=(Step(0, GOOD), Step(1, WARN), Step(5, BAD))
            ),
            "failed_tool_calls": Column("Failed tools", Unit.COUNT),
            "cost_usd": Column("Wasted", Unit.USD, bar=True),
            "trace_id": Column("Trace", Unit.TEXT, link="trace"),
            "run_id": Column("Run id", Unit.TEXT, link="run"),
        },
        empty="No failed run in this range. If runs are missing altogether: crewmeter doctor",
        sql=(
            "SELECT time, COALESCE(name, '(none)') AS name, status, error_type, duration_seconds, "
            "failed_calls, failed_tool_calls,\n"
            f"  {RUN_COST} AS cost_usd, trace_id, run_id\n"
            f"FROM runs WHERE time >= @from AND time < @to AND status IN ('error', "
            f"'abandoned'){_RUN_WHERE}\n"
            "ORDER BY time DESC LIMIT 20"
        ),
    ),
)

_LIVE = (
    Panel(
        id="live_runs",
        title="Runs, live",
        tells="Finished runs per minute by outcome, from Prometheus.",
        act="No line at all while users are active: docs/runbooks/telemetry-loss.md.",
        source="metric crewmeter_runs_total",
        kind=Kind.LINES,
        unit=Unit.PER_MINUTE,
        empty=EMPTY_LIVE,
        promql={
            "{{status}}": "60 * sum by (status) (rate(crewmeter_runs_total[$__rate_interval]))"
        },
    ),
    Panel(
        id="live_run_calls",
        title="Model calls per run, live",
        tells="95th percentile of model calls a run made, by crew or flow, from Prometheus: the "
        "loop detector.",
        act="A jump without a release is a loop: docs/runbooks/calls-per-run.md.",
        source="metric crewmeter_run_calls",
        kind=Kind.LINES,
        unit=Unit.COUNT,
        empty=EMPTY_LIVE,
        promql={
            "{{name}}": "histogram_quantile(0.95, sum by (name, le) "
            "(increase(crewmeter_run_calls_bucket[30m])))"
        },
    ),
)

PANELS = (*_STATS, *_SERIES, *_TABLES, *_LIVE)
