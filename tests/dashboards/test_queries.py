"""Every query of every panel and variable, on real data in each database."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from crewmeter_cost.analysis.budget_forecast import outlook
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.web.panel_queries import ask, ask_panel, catalogue, choices
from crewmeter_cost.web.params import ANY, PanelParameters
from crewmeter_cost.web.time_buckets import auto_bucket
from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.sql_dialects import for_alert, for_grafana
from crewmeter_dashboards.sql_sources import DETAIL_SECONDS, FILTERS, Dialect
from crewmeter_dashboards.thresholds import load

DAY = 86400
SQL_PANELS = sorted(panel.id for panel in CATALOGUE.values() if panel.sql)
MAY_BE_EMPTY = {"reported"}
"""The demo's providers report no cost of their own."""


def question(seconds: int, *, until: int | None = None, **filters: str) -> PanelParameters:
    until = until or int(time.time())
    chosen = {name: (filters[name],) if name in filters else (ANY,) for name in FILTERS}
    return PanelParameters(
        since=until - seconds,
        until=until,
        bucket=auto_bucket(seconds),
        budget=1000.0,
        filters=chosen,
    )


@pytest.mark.parametrize("panel", SQL_PANELS)
def test_a_panel_answers_over_thirty_days(ledger, panel):
    """Every panel query returns rows with the promised columns in each database."""
    answer = ask_panel(ledger.engine, panel, question(30 * DAY))
    promised = CATALOGUE[panel]
    assert answer["rows"] or panel in MAY_BE_EMPTY
    assert set(promised.columns) <= set(answer["columns"])
    if promised.series:
        assert promised.series in answer["columns"]


@pytest.mark.mostly_slow("sqlite")
@pytest.mark.parametrize("panel", SQL_PANELS)
def test_a_panel_answers_over_an_hour_with_a_filter(ledger, panel):
    """Short ranges read single calls, filters bind.

    Both run in each database.
    """
    ask_panel(ledger.engine, panel, question(3600, crew="support-triage", model="gpt-4o"))


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_a_filter_offers_names(ledger, name):
    """Every variable's query returns names."""
    assert choices(ledger.engine, name, question(30 * DAY))


def _value(ledger: Ledger, panel: str, wanted: PanelParameters) -> float:
    return ask_panel(ledger.engine, panel, wanted)["rows"][0][0]


def _exact(ledger: Ledger, sql: str, wanted: PanelParameters) -> float:
    with ledger.engine.connect() as connection:
        return float(
            connection.execute(text(sql), {"since": wanted.since, "until": wanted.until}).scalar()
            or 0
        )


def test_roll_ups_and_single_calls_say_the_same(ledger):
    """A panel over whole hours equals the sum over the calls themselves.

    Whichever side answers.
    """
    end = int(time.time()) // 3600 * 3600
    wanted = question(20 * DAY, until=end)
    tokens = "SELECT SUM(input_tokens) FROM calls WHERE time >= :since AND time < :until"
    assert _value(ledger, "tokens", wanted) == _exact(ledger, tokens, wanted)
    unpriced = "SELECT SUM(unpriced) FROM calls WHERE time >= :since AND time < :until"
    assert _value(ledger, "unpriced_calls", wanted) == _exact(ledger, unpriced, wanted)


def test_a_filter_the_roll_up_has_no_key_for_is_obeyed(ledger):
    """Tokens of one team come from the single calls, since the total has no team."""
    end = int(time.time()) // 3600 * 3600
    team = choices(ledger.engine, "team", question(30 * DAY))[0]
    wanted = question(20 * DAY, until=end, team=team)
    sql = (
        f"SELECT SUM(input_tokens) FROM calls WHERE time >= :since AND time < :until AND team = "
        f"'{team}'"
    )
    assert (
        0
        < _value(ledger, "tokens", wanted)
        == _exact(ledger, sql, wanted)
        < _value(ledger, "tokens", question(20 * DAY, until=end))
    )


@pytest.mark.parametrize("hours", [0, 30, 9 * 24, 17 * 24 + 5, 26 * 24, 29 * 24 + 12, 31 * 24])
def test_the_forecast_is_the_one_of_the_command(ledger, hours):
    """Panel, share and alert rule have the number of `crewmeter forecast`, as of any moment.

    With four weeks of history, with one and two, with some days, with none.
    """
    now = datetime.now(UTC) - timedelta(hours=hours)
    with ledger.read_session() as session:
        ahead = outlook(session, now=now)
    expected = ahead.expected_pusd / 1e12
    wanted = question(DAY, until=int(now.timestamp()))
    assert _value(ledger, "forecast", wanted) == pytest.approx(expected, rel=1e-9)
    assert _value(ledger, "forecast_share", wanted) == pytest.approx(expected / 1000, rel=1e-9)
    assert _value(ledger, "month_to_date", wanted) == pytest.approx(
        ahead.spent_pusd / 1e12, rel=1e-9
    )


def test_the_forecast_alert_compares_the_same_number(ledger):
    """The rule's query divides the command's month end by the budget."""
    (rule,) = [each for each in ledger_alerts(load()) if each.uid == "crewmeter-forecast"]
    dialect = Dialect(ledger.engine.dialect.name)
    with ledger.engine.connect() as connection:
        sql = for_alert(rule.sql, dialect, budget_usd=250)
        found = connection.exec_driver_sql(_escaped(sql, dialect)).scalar()
    with ledger.read_session() as session:
        expected = outlook(session, now=datetime.now(UTC)).expected_pusd / 1e12
    assert float(found) == pytest.approx(expected / 250, rel=1e-6)


def test_short_ranges_are_exact_to_the_second(ledger):
    """Up to three hours nothing is rounded to whole hours."""
    with ledger.engine.connect() as connection:
        newest = connection.execute(text("SELECT MAX(time) FROM calls")).scalar()
    wanted = question(DETAIL_SECONDS, until=newest + 7)
    sql = "SELECT COUNT(*) FROM calls WHERE time >= :since AND time < :until"
    rows = ask_panel(ledger.engine, "calls_by_service", wanted)["rows"]
    assert sum(row[2] for row in rows) == _exact(ledger, sql, wanted) > 0


def test_percentiles_are_within_a_bucket_of_the_truth(sqlite_ledger):
    """p95 out of the roll-up's buckets is at most 5 % above the true value."""
    end = int(time.time()) // 3600 * 3600
    wanted = question(20 * DAY, until=end)
    p95 = ask_panel(sqlite_ledger.engine, "run_latency", wanted)["rows"][0][1]
    sql = (
        "SELECT duration_seconds FROM runs WHERE time >= :since AND time < :until AND status <> "
        "'running' ORDER BY 1"
    )
    with sqlite_ledger.engine.connect() as connection:
        durations = [
            row[0]
            for row in connection.execute(text(sql), {"since": wanted.since, "until": wanted.until})
        ]
    true = durations[int(0.95 * len(durations))]
    assert true * 0.9 <= p95 <= true * 1.1


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(30 * DAY, DAY), (30 * DAY, 7 * DAY), (7 * DAY, 21600), (2 * DAY, 5400)]
)
def test_a_point_of_a_percentile_curve_is_the_quantile_of_its_bucket(ledger, seconds, bucket):
    """p95 by agent equals running sums over the hourly view, for any bucket length."""
    end = int(time.time()) // DAY * DAY
    wanted = replace(question(seconds, until=end), bucket=bucket)
    sql = (
        "SELECT time, key, le_seconds, count FROM latency_hourly WHERE dimension = 'agent' AND "
        "time >= :since AND time < :until"
    )
    counts: defaultdict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
    with ledger.engine.connect() as connection:
        for at, agent, bound, count in connection.execute(
            text(sql), {"since": wanted.since, "until": wanted.until}
        ):
            counts[at // bucket * bucket, agent] += [(bound, int(count))]
    rows = ask_panel(ledger.engine, "agent_p95", wanted)["rows"]
    assert len(rows) > 1
    for at, agent, seconds_found in rows:
        total, seen = sum(count for _, count in counts[at, agent]), 0
        for bound, count in sorted(counts[at, agent]):
            seen += count
            if seen >= 0.95 * total:
                assert seconds_found == bound
                break


def test_hostile_filter_values_are_only_values(ledger):
    """Nothing a browser sends is ever SQL."""
    wanted = question(30 * DAY, crew="x') OR 1=1 --", model="'; DROP TABLE call; --")
    assert _value(ledger, "unpriced_calls", wanted) == 0
    assert _value(ledger, "tokens", question(30 * DAY)) > 0


def _escaped(sql: str, dialect: Dialect) -> str:
    """Psycopg reads % as the start of a parameter.

    SQLite's driver does not.
    """
    return sql.replace("%", "%%") if dialect is Dialect.POSTGRESQL else sql


@pytest.mark.parametrize(
    "panel",
    [
        "agent_p95",
        "calls_by_service",
        "chargeback",
        "errors_by_type",
        "models",
        "run_names",
        "tool_errors",
    ],
)
def test_the_page_reads_a_short_range_by_its_index(sqlite_ledger, panel):
    """Half an hour of a ledger of millions is found by the index on time.

    No query reads every call, run or step.
    """
    sql = "EXPLAIN QUERY PLAN " + catalogue()["panels"][panel]["sql"]["sqlite"]
    plan = [
        row[3]
        for row in ask(sqlite_ledger.engine, sql, question(1800).parameters(), lists=FILTERS)[
            "rows"
        ]
    ]
    assert not {"SCAN call", "SCAN run", "SCAN step"} & set(plan)


@pytest.mark.mostly_slow("sqlite")
@pytest.mark.parametrize("panel", SQL_PANELS)
def test_grafanas_text_runs_too(ledger, panel):
    """What Grafana sends once its variables are in runs and agrees with the page."""
    dialect = Dialect(ledger.engine.dialect.name)
    now = int(time.time())
    sql = for_grafana(CATALOGUE[panel].sql, dialect)
    values = {
        "$__from": str((now - 30 * DAY) * 1000),
        "$__to": str(now * 1000),
        "$bucket": "0",
        "$budget": "1000",
    }
    values |= {f"${{{name}:sqlstring}}": "'*'" for name in FILTERS}
    for name, value in values.items():
        sql = sql.replace(name, value)
    assert "$" not in sql.replace("'$.", "")
    with ledger.engine.connect() as connection:
        rows = connection.exec_driver_sql(_escaped(sql, dialect)).all()
    assert len(rows) == len(ask_panel(ledger.engine, panel, question(30 * DAY, until=now))["rows"])


@pytest.mark.parametrize("alert", ledger_alerts(load()), ids=lambda alert: alert.uid)
def test_a_ledger_alert_asks_for_one_number(ledger, alert):
    """Grafana's threshold step wants one row with one number."""
    dialect = Dialect(ledger.engine.dialect.name)
    sql = for_alert(alert.sql, dialect, budget_usd=1000.0)
    with ledger.engine.connect() as connection:
        rows = connection.exec_driver_sql(_escaped(sql, dialect)).all()
    assert len(rows) == 1
    assert len(rows[0]) == 1


def test_an_empty_ledger_is_no_error(tmp_path):
    """Before the first call every panel answers, mostly with nothing."""
    with Ledger.open(str(tmp_path / "empty.db")) as empty:
        for panel in catalogue()["panels"]:
            ask_panel(empty.engine, panel, question(DAY))
