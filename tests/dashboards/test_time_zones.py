"""Days and months of a time zone on the boards that `dashboards export` and `stack init` write."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from support.clickhouse import clickhouse_url
from support.ledger_build import call, frozen, priced

from crewmeter_cost.budgets.period import month_bounds
from crewmeter_cost.clickhouse.connect import connected, mirror_url
from crewmeter_cost.clickhouse.sync import copy
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.sql_dialects import for_grafana
from crewmeter_dashboards.sql_sources import FILTERS, Dialect

CREWMETER = str(Path(sys.executable).parent / "crewmeter")
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]
# In the middle of a month, and where the month began in the other half of the year.
MOMENTS = [datetime(2026, 11, 26, 22, 40, tzinfo=UTC), datetime(2026, 3, 31, 20, 5, tzinfo=UTC)]
_SOURCES = {
    "sqlite": "/data/ledger.db",
    "postgresql": "postgresql://reader@db/meter",
    "clickhouse": "clickhouse://reader@db/meter",
}


def exported(folder: Path, dialect: str, zone: str, *options: str) -> dict[str, dict]:
    """Return the boards that ``dashboards export --tz`` writes, by name."""
    command = [CREWMETER, "dashboards", "export", str(folder), "--ledger", _SOURCES[dialect]]
    command += ["--tz", zone, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"days and months of {zone}" in done.stdout
    boards = sorted((folder / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text("utf-8")) for path in boards}


def filled(sql: str, since: datetime, until: datetime) -> str:
    """Return a query with Grafana's variables filled in."""
    values = {
        "$__from": str(int(since.timestamp()) * 1000),
        "$__to": str(int(until.timestamp()) * 1000),
        "$bucket": "86400",
        "$budget": "1000",
    }
    values |= {f"${{{name}:sqlstring}}": "'*'" for name in FILTERS}
    for name, value in values.items():
        sql = sql.replace(name, value)
    return sql


def query(board: dict, title: str) -> str:
    """Return a panel's query."""
    (panel,) = [panel for panel in board["panels"] if panel.get("title") == title]
    target = panel["targets"][0]
    return target.get("rawSql") or target["rawQueryText"]


@pytest.fixture(scope="module")
def ask(request, sqlite_ledger):
    """Return a function that runs SQL in a dialect's database."""
    ledgers = {"sqlite": sqlite_ledger}

    def run(dialect: str, sql: str) -> list[tuple]:
        if dialect == "clickhouse":
            with connected(mirror_url(clickhouse_url())) as client:
                return client.query(sql).result_rows
        if dialect not in ledgers:
            ledgers[dialect] = request.getfixturevalue("postgres_ledger")
        with ledgers[dialect].engine.connect() as connection:
            text = sql.replace("%", "%%") if dialect == "postgresql" else sql
            return [tuple(row) for row in connection.exec_driver_sql(text)]

    return run


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("dialect", list(Dialect))
def test_bounds_are_the_local_midnights(ask, dialect, zone):
    """A day, a month and the next one begin at the zone's midnight, in every database."""
    tokens = ("@day_start", "@month_start", "@month_end", "(0 + @offset) - 0")
    sql = for_grafana(f"SELECT {', '.join(tokens)}", dialect, zone)
    clock = ZoneInfo(zone)
    for moment in MOMENTS:
        local = moment.astimezone(clock)
        midnight = local.replace(hour=0, minute=0, second=0)
        offset = local.utcoffset() or timedelta()
        expected = (
            int(midnight.timestamp()),
            *month_bounds(moment, clock),
            int(offset.total_seconds()),
        )
        (found,) = ask(dialect.value, filled(sql, moment - timedelta(days=20), moment))
        assert tuple(int(value) for value in found) == expected, moment


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_an_exported_board_sums_the_local_day(ask, request, tmp_path, dialect):
    """Spend today, spend this month and the bars of a day are those of ``report --tz``."""
    zone = "America/New_York"
    boards = exported(tmp_path, dialect, zone)
    assert {board["timezone"] for board in boards.values()} == {zone}
    clock = ZoneInfo(zone)
    now = datetime.now(UTC)
    midnight = now.astimezone(clock).replace(hour=0, minute=0, second=0, microsecond=0)
    fixture = "sqlite_ledger" if dialect == "sqlite" else "postgres_ledger"
    ledger = request.getfixturevalue(fixture)
    for title, since in (
        (f"Spend today ({zone})", midnight),
        (f"Spend this month ({zone})", midnight.replace(day=1)),
    ):
        expected = report(ledger, by=["model"], since=since, until=None).total.cost_pusd / 1e12
        sql = filled(query(boards["overview"], title), now - timedelta(days=20), now)
        assert float(ask(dialect, sql)[0][0]) == pytest.approx(expected)
    sql = filled(query(boards["spend"], "Spend by model"), now - timedelta(days=20), now)
    for row in ask(dialect, sql):
        start = row[0] if isinstance(row[0], datetime) else datetime.fromtimestamp(row[0], UTC)
        offset = (now.astimezone(clock).utcoffset() or timedelta()).total_seconds()
        assert (start.timestamp() + offset) % 86400 == 0


def test_every_query_of_a_moved_board_runs_on_a_mirror(sqlite_ledger, tmp_path):
    """ClickHouse takes the queries of a zone, and a day's spend is that of SQLite."""
    zone = "Europe/Berlin"
    boards = exported(tmp_path, "clickhouse", zone)
    now = datetime.now(UTC)
    midnight = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    with connected(mirror_url(clickhouse_url())) as client:
        copy(sqlite_ledger, client)
        for board in boards.values():
            for panel in board["panels"]:
                for target in panel.get("targets", ()):
                    if "rawSql" in target:
                        client.query(filled(target["rawSql"], now - timedelta(days=20), now))
        sql = query(boards["overview"], f"Spend today ({zone})")
        (found,) = client.query(filled(sql, now - timedelta(days=2), now)).result_rows
    total = report(sqlite_ledger, by=["model"], since=midnight, until=None).total
    assert float(found[0]) == pytest.approx(total.cost_pusd / 1e12)


def test_amounts_of_a_day_or_month_name_their_zone():
    """The shipped boards say UTC beside such amounts, and their axes are in UTC too."""
    titles = [panel.title for panel in CATALOGUE.values() if "@month_start" in (panel.sql or "")]
    assert "Month to date" in titles
    folder = Path(__file__).parents[2] / "dashboards/grafana/sqlite"
    spend = json.loads((folder / "spend.json").read_text("utf-8"))
    assert spend["timezone"] == "utc"
    drawn = {panel.get("title") for panel in spend["panels"]}
    assert {"Month to date (UTC)", "Month forecast (UTC)"} <= drawn


def test_a_new_stack_has_the_zone_everywhere(tmp_path):
    """``stack init --tz`` sets the page's zone, the boards' and that of the ledger's alerts."""
    zone = "Asia/Kolkata"
    command = [CREWMETER, "stack", "init", str(tmp_path / "stack"), "--tz", zone]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stack = tmp_path / "stack"
    assert f"CREWMETER_TZ={zone}\n" in (stack / ".env").read_text("utf-8")
    service = yaml.safe_load((stack / "docker-compose.yml").read_text("utf-8"))["services"]
    assert "CREWMETER_TZ" in service["crewmeter"]["environment"]["CREWMETER_TZ"]
    grafana = stack / "dashboards/grafana"
    for dialect in ("sqlite", "postgres", "clickhouse"):
        spend = json.loads((grafana / dialect / "spend.json").read_text("utf-8"))
        assert spend["timezone"] == zone
    rules = (grafana / "provisioning-postgres/alerting/rules.yml").read_text("utf-8")
    assert zone in rules


def test_an_upgrade_of_a_stack_has_one_zone(tmp_path):
    """``--force`` writes boards in the zone of the ``.env`` that stays; another one is refused."""
    stack = tmp_path / "stack"
    command = [CREWMETER, "stack", "init", str(stack)]
    settings = stack / ".env"
    spend = stack / "dashboards/grafana/sqlite/spend.json"

    def init(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False)

    def zone_of_boards() -> str:
        return json.loads(spend.read_text("utf-8"))["timezone"]

    assert init("--tz", "Europe/Berlin").returncode == 0
    assert init("--force").returncode == 0
    assert zone_of_boards() == "Europe/Berlin"
    refused = init("--force", "--tz", "Asia/Tokyo")
    assert refused.returncode != 0
    assert "Europe/Berlin" in refused.stderr
    assert zone_of_boards() == "Europe/Berlin"
    settings.write_text(
        settings.read_text("utf-8").replace("Europe/Berlin", '"Asia/Tokyo" # moved')
    )
    assert init("--force").returncode == 0
    assert zone_of_boards() == "Asia/Tokyo"


def test_an_alert_on_the_month_begins_with_the_zone(tmp_path):
    """A month's spend begins at the zone's midnight: the call an hour before is in the last one."""
    zone = "Asia/Kolkata"
    start = month_bounds(datetime.now(UTC), ZoneInfo(zone))[0]
    numbers = tmp_path / "thresholds.toml"
    numbers.write_text("[spend]\nmonth_budget_usd = 1.0\n")
    exported(tmp_path, "sqlite", zone, "--thresholds", str(numbers))
    groups = yaml.safe_load((tmp_path / "provisioning/alerting/rules.yml").read_text("utf-8"))
    (rule,) = [r for r in groups["groups"][0]["rules"] if r["uid"] == "crewmeter-month-50"]
    sql = rule["data"][0]["model"]["rawQueryText"]
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        # Sums are to the hour, and the zone's midnight is in the middle of one.
        for number, moment in enumerate((start - 3600, start + 3600), start=1):
            made = call(number, started_ns=moment * 10**9, ended_ns=moment * 10**9 + 1)
            ledger.write([(made, priced())], [], frozen)
        with ledger.engine.connect() as connection:
            used = connection.exec_driver_sql(sql).scalar()
        total = report(ledger, by=["model"], since=None, until=None).total
    assert used == pytest.approx(total.cost_pusd / 1e12 / 2)
