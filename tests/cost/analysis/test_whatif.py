"""What-if: history under other prices, and honest about what it can't know."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from crewmeter_cost.analysis.whatif import Change, compare
from crewmeter_cost.cli import build
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.pricing.price_book import PriceBook


def test_the_same_model_costs_the_same(month):
    """Under its own name a model's history comes out to the pico-dollar.

    So the arithmetic is the ledger's.
    """
    lines = compare(
        billed(month),
        Change({"gpt-5": "openai/gpt-5", "gpt-4o": "openai/gpt-4o"}),
        PriceBook.load(),
    )
    assert {line.model for line in lines} == {"gpt-5", "gpt-4o"}
    assert all(line.difference_pusd == 0 and line.calls for line in lines)


def test_a_cheaper_model_saves_and_an_unknown_one_says_why(month):
    """A model without a price is in neither sum."""
    cheaper, unknown = (
        compare(billed(month), Change({"gpt-5": new}), PriceBook.load())[0]
        for new in ("gpt-5-mini", "no-such")
    )
    assert cheaper.difference_pusd < 0
    assert (unknown.calls, unknown.was_pusd) == (0, 0)
    assert unknown.unknown_calls > 0
    assert "no-such" in unknown.reason


def test_a_tier_without_a_price_is_said(month):
    """Half the price where batch is sold; without a price on a tier the standard one stands."""

    def lines(tier: str):
        found = compare(billed(month), Change({}, tier=tier), PriceBook.load())
        return {line.model: line for line in found}

    sonnet = lines("batch")["claude-sonnet-4-5"]
    assert sonnet.would_pusd * 2 == pytest.approx(sonnet.was_pusd, rel=1e-6)
    assert "standard price" in lines("flex")["claude-sonnet-4-5"].assumed


def test_the_command_prints_its_limits_and_refuses_nothing_to_do(month):
    """JSON for scripts with what can't be known; without a change there is no question."""
    run = CliRunner().invoke
    url = month.engine.url.render_as_string()
    done = run(
        build("whatif"),
        [
            "whatif",
            "--model",
            "gpt-5=gpt-5-mini",
            "--since",
            "2026-10-01",
            "--ledger",
            url,
            "--format",
            "json",
        ],
    )
    document = json.loads(done.stdout)
    assert document["rows"][0]["instead"] == "gpt-5-mini"
    assert document["cannot_know"]
    assert isinstance(run(build("whatif"), ["whatif", "--ledger", url]).exception, CrewMeterError)
    assert isinstance(
        run(build("whatif"), ["whatif", "--model", "gpt-5", "--ledger", url]).exception,
        CrewMeterError,
    )
