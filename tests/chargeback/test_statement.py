"""Statements add up to the ledger, share what nobody owns, and show names as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crewmeter_cost.chargeback.html import render
from crewmeter_cost.chargeback.statement import build, month_bounds
from crewmeter_cost.cli.options import window
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.money import exact_usd
from crewmeter_cost.ledger.reports import report


@pytest.mark.parametrize("by", ["team", "user", "crew"])
@pytest.mark.parametrize("rule", ["none", "proportional", "even"])
def test_a_statement_sums_to_the_months_ledger(month, by, rule):
    """Whoever is charged and however the rest is shared: the total is the report's."""
    since, until = window("2026-11-01", "2026-12-01")
    total = report(month, by=[by], since=since, until=until).document()["total"]
    statement = build(month.engine, month="2026-11", by=by, rule=rule)
    assert exact_usd(statement.total_pusd) == total["cost_usd"]
    assert statement.unpriced_calls == total["unpriced_calls"]
    for account in statement.accounts:
        assert sum(account.daily_pusd.values()) == account.direct_pusd
        for amounts in account.detail_pusd.values():
            assert sum(amounts.values()) == account.direct_pusd


def test_the_page_prints_without_scripts_and_escapes_names(month):
    """A team called <script> is a name."""
    statement = build(month.engine, month="2026-11", by="team")
    statement.accounts[0].name = "<script>alert(1)</script>"
    page = render(replace(statement, accounts=statement.accounts))
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
        build(month.engine, month="2026-11", by="model")
