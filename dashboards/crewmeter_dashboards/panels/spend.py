"""Panels for whoever pays: spend, budget, failed runs, movers, chargeback."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.month_forecast import MONTH_END, MONTH_FACTS, TABLES
from crewmeter_dashboards.panels.palette import BAD, GOOD, WARN
from crewmeter_dashboards.panels.panel import Column, Kind, Panel, Step, Unit
from crewmeter_dashboards.panels.queries import COST, NEWEST, newest, over_time

__all__ = ["PANELS"]

_WASTED = "SUM(CASE WHEN status IN ('error', 'abandoned') THEN cost_usd ELSE 0 END)"
_EVERY = "1 = 1" + sql_sources.where(sql_sources.TOTAL.filters)
_NO_BUDGET = "No monthly budget set."
_BUDGET_STEPS = (Step(0, GOOD), Step(0.8, WARN), Step(1, BAD))
_MONEY_COLUMNS = {
    "calls": Column("Calls", Unit.COUNT),
    "input_tokens": Column("Input tokens", Unit.TOKENS),
    "output_tokens": Column("Output tokens", Unit.TOKENS),
    "unpriced": Column("Unpriced", Unit.COUNT, steps=(Step(0, GOOD), Step(1, WARN))),
    "cost_usd": Column("Cost", Unit.USD, bar=True),
    "share": Column("Share", Unit.SHARE),
}

_COST_STATUS_ROWS = sql_sources.COST_STATUS.rows("unpriced_calls", "input_tokens", "output_tokens")
_TEAM_ROWS = sql_sources.TEAM.rows(
    "calls", "unpriced_calls", "input_tokens", "output_tokens", "cost_usd"
)

_STATS = (
    Panel(
        id="month_to_date",
        title="Month to date",
        tells="Priced cost since the first of the month of the range's last day.",
        act="Unpriced calls are not included: see the coverage beside it.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH {MONTH_FACTS}\nSELECT COALESCE(SUM(cost_usd), 0) AS spend FROM facts",
    ),
    Panel(
        id="forecast",
        title="Month forecast",
        tells="Month to date plus, for every hour still to come, the mean of that hour of the week "
        "over the last four weeks: the figure of `crewmeter forecast`.",
        act="Over budget: docs/runbooks/forecast-over-budget.md. `crewmeter forecast` adds an "
        "80 % interval.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH {TABLES}\nSELECT {MONTH_END} AS forecast",
    ),
    Panel(
        id="budget_used",
        title="Budget used",
        tells="Month to date as a share of the monthly budget. On the local page that is the "
        "ledger's own (crewmeter budget set), in Grafana the one typed in at the top.",
        act="Alerts fire at 50, 80 and 100 %: docs/runbooks/month-to-date.md. To stop calls, not "
        "just watch them: crewmeter budget set.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=1,
        steps=_BUDGET_STEPS,
        empty=_NO_BUDGET,
        sql=f"WITH {MONTH_FACTS}\n"
        "SELECT 1.0 * COALESCE(SUM(cost_usd), 0) / NULLIF(@budget, 0) AS used FROM facts",
    ),
    Panel(
        id="forecast_share",
        title="Forecast used",
        tells="Month end at this pace as a share of the monthly budget (crewmeter budget set).",
        act="Above 100 % there is still time: the largest changes, below, say what moved this "
        "week.",
        source="view total_hourly",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=0,
        steps=(Step(0, GOOD), Step(0.9, WARN), Step(1, BAD)),
        empty=_NO_BUDGET,
        sql=f"WITH {TABLES}\nSELECT 1.0 * ({MONTH_END}) / NULLIF(@budget, 0) AS used",
    ),
    Panel(
        id="waste",
        title="Cost of failed runs",
        tells="Cost of runs that failed or were abandoned.",
        act="Open failed runs on Crews and agents, most expensive first.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=f"WITH facts AS ({sql_sources.RUN.rows('cost_usd')})\nSELECT COALESCE({_WASTED}, 0) "
        "AS wasted FROM facts",
    ),
    Panel(
        id="waste_share",
        title="Failed share",
        tells="Cost of failed and abandoned runs as a share of the cost of all runs.",
        act="Above a few percent a retry at the failing step pays more than a cheaper model.",
        source="view run_hourly (runs up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=1,
        steps=(Step(0, GOOD), Step(0.03, WARN), Step(0.1, BAD)),
        sql=f"WITH facts AS ({sql_sources.RUN.rows('cost_usd')})\nSELECT 1.0 * {_WASTED} / "
        "NULLIF(SUM(cost_usd), 0) AS share FROM facts",
    ),
    Panel(
        id="coverage",
        title="Priced coverage",
        tells="Share of calls whose cost is known.",
        act="Below 100 %: every amount here is too low. Unpriced calls, below, name model and "
        "reason.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=2,
        steps=(Step(0, BAD), Step(0.98, WARN), Step(1, GOOD)),
        sql=(
            f"WITH facts AS ({sql_sources.TOTAL.rows('calls', 'unpriced_calls')})\n"
            "SELECT 1.0 - 1.0 * SUM(unpriced_calls) / NULLIF(SUM(calls), 0) AS priced FROM facts"
        ),
    ),
)


def _spend(panel_id: str, title: str, source: sql_sources.Source, name: str, act: str) -> Panel:
    return Panel(
        id=panel_id,
        title=title,
        tells=f"Cost per bucket, by {name}; the seven most expensive, then the rest.",
        act=act,
        source=f"view {source.rollup} (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.USD,
        series=name,
        sql=over_time(source.rows("cost_usd"), name, "SUM(cost_usd)", "spend"),
    )


_SERIES = (
    Panel(
        id="month_curve",
        title="This month against the budget",
        tells="Spend added up day by day, the even pace that would just use the budget up, and "
        "the budget.",
        act="Above the even pace early in the month: find the cause before the alert fires.",
        source="view total_hourly",
        kind=Kind.LINES,
        unit=Unit.USD,
        month=True,
        columns={
            "spend": Column("spend"),
            "even pace": Column("even pace"),
            "budget": Column("budget"),
        },
        sql=(
            f"WITH {MONTH_FACTS},\n"
            f"days AS (SELECT {sql_sources.DAY} AS day, SUM(cost_usd) AS cost FROM facts GROUP "
            "BY 1)\n"
            "SELECT day AS time, SUM(cost) OVER (ORDER BY day) AS spend,\n"
            "  NULLIF(@budget, 0) * 1.0 * (day + 86400 - @month_start) / (@month_end - "
            "@month_start) "
            'AS "even pace",\n'
            "  NULLIF(@budget, 0) * 1.0 AS budget\n"
            "FROM days ORDER BY 1"
        ),
    ),
    _spend(
        "spend_by_model",
        "Spend by model",
        sql_sources.MODEL,
        "model",
        "The largest colour is where a cheaper model pays: crewmeter whatif.",
    ),
    _spend(
        "spend_by_provider",
        "Spend by provider",
        sql_sources.MODEL,
        "provider",
        "Compare with the invoices: crewmeter audit.",
    ),
    _spend(
        "spend_by_team",
        "Spend by team",
        sql_sources.TEAM,
        "team",
        "Much (none)? Wrap the work in crewmeter.attribute(team=…).",
    ),
)

_BARS = (
    Panel(
        id="spend_by_user",
        title="Spend by user",
        tells="The fifteen users whose work cost most.",
        act="One user far ahead: a heavy tenant or a runaway script; cap with crewmeter budget "
        "set --scope user.",
        source="view team_hourly (calls up to 3 h)",
        kind=Kind.BARS,
        unit=Unit.USD,
        series="user",
        sql=(
            f"WITH facts AS ({sql_sources.TEAM.rows('cost_usd')})\n"
            'SELECT COALESCE("user", \'(none)\') AS "user", SUM(cost_usd) AS spend FROM facts '
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 15"
        ),
    ),
    Panel(
        id="spend_by_tag",
        title="Spend by tag",
        tells="Cost by tag (key=value), to the whole hour. A call with two tags counts under both.",
        act="Tag features, tenants and experiments with crewmeter.attribute(feature=…) to see "
        "their cost here.",
        source="view tag_hourly",
        kind=Kind.BARS,
        unit=Unit.USD,
        series="tag",
        empty="No tagged call in this range. Tag with crewmeter.attribute(feature='search') or "
        "CREWMETER_TAGS.",
        sql=(
            "SELECT tag, SUM(cost_usd) AS spend FROM tag_hourly WHERE time >= @from / 3600 * 3600 "
            "AND time < @to\n"
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 15"
        ),
    ),
)


def _mover(kind: str, source: sql_sources.Source, name: str) -> str:
    this_week, week_before = (
        f"SUM(CASE WHEN time {side} @to - 604800 THEN cost_usd ELSE 0 END)" for side in (">=", "<")
    )
    return (
        f"SELECT '{kind}' AS kind, COALESCE({name}, '(none)') AS name, {week_before} AS "
        f"week_before, {this_week} AS this_week\n"
        f"  FROM ({source.rows('cost_usd', since='(@to - 1209600)')}) AS m GROUP BY 2"
    )


_TABLES = (
    Panel(
        id="movers",
        title="Largest changes, week over week",
        tells="Cost of the last seven days against the seven before, by model, crew and team; "
        "largest change first.",
        act="A plus without a known reason: open it on Crews and agents.",
        source="views model_hourly, crew_hourly and team_hourly",
        kind=Kind.TABLE,
        unit=Unit.USD,
        columns={
            "kind": Column("By", Unit.TEXT),
            "name": Column("Name", Unit.TEXT),
            "week_before": Column("Before", Unit.USD),
            "this_week": Column("This week", Unit.USD),
            "change": Column("Change", Unit.USD),
            "change_share": Column("Share", Unit.SHARE),
        },
        sql=(
            f"WITH moved AS ({_mover('model', sql_sources.MODEL, 'model')}\n  UNION ALL\n  "
            f"{_mover('crew', sql_sources.CREW, 'crew')}\n"
            f"  UNION ALL\n  {_mover('team', sql_sources.TEAM, 'team')})\n"
            "SELECT kind, name, week_before, this_week, this_week - week_before AS change,\n"
            "  (this_week - week_before) / NULLIF(week_before, 0) AS change_share\n"
            "FROM moved ORDER BY ABS(this_week - week_before) DESC LIMIT 15"
        ),
    ),
    Panel(
        id="unpriced_models",
        title="Unpriced calls",
        tells="Calls without a cost, by model and the reason there is none.",
        act="No price for a model: add it to your price file, then crewmeter reprice. No usage: "
        "docs/runbooks/unpriced-calls.md.",
        source="view cost_status_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "model": Column("Model", Unit.TEXT),
            "cost_status": Column("Reason", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT, bar=True),
            "input_tokens": Column("Tokens in", Unit.COUNT),
            "output_tokens": Column("Tokens out", Unit.COUNT),
        },
        empty="Every call in this range has a price.",
        sql=(
            f"WITH facts AS ({_COST_STATUS_ROWS})\n"
            "SELECT COALESCE(model, '(none)') AS model, cost_status, SUM(unpriced_calls) AS "
            "calls, SUM(input_tokens) AS input_tokens,\n"
            "  SUM(output_tokens) AS output_tokens\n"
            "FROM facts GROUP BY 1, 2 HAVING SUM(unpriced_calls) > 0 ORDER BY 3 DESC LIMIT 30"
        ),
    ),
    Panel(
        id="reported",
        title="Computed against reported",
        tells="Where a provider reports its own cost (OpenRouter does): that sum beside ours, for "
        f"the newest {NEWEST:,} calls of the range.",
        act="Apart by more than 2 %: a negotiated rate or a new billing dimension; crewmeter "
        "prices check, then reprice.",
        source="view calls",
        kind=Kind.TABLE,
        unit=Unit.USD,
        columns={
            "provider": Column("Provider", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT),
            "reported_usd": Column("Reported", Unit.USD),
            "computed_usd": Column("Computed", Unit.USD),
            "difference": Column(
                "Difference",
                Unit.SHARE,
                steps=(Step(-1e9, WARN), Step(-0.02, GOOD), Step(0.02, WARN)),
            ),
        },
        empty="No provider in this range reports a cost of its own.",
        sql=(
            "SELECT COALESCE(provider, '(none)') AS provider, COUNT(*) AS calls, "
            "SUM(reported_cost_usd) AS reported_usd,\n"
            "  SUM(cost_usd) AS computed_usd, SUM(cost_usd) / NULLIF(SUM(reported_cost_usd), 0) - "
            "1.0 AS difference\n"
            f"FROM ({newest('calls', 'provider, cost_usd, reported_cost_usd', _EVERY)}) AS c\n"
            "WHERE reported_cost_usd IS NOT NULL GROUP BY 1 ORDER BY 3 DESC"
        ),
    ),
    Panel(
        id="chargeback",
        title="Chargeback",
        tells="Per team and user: calls, tokens, cost and share of all cost in the range; what "
        "you would bill them.",
        act="Download as CSV from the panel's menu, or crewmeter statement for a month, or "
        "crewmeter export --format focus.",
        source="view team_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.USD,
        columns={
            "team": Column("Team", Unit.TEXT),
            "user": Column("User", Unit.TEXT),
            **_MONEY_COLUMNS,
        },
        sql=(
            f"WITH facts AS ({_TEAM_ROWS})\n"
            "SELECT COALESCE(team, '(none)') AS team, COALESCE(\"user\", '(none)') AS \"user\", "
            "SUM(calls) AS calls,\n"
            "  SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens, "
            "SUM(unpriced_calls) AS unpriced,\n"
            f"  {COST} AS cost_usd, SUM(cost_usd) / NULLIF(SUM(SUM(cost_usd)) OVER (), 0) AS "
            "share\n"
            "FROM facts GROUP BY 1, 2 ORDER BY SUM(cost_usd) DESC LIMIT 200"
        ),
    ),
)

PANELS = (*_STATS, *_SERIES, *_BARS, *_TABLES)
