"""Statements add up to the ledger, share what nobody owns, and show names as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from crewmeter_cost.cli import build as commands
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.statement import build, month_bounds
from crewmeter_cost.finance.statement_context import StatementContext, read_context
from crewmeter_cost.finance.statement_html import render
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.money import exact_usd
from crewmeter_cost.time_range import window

NOVEMBER = {"since": datetime(2026, 11, 1, tzinfo=UTC), "until": datetime(2026, 12, 1, tzinfo=UTC)}


@pytest.mark.parametrize("by", ["team", "user", "crew"])
@pytest.mark.parametrize("rule", ["none", "proportional", "even"])
def test_a_statement_sums_to_the_months_ledger(month, by, rule):
    """Whoever is charged and however the rest is shared: the total is the report's."""
    since, until = window("2026-11-01", "2026-12-01")
    total = report(month, by=[by], since=since, until=until).document()["total"]
    statement = build(month.engine, **NOVEMBER, by=by, rule=rule)
    assert exact_usd(statement.total_pusd) == total["cost_usd"]
    assert statement.unpriced_calls == total["unpriced_calls"]
    for account in statement.accounts:
        assert sum(account.daily_pusd.values()) == account.direct_pusd
        for amounts in account.detail_pusd.values():
            assert sum(amounts.values()) == account.direct_pusd


def test_the_page_prints_without_scripts_and_escapes_names(month):
    """A team called <script> is a name."""
    statement = build(month.engine, **NOVEMBER, by="team")
    statement.accounts[0].name = "<script>alert(1)</script>"
    context = StatementContext(datetime(2026, 11, 21, tzinfo=UTC), organisation="<b>Acme</b>")
    page = render(replace(statement, accounts=statement.accounts), context)
    assert "<b>" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert page.count("<svg") >= 3


@pytest.mark.parametrize("text", ["november", "2026-13", "2026", ""])
def test_a_month_that_is_none_is_refused(text):
    """With the form that is right."""
    with pytest.raises(CrewMeterError, match="month"):
        month_bounds(text)


def test_a_statement_needs_someone_to_charge(month):
    """By model is a report, not a statement."""
    with pytest.raises(CrewMeterError, match="model"):
        build(month.engine, **NOVEMBER, by="model")


def reported(month, *words: str) -> str:
    """What ``crewmeter statement WORDS…`` prints."""
    done = CliRunner().invoke(
        commands("statement"),
        ["statement", *words, "--ledger", month.engine.url.render_as_string()],
    )
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_billing_cycle_need_not_be_a_month(month, tmp_path):
    """`--since` and `--until` make a statement of any hours.

    One that is cut within an hour is widened to it, and says so.
    """
    span = ["--since", "2026-11-10T06:00Z", "--until", "2026-11-20T18:30Z"]
    document = json.loads(reported(month, *span, "--format", "json"))
    assert (document["month"], document["since"], document["until"]) == (
        None,
        "2026-11-10T06:00:00Z",
        "2026-11-20T19:00:00Z",
    )
    since, until = window("2026-11-10T06:00Z", "2026-11-20T19:00Z")
    assert (
        document["total_usd"]
        == report(month, since=since, until=until).document()["total"]["cost_usd"]
    )
    assert "2026-11-10 06:00 to 2026-11-20 19:00 (UTC)" in reported(month, *span)
    reported(month, *span, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert ">20 Nov</text>" in page
    whole = json.loads(
        reported(month, "--since", "2026-11-01", "--until", "2026-12-01", "--format", "json")
    )
    assert whole == json.loads(reported(month, "--month", "2026-11", "--format", "json"))


def test_a_statement_takes_a_month_or_a_window(month):
    """Not both; and not one that has not begun."""
    for words in (
        ["--month", "2026-11", "--since", "3d"],
        ["--since", "2999-01-01"],
        ["--since", "2026-11-02", "--until", "2026-11-01"],
    ):
        with pytest.raises(CrewMeterError, match="--since"):
            reported(month, *words)
    assert "nothing was called" in reported(month, "--month", "2001-01")


def test_a_statement_for_finance_says_what_it_covers(month):
    """Period, date, organisation, change against last month, budget, forecast and
    unpriced share.
    """
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    statement = build(month.engine, **NOVEMBER, by="team")
    payer = statement.accounts[0]
    found = read_context(month.engine, statement, now=now, organisation="Acme Ltd")
    context = replace(
        found,
        budgets={payer.name: 2 * payer.total_pusd},
        previous={payer.name: payer.total_pusd // 2},
    )
    page = render(statement, context)
    assert "Acme Ltd" in page
    assert "1 to 21 November 2026 (month to date)" in page
    assert "Drawn up: 2026-11-21 12:00 UTC" in page
    assert "50 % of the budget of" in page
    assert "+100 % against the same days of last month" in page
    assert "Forecast for the whole month" in page
    assert "% of all tokens)" in page
    earlier = build(
        month.engine,
        since=datetime(2026, 10, 1, tzinfo=UTC),
        until=datetime(2026, 10, 21, 12, tzinfo=UTC),
        by="team",
    )
    assert found.previous == {each.name: each.total_pusd for each in earlier.everyone}


def test_amounts_have_two_decimals_and_none_vanishes(month):
    """Every amount has cents, and less than half a cent is said to be less."""
    statement = build(month.engine, **NOVEMBER, by="user")
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    page = render(statement, read_context(month.engine, statement, now=now))
    amounts = re.findall(r"<td>(-?[\d,]+\.\d+)</td>", page)
    assert amounts
    assert all(len(amount.partition(".")[2]) == 2 for amount in amounts)
    assert ">0.00<" not in page


def test_a_payers_amount_says_what_it_lacks(month):
    """In the terminal a star with its legend and cents, on the page the calls without a price."""
    statement = build(month.engine, **NOVEMBER, by="team")
    unpriced = {each.name: each.unpriced_calls for each in statement.everyone}
    assert any(unpriced.values())
    assert not all(unpriced.values())
    lines = reported(month, "--month", "2026-11").splitlines()
    for name, calls in unpriced.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        (total,) = re.findall(r"\$[\d,]+\.\d\d\*?(?= |$)", line)
        assert total.endswith("*") == bool(calls), line
    assert "* without calls that have no price" in lines
    assert "direct" not in lines[1]
    page = render(statement, read_context(month.engine, statement, now=NOVEMBER["until"]))
    assert "<th>without price</th>" in page or ">without price<" in page
    for account in statement.everyone:
        cells = f"<td>{account.failed_calls:,}</td><td>{account.unpriced_calls:,}</td>"
        assert cells in page
