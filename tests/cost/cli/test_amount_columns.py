"""Columns of money and of counts say one number one way in every command."""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.ledger_build import CONTEXT, call, frozen, priced, root

from crewmeter_cost.analysis.live import look
from crewmeter_cost.cli import main
from crewmeter_cost.cli.output import Amount, amount_texts, console
from crewmeter_cost.cli.watch import render
from crewmeter_cost.formatting import short_count

USD = 10**12


def _points(lines):
    """Return the positions and decimals of the last amount of each line that has one."""
    found = [list(re.finditer(r"\$[\d,]+(\.\d+)", line)) for line in lines]
    return {(each[-1].start(1), len(each[-1][1])) for each in found if each}


def test_watch_aligns_the_costs_of_runs(month, monkeypatch):
    """Points of a table of runs stand below each other, with one number of decimals.

    A star does not move them, and a line below says what it means.
    """
    monkeypatch.setenv("COLUMNS", "100")
    snapshot = look(month, now=datetime(2026, 11, 21, 12, tzinfo=UTC), past=True)
    first, second, *_ = snapshot.finished
    runs = (
        replace(first, cost_pusd=USD * 7 // 50, priced_calls=2, unpriced_calls=0),
        replace(second, cost_pusd=USD * 7 // 200, priced_calls=2, unpriced_calls=1),
    )
    out = console()
    with out.capture() as displayed:
        out.print(render(replace(snapshot, running=(), finished=runs, budgets=()), name="x"))
    lines = displayed.get().splitlines()
    listed = [line for line in lines if first.run_id[:8] in line or second.run_id[:8] in line]
    assert "$0.0350*" in listed[1]
    assert len(_points(listed)) == 1, listed
    assert any(line.startswith("* without calls that have no price") for line in lines)


def test_nothing_spent_is_zero_dollars_and_cents():
    """A column of zeros has cents; a zero beside a small amount has the amount's decimals."""
    assert amount_texts([Amount(0), Amount(0)]) == ["$0.00", "$0.00"]
    assert amount_texts([Amount(0), Amount(USD // 1000)]) == ["$0.000000", "$0.001000"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (999, "999"),
        (1_000, "1.0k"),
        (9_949, "9.9k"),
        (9_950, "10k"),
        (14_990_000, "15M"),
        (999_700, "1.0M"),
    ],
)
def test_short_counts_are_rounded(amount, text):
    """A token count is rounded to the nearest, also over the edge of a unit."""
    assert short_count(amount) == text


def _printed(capsys, monkeypatch, width, *words):
    monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
    monkeypatch.setenv("COLUMNS", str(width))
    with contextlib.suppress(SystemExit):
        main()
    return capsys.readouterr().out


def test_compare_has_its_labels_and_one_minus_at_40_columns(month, monkeypatch, capsys):
    """On a narrow terminal no row is a bare number, and differences have one minus sign."""
    url = month.engine.url.render_as_string()
    words = ["compare", "2026-11-15..2026-11-19", "2026-11-20..2026-11-21", "--ledger", url]
    out = _printed(capsys, monkeypatch, 40, *words)
    totals = out.split("\ncost ", 1)[1].split("\n* ")[0].splitlines()[1:]
    assert all(re.match(r" {0,2}[a-z]", line) for line in totals), totals
    out = _printed(capsys, monkeypatch, 100, *words)
    rows = out.split("\ncost ", 1)[1]
    changes = re.findall(r"([−+-])\d[\d,.]*(?: %| s|% of|$)", rows, re.MULTILINE)
    assert set(changes) == {"−", "+"}


def test_runs_shorten_names_on_one_line(month, monkeypatch, capsys):
    """A run of a long list takes one line, its name shortened in the middle."""
    url = month.engine.url.render_as_string()
    for width in (40, 80):
        lines = _printed(
            capsys, monkeypatch, width, "runs", "--limit", "0", "--ledger", url
        ).splitlines()
        table = lines[lines.index(next(line for line in lines if "cost" in line)) + 1 :]
        legend = next(index for index, line in enumerate(table) if line.startswith("* "))
        assert all(re.match(r"[0-9a-f]{8} ", line) for line in table[:legend]), width


def test_a_run_of_estimates_has_a_star(ledger, ledger_path, capsys, monkeypatch):
    """Bounds and estimates make the cost of a run inexact, also where every call has a price."""
    inexact = replace(CONTEXT, run_id="00000000000000bb")
    rows = [
        (call(1), priced(USD)),
        (call(2, context=inexact), priced(USD)),
        (call(3, context=inexact), priced(USD, status="estimated")),
    ]
    roots = [root(), root(span_id="00000000000000bb", context=inexact)]
    ledger.write(rows, roots, frozen)
    lines = _printed(capsys, monkeypatch, 100, "runs", "--ledger", str(ledger_path)).splitlines()
    costs = {line.split()[-1] for line in lines if "00000000" in line}
    assert costs == {"$1.0000", "$2.0000*"}
    assert lines[-1].startswith("* not exact")
