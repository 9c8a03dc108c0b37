"""Panels that answer whether all is well and what it costs."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.palette import BAD, GOOD, NEUTRAL, WARN
from crewmeter_dashboards.panels.panel import EMPTY_LIVE, Column, Kind, Panel, Step, Unit
from crewmeter_dashboards.panels.queries import (
    COST,
    QUANTILES,
    over_time,
    quantiles,
    quantiles_over_time,
)

__all__ = ["FAILURE_STEPS", "PANELS", "SUCCESS_STEPS"]

_CREW_ROWS = sql_sources.CREW.rows(
    "calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens", "cost_usd"
)

SUCCESS_STEPS = (Step(0, BAD), Step(0.95, WARN), Step(0.99, GOOD))
FAILURE_STEPS = (Step(0, GOOD), Step(0.01, WARN), Step(0.05, BAD))

PANELS = (
    Panel(
        id="runs",
        title="Runs",
        tells="Crew, flow and agent runs that finished in the range.",
        act="None at all while users are active means the app is down or unmetered: run "
        "`crewmeter doctor`.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        sql=f"WITH facts AS ({sql_sources.RUN.rows('calls')})\nSELECT COALESCE(SUM(calls), 0) AS "
        "runs FROM facts",
    ),
    Panel(
        id="success_rate",
        title="Success rate",
        tells="Share of finished runs that ended well. Failed and abandoned runs count against it.",
        act="Below 99 % open Crews and agents: the table of failed runs names the error and links "
        "the trace.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=1,
        steps=SUCCESS_STEPS,
        sql=(
            f"WITH facts AS ({sql_sources.RUN.rows('calls')})\n"
            "SELECT 1.0 * SUM(CASE WHEN status = 'ok' THEN calls ELSE 0 END) / NULLIF(SUM(calls), "
            "0) AS success FROM facts"
        ),
    ),
    Panel(
        id="run_latency",
        title="Run latency",
        tells="How long runs take: half are faster than p50, one in twenty is slower than p95.",
        act="A p99 far above p95 means a few runs hang: see the slowest runs on Crews and agents.",
        source="views latency_daily and latency_hourly, dimension run",
        kind=Kind.STAT,
        unit=Unit.SECONDS,
        columns={name: Column(name) for name in QUANTILES},
        sql=quantiles("run"),
    ),
    Panel(
        id="spend_today",
        title="Spend today",
        tells="Priced cost since midnight of the range's last day.",
        act="Higher than usual for the hour? Spend by crew over time, below, shows who.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH facts AS ({sql_sources.TOTAL.rows('cost_usd', since='@day_start')})\nSELECT "
        "COALESCE(SUM(cost_usd), 0) AS spend FROM facts",
    ),
    Panel(
        id="spend_month",
        title="Spend this month",
        tells="Priced cost since the first of the month of the range's last day.",
        act="Compare with the budget and the forecast on the board Spend.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH facts AS ({sql_sources.TOTAL.rows('cost_usd', since='@month_start')})\nSELECT "
        "COALESCE(SUM(cost_usd), 0) AS spend FROM facts",
    ),
    Panel(
        id="tokens",
        title="Tokens",
        tells="Input (cached ones included) and output tokens that providers billed in the range.",
        act="Input growing faster than runs means prompts or memory grow: see tokens by kind on "
        "Models and tools.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        columns={"input": Column("input"), "output": Column("output")},
        sql=(
            f"WITH facts AS ({sql_sources.TOTAL.rows('input_tokens', 'output_tokens')})\n"
            "SELECT COALESCE(SUM(input_tokens), 0) AS input, COALESCE(SUM(output_tokens), 0) AS "
            "output FROM facts"
        ),
    ),
    Panel(
        id="unpriced_calls",
        title="Unpriced calls",
        tells="Calls whose cost is unknown. They are missing from every amount of money on these "
        "boards.",
        act="Anything above 0: the table of unpriced calls on Spend names model and reason; then "
        "`crewmeter prices check`.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        steps=(Step(0, GOOD), Step(1, WARN), Step(100, BAD)),
        sql=f"WITH facts AS ({sql_sources.TOTAL.rows('unpriced_calls')})\nSELECT "
        "COALESCE(SUM(unpriced_calls), 0) AS unpriced FROM facts",
    ),
    Panel(
        id="telemetry_age",
        title="Newest call",
        tells="Time since the newest call in the ledger started.",
        act="Old while crews run: telemetry is lost. See Pipeline health, then "
        "docs/runbooks/telemetry-loss.md.",
        source="view calls",
        kind=Kind.STAT,
        unit=Unit.SECONDS,
        steps=(Step(0, GOOD), Step(3600, WARN), Step(86400, NEUTRAL)),
        sql="SELECT @now - MAX(time) AS age FROM calls WHERE time >= (SELECT MAX(time) FROM "
        "total_hourly)",
    ),
    Panel(
        id="runs_by_status",
        title="Runs by outcome",
        tells="Finished runs per bucket, by how they ended.",
        act="Red growing: open the failed runs on Crews and agents. Grey is abandoned: the "
        "process died or was killed.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="status",
        sql=over_time(sql_sources.RUN.rows("calls"), "status", "SUM(calls)", "runs"),
    ),
    Panel(
        id="spend_by_crew",
        title="Spend by crew",
        tells="Cost per bucket, by the crew that made the calls. "
        "The seven most expensive, then the rest.",
        act="A step up without more runs: a prompt, model or loop changed. Compare cost per run "
        "on Crews and agents.",
        source="view crew_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.USD,
        series="crew",
        sql=over_time(sql_sources.CREW.rows("cost_usd"), "crew", "SUM(cost_usd)", "spend"),
    ),
    Panel(
        id="call_latency",
        title="Model call latency",
        tells="Latency of single model calls over time.",
        act="p95 up for all models: the network or a gateway. Up for one: see Models and tools.",
        source="views latency_daily and latency_hourly, dimension total (calls up to 3 h)",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        columns={name: Column(name) for name in QUANTILES},
        sql=quantiles_over_time("total"),
    ),
    Panel(
        id="call_rate",
        title="Model calls per minute",
        tells="Calls to model providers per minute, and those that failed.",
        act="Failures: error types are on Models and tools. A rate that climbs while runs do not "
        "is a loop.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.LINES,
        unit=Unit.PER_MINUTE,
        columns={"ok": Column("ok"), "failed": Column("failed")},
        sql=(
            f"WITH facts AS ({sql_sources.TOTAL.rows('calls', 'failed_calls')})\n"
            f"SELECT {sql_sources.BUCKET} AS time, 60.0 * (SUM(calls) - SUM(failed_calls)) / "
            "@bucket AS ok,\n"
            "  60.0 * SUM(failed_calls) / @bucket AS failed\n"
            "FROM facts GROUP BY 1 ORDER BY 1"
        ),
    ),
    Panel(
        id="crews_red",
        title="Crews: rate, errors, duration, cost",
        tells="Per crew: model calls, the share that failed, 95th percentile latency of a call, "
        "tokens and cost.",
        act="Click a crew to see its agents and tasks.",
        source="views crew_hourly, latency_daily and latency_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "crew": Column("Crew", Unit.TEXT, link="crews"),
            "calls": Column("Calls", Unit.COUNT),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "p95_seconds": Column("p95 call", Unit.SECONDS),
            "tokens": Column("Tokens", Unit.COUNT),
            "unpriced": Column("Unpriced", Unit.COUNT),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        sql=(
            f"WITH facts AS ({_CREW_ROWS}),\n"
            f"lat AS ({sql_sources.latency('crew')}),\n"
            "cum AS (SELECT key, le_seconds, SUM(SUM(count)) OVER (PARTITION BY key ORDER BY "
            "le_seconds) AS seen,\n"
            "  SUM(SUM(count)) OVER (PARTITION BY key) AS total FROM lat GROUP BY key, "
            "le_seconds),\n"
            "p AS (SELECT key, MIN(le_seconds) AS p95_seconds FROM cum WHERE seen >= 0.95 * total "
            "GROUP BY key)\n"
            "SELECT COALESCE(f.crew, '(none)') AS crew, f.calls, f.failed_share, p.p95_seconds, "
            "f.tokens, f.unpriced, f.cost_usd\n"
            "FROM (SELECT crew, SUM(calls) AS calls, 1.0 * SUM(failed_calls) / NULLIF(SUM(calls), "
            "0) AS failed_share,\n"
            "  SUM(input_tokens) + SUM(output_tokens) AS tokens, SUM(unpriced_calls) AS unpriced,\n"
            f"  {COST} AS cost_usd, SUM(cost_usd) AS known\n"
            "  FROM facts GROUP BY crew) AS f LEFT JOIN p ON COALESCE(p.key, '') = "
            "COALESCE(f.crew, '')\n"
            "ORDER BY f.known DESC LIMIT 50"
        ),
    ),
    Panel(
        id="live_calls",
        title="Calls, live",
        tells="Model calls per second from Prometheus, by outcome; fresh to the scrape interval.",
        act="Red for minutes: the burn-rate alerts will page; docs/runbooks/success-burn.md.",
        source="metric crewmeter_llm_calls_total",
        kind=Kind.LINES,
        unit=Unit.PER_SECOND,
        empty=EMPTY_LIVE,
        promql={
            "{{status}}": "sum by (status) (rate(crewmeter_llm_calls_total[$__rate_interval]))"
        },
    ),
    Panel(
        id="live_latency",
        title="Operations p95, live",
        tells="95th percentile duration by operation (model calls, tools, agents, tasks, runs) "
        "from Prometheus.",
        act="Runs slow but model calls not: tools or retries. All slow: the provider.",
        source="metric crewmeter_operation_duration_seconds",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        empty=EMPTY_LIVE,
        promql={
            "{{operation}}": (
                "histogram_quantile(0.95, sum by (operation, le) "
                "(rate(crewmeter_operation_duration_seconds_bucket[$__rate_interval])))"
            )
        },
    ),
    Panel(
        id="live_spend",
        title="Spend per hour, live",
        tells="USD per hour at the current pace, by model, from Prometheus.",
        act="Steps up without a release: docs/runbooks/spend-per-hour.md.",
        source="metric crewmeter_cost_usd_total",
        kind=Kind.STACK,
        unit=Unit.USD,
        empty=EMPTY_LIVE,
        promql={
            "{{model}}": "3600 * sum by (model) (rate(crewmeter_cost_usd_total[$__rate_interval]))"
        },
    ),
    Panel(
        id="live_heatmap",
        title="Where calls spend their time",
        tells="How many model calls took how long: one column a moment, brighter means more.",
        act="Two bands are two populations (cached and not, small and large model); a rising top "
        "band is queueing.",
        source="metric crewmeter_operation_duration_seconds",
        kind=Kind.HEATMAP,
        unit=Unit.SECONDS,
        empty=EMPTY_LIVE,
        promql={
            "{{le}}": "sum by (le) (increase(crewmeter_operation_duration_seconds_bucket"
            '{operation="llm"}[$__rate_interval]))'
        },
    ),
)
