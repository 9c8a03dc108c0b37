"""The third dialect on a mirror of the seeded ledger.

Every query of every panel, variable and rule runs as Grafana sends it.

Every query of every panel, variable and rule, as Grafana sends it, on a mirror of the seeded
ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from support.clickhouse import clickhouse_url
from support.paths import ROOT

from crewmeter_cost.clickhouse.connect import connected, mirror_url
from crewmeter_cost.clickhouse.sync import copy
from crewmeter_cost.web.panel_queries import ask_panel
from crewmeter_cost.web.params import ANY, PanelParameters
from crewmeter_cost.web.time_buckets import auto_bucket
from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.columnar import text_for
from crewmeter_dashboards.sql_dialects import for_alert, for_grafana
from crewmeter_dashboards.sql_sources import FILTERS, Dialect
from crewmeter_dashboards.thresholds import load

pytestmark = pytest.mark.slow

DAY = 86400
MAY_BE_EMPTY = {"reported"}
BY_CHANCE = {"tool_errors"}
"""Most tools never fail, so which of them rank below the seventh is each database's own choice."""
FOLDER = ROOT / "dashboards" / "grafana" / "clickhouse"
SQL_PANELS = sorted(panel.id for panel in CATALOGUE.values() if panel.sql)


@pytest.fixture(scope="module")
def mirror(sqlite_ledger) -> Iterator[object]:
    with connected(mirror_url(clickhouse_url())) as client:
        copy(sqlite_ledger, client)
        yield client


def filled(sql: str, now: int, seconds: int, chosen: str = "'*'") -> str:
    """`sql` with Grafana's variables in, as its front end puts them in."""
    values = {
        "$__from": str((now - seconds) * 1000),
        "$__to": str(now * 1000),
        "$bucket": "0",
        "$budget": "1000",
    }
    values |= {f"${{{name}:sqlstring}}": chosen for name in FILTERS}
    for name, value in values.items():
        sql = sql.replace(name, value)
    assert "$" not in sql
    return sql


def rounded(rows) -> list[list[str]]:
    return sorted(
        [f"{float(value):.5g}" if isinstance(value, (int, float)) else str(value) for value in row]
        for row in rows
    )


@pytest.mark.parametrize("panel", SQL_PANELS)
def test_a_panel_says_what_it_says_on_the_ledger(sqlite_ledger, mirror, panel):
    """Thirty days: the same rows from the mirror as from the ledger it was made of."""
    now = int(time.time())
    found = mirror.query(
        filled(
            for_grafana(text_for(CATALOGUE[panel], Dialect.CLICKHOUSE), Dialect.CLICKHOUSE),
            now,
            30 * DAY,
        )
    )
    every = dict.fromkeys(FILTERS, (ANY,))
    wanted = PanelParameters(
        since=now - 30 * DAY, until=now, bucket=auto_bucket(30 * DAY), budget=1000.0, filters=every
    )
    answer = ask_panel(sqlite_ledger.engine, panel, wanted)
    assert list(found.column_names) == answer["columns"]
    assert found.result_rows or panel in MAY_BE_EMPTY
    if panel == "telemetry_age":
        assert abs(found.result_rows[0][0] - answer["rows"][0][0]) <= 5
    elif panel not in BY_CHANCE:
        assert rounded(found.result_rows) == rounded(answer["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.id)
def test_the_rendered_boards_run_as_they_stand(mirror, board):
    """Every target and variable of the committed JSON runs.

    Over a month, an hour, and with a filter set. Curves carry real times.

    And with a filter set; curves carry real times.
    """
    document = json.loads((FOLDER / f"{board.id}.json").read_text("utf-8"))
    now = int(time.time())
    targets = [
        target
        for panel in document["panels"]
        for target in panel.get("targets", ())
        if "rawSql" in target
    ]
    assert targets
    for target in targets:
        found = mirror.query(filled(target["rawSql"], now, 30 * DAY))
        for seconds, chosen in ((3600, "'*'"), (30 * DAY, "'gpt-4o'")):
            mirror.query(filled(target["rawSql"], now, seconds, chosen))
        assert target["format"] == (0 if target["queryType"] == "timeseries" else 1)
        if target["queryType"] == "timeseries":
            assert found.column_types[found.column_names.index("time")].base_type == "DateTime"
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            assert mirror.query(filled(variable["query"], now, 30 * DAY)).result_rows, variable[
                "name"
            ]


@pytest.mark.parametrize("alert", ledger_alerts(load()), ids=lambda alert: alert.uid)
def test_a_ledger_alert_asks_for_one_number(mirror, alert):
    """Grafana's threshold step wants one row with one number."""
    rows = mirror.query(for_alert(alert.sql, Dialect.CLICKHOUSE, budget_usd=1000.0)).result_rows
    assert len(rows) == 1
    assert len(rows[0]) == 1
    assert rows[0][0] is None or float(rows[0][0]) >= 0


def test_a_ledger_in_postgresql_is_mirrored_too(postgres_ledger):
    """The comparison is SQL both databases speak.

    Money is the same to the pico-dollar.
    """
    with connected(mirror_url(clickhouse_url())) as client:
        assert copy(postgres_ledger, client).rows["calls"] > 1000
        assert copy(postgres_ledger, client).total == 0
        with postgres_ledger.reading() as connection:
            count, cost = connection.execute(
                text("SELECT COUNT(*), SUM(cost_pusd) FROM call")
            ).one()
        assert client.query("SELECT count(), sum(cost_exact_pusd) FROM calls").result_rows == [
            (count, int(cost))
        ]
        assert client.query("SELECT sum(cost_exact_pusd) FROM total_hourly").result_rows == [
            (int(cost),)
        ]


def test_nothing_is_rounded_down_by_a_division_that_does_not():
    """Every rounding down of the catalogue becomes intDiv in ClickHouse.

    ``/`` divides into fractions there.

    Every rounding down of the catalogue became intDiv.
    """
    for panel in SQL_PANELS:
        sql = for_grafana(text_for(CATALOGUE[panel], Dialect.CLICKHOUSE), Dialect.CLICKHOUSE)
        for step in ("3600", "86400"):
            assert f"/ {step} * {step}" not in sql
        assert sql.count("time / ") == 0
