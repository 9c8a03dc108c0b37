"""Sums that hold a bound or an estimate are marked, wherever they are printed."""

from __future__ import annotations

import json
import time
from datetime import UTC

import pytest
from typer.testing import CliRunner

from crewmeter_cost.cli import build
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.ledger.read import unknown_usage
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

runner = CliRunner()


def _span(number: int, model: str, **more: int) -> dict:
    ended = time.time_ns() - 10**9
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
    }
    counts = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 300, **more}
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "startTimeUnixNano": str(ended - 10**9),
        "endTimeUnixNano": str(ended),
        "attributes": [
            *({"key": key, "value": {"stringValue": value}} for key, value in attributes.items()),
            *({"key": key, "value": {"intValue": str(value)}} for key, value in counts.items()),
        ],
    }


@pytest.fixture
def ledger(tmp_path):
    """A ledger with two exact calls of one model, and an exact and an inexact one of another."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    spans = [
        _span(1, "gpt-4o"),
        _span(2, "gpt-4o"),
        _span(3, "gpt-5"),
        _span(4, "gpt-5", **{"gen_ai.usage.dreaming_tokens": 7}),
    ]
    body = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": spans}]}]}
    with Ledger.open(url) as opened:
        Pipeline(opened, PriceBook.load()).ingest(from_json(json.dumps(body).encode()).spans)
    return url


def _report(ledger: str, *words: str) -> str:
    arguments = ["report", "--ledger", ledger, "--since", "1h", *words]
    done = runner.invoke(build("report"), arguments, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_table_has_a_star_and_says_what_it_means(ledger):
    """The sums with the inexact call in it have a star, the others none; a legend explains it."""
    printed = _report(ledger)
    lines = printed.splitlines()
    exact = next(line for line in lines if "gpt-4o" in line)
    inexact = next(line for line in lines if "gpt-5" in line)
    total = next(line for line in lines if "total" in line)
    assert "*" not in exact
    assert "*" in inexact
    assert "*" in total
    assert "bounds and estimates" in printed
    assert "1 call with a bound" in printed


def _printed(ledger: str, command: str, *words: str) -> str:
    arguments = [command, *words, "--ledger", ledger]
    done = runner.invoke(build(command), arguments, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_statement_says_what_is_inexact_in_every_form(ledger, tmp_path):
    """The paper that amounts are charged by has the star, its meaning and the count."""
    window = ("--since", "1h")
    printed = _printed(ledger, "statement", *window)
    row = next(line for line in printed.splitlines() if "(unassigned)" in line)
    assert "*" in row
    assert "bounds and estimates" in printed
    assert "1 call with a bound" in printed
    document = json.loads(_printed(ledger, "statement", *window, "--format", "json"))
    assert document["inexact_calls"] == document["rows"][0]["inexact_calls"] == 1
    head, row = _printed(ledger, "statement", *window, "--format", "csv").splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["inexact_calls"] == "1"
    _printed(ledger, "statement", *window, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "1 call has a bound or an estimate" in page
    assert "bounds and estimates" in page
    assert page.count("<td>0.02*</td>") == 2
    assert "0.02* USD</h2>" in page


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_a_comparison_marks_the_side_that_is_inexact(ledger, form):
    """The cost with a bound in it has a star that is explained, the exact one none."""
    words = ("gpt-5", "gpt-4o", "--by", "model", "--since", "1h")
    printed = _printed(ledger, "compare", *words, "--format", form)
    (row,) = [line for line in printed.replace("\\", "").splitlines() if "cost" in line[:6]]
    assert row.count("*") == 1
    assert "bounds and estimates" in printed
    document = json.loads(_printed(ledger, "compare", *words, "--format", "json"))
    assert document["a"]["inexact_calls"] == 1
    assert "inexact_calls" not in document["b"]


def test_json_counts_them(ledger):
    """A script reads how many calls of each group, and of all, are inexact."""
    document = json.loads(_report(ledger, "--format", "json"))
    counts = {row["model"]: row.get("inexact_calls", 0) for row in document["rows"]}
    assert counts == {"gpt-4o": 0, "gpt-5": 1}
    assert document["total"]["inexact_calls"] == 1


def test_a_filter_holds_for_the_count_too(ledger):
    """What is filtered out is not counted."""
    document = json.loads(_report(ledger, "--where", "model=gpt-4o", "--format", "json"))
    assert "inexact_calls" not in document["total"]


def test_a_report_filtered_by_tool_is_printed(ledger):
    """Tool calls have no cost status, so their inexact ones are not counted."""
    _report(ledger, "--by", "crew", "--where", "tool=web_search")
    _report(ledger, "--by", "crew", "--where", "tool!=web_search")


def test_a_short_report_does_not_build_every_group(ledger, monkeypatch):
    """A report of one row out of very many groups is given without the count."""
    with Ledger.open(ledger, read_only=True) as opened:
        made = report(opened, by=["model"], limit=1)
        assert with_inexact_calls(opened, made, parse_filter(None), UTC).total.inexact_calls == 1
        monkeypatch.setattr(unknown_usage, "COUNTED_GROUPS", 1)
        assert with_inexact_calls(opened, made, parse_filter(None), UTC) == made


def test_prices_check_lists_the_usage_that_nobody_knows(ledger):
    """Each path by its provider with its calls, in the table and in JSON."""
    arguments = ["prices", "check", "--ledger", ledger]
    done = runner.invoke(build("prices"), [*arguments, "--format", "json"])
    assert json.loads(done.stdout)["unknown_usage"] == [
        {"provider": "openai", "path": "gen_ai.usage.dreaming_tokens", "calls": 1}
    ]
    printed = runner.invoke(build("prices"), arguments, env={"COLUMNS": "100"}).stdout
    assert "gen_ai.usage.dreaming_tokens" in printed
