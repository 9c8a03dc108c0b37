"""Forecasts follow the week's rhythm, say their range, and name the hours that stand out."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from rich.console import Console
from typer.testing import CliRunner

from crewmeter_cost.analysis.budget_forecast import outlook
from crewmeter_cost.analysis.forecast import anomalies, month_end
from crewmeter_cost.analysis.live import look
from crewmeter_cost.budgets.period import month_bounds
from crewmeter_cost.cli import build
from crewmeter_cost.cli.output import usd
from crewmeter_cost.cli.watch import render
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.runs import runs
from crewmeter_cost.ledger.store import Ledger

USD = 10**12
HOUR, DAY = 3600, 86_400
TODAY = datetime(2026, 11, 16, tzinfo=UTC)
"""A Monday."""
MONTH, FOLLOWING = month_bounds(TODAY)


def history(days: int, amount) -> dict[int, int]:
    """Spend at each noon of the days before `TODAY`."""
    hourly = {}
    for n in range(1, days + 1):
        day = TODAY - timedelta(days=n)
        hourly[int(day.timestamp()) + 12 * HOUR] = amount(day)
    return hourly


def projected(hourly: dict[int, int], *, hour: int = 0):
    """The projection as of an hour of `TODAY`."""
    now = int(TODAY.timestamp()) + hour * HOUR
    return month_end(hourly, now=now, month_start=MONTH, following=FOLLOWING)


def test_a_steady_spend_goes_on():
    """Ten dollars a day make ten dollars a day, with no doubt about it."""
    got = projected(history(30, lambda _: 10 * USD))
    assert got.spent_pusd == 150 * USD
    assert (got.low_pusd, got.expected_pusd, got.high_pusd) == (300 * USD, 300 * USD, 300 * USD)
    assert got.days_of_history == 28


def test_weekends_are_not_weekdays():
    """Monday to Friday 10, weekends 0: of the fifteen days to come eleven cost 10."""
    got = projected(history(56, lambda day: 0 if day.weekday() > 4 else 10 * USD))
    assert got.expected_pusd - got.spent_pusd == 110 * USD


def test_the_current_hour_is_not_expected_again():
    """At noon of today its spend counts as spent, and the noons to come are fifteen less one."""
    hourly = history(30, lambda _: 10 * USD) | {int(TODAY.timestamp()) + 12 * HOUR: 10 * USD}
    got = projected(hourly, hour=12)
    assert got.spent_pusd == 160 * USD
    assert got.expected_pusd == 300 * USD


def test_below_a_week_the_mean_hour_stands_for_all():
    """Four days of 24 make 1 an hour, for what is left after the current hour."""
    hourly = {int(TODAY.timestamp()) - n * HOUR: USD for n in range(1, 97)}
    got = projected(hourly)
    assert got.days_of_history == 4
    assert got.expected_pusd - got.spent_pusd == (15 * 24 - 1) * USD


@pytest.mark.parametrize("hourly", [{}, {int(TODAY.timestamp()) - 3 * HOUR: 7}])
def test_without_a_day_of_history_nothing_is_promised(hourly):
    """The projection is what is spent."""
    got = projected(hourly)
    spent = sum(hourly.values())
    assert (got.spent_pusd, got.expected_pusd, got.days_of_history) == (spent, spent, 0)


def test_an_odd_hour_needs_ratio_and_floor():
    """Three times the same hour of four weeks, and a dollar more.

    A busy but cheap hour is no anomaly.
    """
    week, hour = 7 * 24 * 3600, 1_795_000_000 // 3600 * 3600
    usual = {hour - n * week: 2 * USD for n in range(1, 5)}
    assert [each.ratio for each in anomalies({**usual, hour: 8 * USD}, hours=[hour])] == [4.0]
    assert not anomalies({**usual, hour: 5 * USD}, hours=[hour])
    assert not anomalies({hour: USD // 2}, hours=[hour])
    assert anomalies({hour: 2 * USD}, hours=[hour])[0].ratio is None


def test_the_command_projects_each_team(month):
    """The parts' spend adds up to everything's, and the range holds the expectation."""
    url = month.engine.url.render_as_string()
    options = [
        "forecast",
        "--by",
        "team",
        "--at",
        "2026-11-21T12:00Z",
        "--ledger",
        url,
        "--format",
        "json",
    ]
    document = json.loads(CliRunner().invoke(build("forecast"), options).stdout)
    everything, *teams = document["rows"]
    assert (
        float(everything["low_usd"])
        <= float(everything["expected_usd"])
        <= float(everything["high_usd"])
    )
    assert sum(float(row["spent_usd"]) for row in teams) == pytest.approx(
        float(everything["spent_usd"])
    )
    wrong = CliRunner().invoke(build("forecast"), ["forecast", "--by", "planet", "--ledger", url])
    assert isinstance(wrong.exception, CrewMeterError)


@pytest.mark.parametrize("width", [80, 120])
def test_watch_shows_runs_rates_and_failures(month, width):
    """One look at the ledger fits the terminal, and a name's brackets are a name's brackets."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    snapshot = look(month, now=now, past=True)
    assert snapshot.finished
    assert snapshot.spent_pusd >= snapshot.hour_pusd >= 0
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as displayed:
        console.print(render(snapshot, name="[bold]ledger[/bold]"))
    assert snapshot.finished[0].run_id[:8] in displayed.get()
    assert "[bold]" in displayed.get()
    assert max(map(len, displayed.get().splitlines())) <= width


def test_watch_speaks_json_and_csv_of_a_window(month):
    """`--until` is one look as of then and `--since` where its spend begins.

    The report's sum to the pico-dollar, one line a look.
    """
    url = month.engine.url.render_as_string()
    window = ["--since", "2026-11-18T09:30Z", "--until", "2026-11-20T15:45Z"]
    for span in (window, ["--since", "2026-11-20T15:10Z", "--until", "2026-11-20T15:45Z"]):
        options = ["watch", *span, "--ledger", url, "--format"]
        (line,) = CliRunner().invoke(build("watch"), [*options, "json"]).stdout.splitlines()
        seen = json.loads(line)
        made = CliRunner().invoke(
            build("report"), ["report", *span, "--ledger", url, "--format", "json"]
        )
        total = json.loads(made.stdout)["total"]
        assert (Decimal(seen["spent_usd"]), seen["unpriced_calls"]) == (
            Decimal(total["cost_usd"] or 0),
            total["unpriced_calls"],
        )
        assert all(
            run["started_at"] < "2026-11-20T15:45" for run in (*seen["running"], *seen["finished"])
        )
        assert all(
            "2026-11-18T09:30" <= failure["time"] < "2026-11-20T15:46"
            for failure in seen["failures"]
        )
    rows = list(
        csv.DictReader(io.StringIO(CliRunner().invoke(build("watch"), [*options, "csv"]).stdout))
    )
    assert [(row["spent_usd"], row["hour_usd"]) for row in rows] == [
        (seen["spent_usd"], seen["hour_usd"])
    ]


def test_a_run_is_in_flight_until_it_ends(month):
    """As of a moment within it a run is in flight; as of its end it is finished."""
    run = next(run for run in runs(month, limit=50) if run.status == "ok" and run.duration_ns)
    middle, end = (
        datetime.fromtimestamp((run.started_ns + part) / 1e9, UTC)
        for part in (run.duration_ns // 2, run.duration_ns + 10**6)
    )
    assert run.run_id in [each.run_id for each in look(month, now=middle, past=True).running]
    assert run.run_id in [each.run_id for each in look(month, now=end, past=True).finished]


def test_a_report_that_reaches_now_says_where_the_month_is_heading(tmp_path):
    """A report that reaches now ends with one line on the month, where a week of history is known.

    There is none for a window that is closed, filtered or of tools, none with less history, and
    never in JSON.
    """
    now = datetime.now(UTC)
    for days, heard in ((10, True), (3, False)):
        path = str(tmp_path / f"{days}.db")
        with Ledger.open(path) as ledger:
            load_history(ledger, days=days, seed=3, until=now, calls_per_day=60)
            with ledger.read_session() as session:
                ahead = outlook(session, now=now)
            expected = usd(ahead.expected_pusd)
            spent = ahead.spent_pusd
        table = CliRunner().invoke(build("report"), ["report", "--ledger", path]).stdout
        assert ("at this pace, " in table) is (heard and spent > 0)
        if heard and spent:
            assert expected[:-2] in table
        for words in (
            ["--until", "now"],
            ["--where", "crew=x"],
            ["--by", "tool"],
            ["--format", "json"],
            ["--format", "csv"],
        ):
            assert (
                "at this pace"
                not in CliRunner()
                .invoke(build("report"), ["report", *words, "--ledger", path])
                .stdout
            )
