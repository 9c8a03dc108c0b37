"""Forecasts follow the week's rhythm, say their range, and name the hours that stand out."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from crewmeter_cost.cli import build
from crewmeter_cost.cli.watch_command import render
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.forecast import anomalies, month_end, project
from crewmeter_cost.watch import look

USD = 10**12
TODAY = date(2026, 11, 16)
"""A Monday."""


def history(days: int, amount) -> dict[date, int]:
    return {day: amount(day) for n in range(1, days + 1) if (day := TODAY - timedelta(days=n))}


def test_a_steady_spend_goes_on():
    """Ten dollars a day make ten dollars a day, with no doubt about it."""
    got = month_end(history(30, lambda _: 10 * USD), today=TODAY, today_pusd=5 * USD, day_share=0.5)
    assert got.spent_pusd == 155 * USD
    assert (got.low_pusd, got.expected_pusd, got.high_pusd) == (300 * USD, 300 * USD, 300 * USD)


def test_weekends_are_not_weekdays():
    """Monday to Friday 10, weekends 0: the weekend to come is 0 too."""
    future, _ = project(history(56, lambda day: 0 if day.weekday() > 4 else 10 * USD), first=TODAY, days=7)
    assert [round(value / USD, 6) for value in future] == [10, 10, 10, 10, 10, 0, 0]


def test_without_history_nothing_is_promised():
    """The projection is what is spent."""
    got = month_end({}, today=TODAY, today_pusd=7, day_share=0.5)
    assert (got.spent_pusd, got.expected_pusd, got.days_of_history) == (7, 7, 0)


def test_an_odd_hour_needs_ratio_and_floor():
    """Three times the same hour of four weeks, and a dollar more: a busy but cheap hour is no anomaly."""
    week, hour = 7 * 24 * 3600, 1_795_000_000 // 3600 * 3600
    usual = {hour - n * week: 2 * USD for n in range(1, 5)}
    assert [each.ratio for each in anomalies({**usual, hour: 8 * USD}, hours=[hour])] == [4.0]
    assert not anomalies({**usual, hour: 5 * USD}, hours=[hour])
    assert not anomalies({hour: USD // 2}, hours=[hour])
    assert anomalies({hour: 2 * USD}, hours=[hour])[0].ratio is None


def test_the_command_projects_each_team(month):
    """The parts' spend adds up to everything's, and the range holds the expectation."""
    url = month.engine.url.render_as_string()
    options = ["forecast", "--by", "team", "--at", "2026-11-21T12:00Z", "--ledger", url, "--format", "json"]
    document = json.loads(CliRunner().invoke(build("forecast"), options).stdout)
    everything, *teams = document["rows"]
    assert float(everything["low_usd"]) <= float(everything["expected_usd"]) <= float(everything["high_usd"])
    assert sum(float(row["spent_usd"]) for row in teams) == pytest.approx(float(everything["spent_usd"]))
    wrong = CliRunner().invoke(build("forecast"), ["forecast", "--by", "planet", "--ledger", url])
    assert isinstance(wrong.exception, CrewMeterError)


@pytest.mark.parametrize("width", [80, 120])
def test_watch_shows_runs_rates_and_failures(month, width):
    """One look at the ledger fits the terminal, and a name's brackets are a name's brackets."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    snapshot = look(month.engine, now=now)
    assert snapshot.finished
    assert snapshot.day_pusd >= snapshot.hour_pusd >= 0
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(render(snapshot, name="[bold]ledger[/bold]", now=now))
    assert snapshot.finished[0].run_id[:8] in shown.get()
    assert "[bold]" in shown.get()
    assert max(map(len, shown.get().splitlines())) <= width
