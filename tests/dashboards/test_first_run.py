"""The page after a first run: none, one, two or three calls in a ledger."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import serving, visit, wait_until_drawn
from support.ledger_build import call, frozen, priced, root

from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.repository import save
from crewmeter_cost.ledger.store import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.services]

HOUR = 3600
DAY = 24 * HOUR
_PIXELS = """([panel, color, from, to]) => {
    const canvas = document.querySelector(`[data-panel=${panel}] canvas`);
    const paint = canvas.getContext("2d");
    const width = Math.round(canvas.width * (to - from));
    const data = paint.getImageData(Math.round(canvas.width * from), 0, width, canvas.height).data;
    const wanted = color.match(/\\w\\w/g).map((hex) => parseInt(hex, 16));
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
        if (wanted.every((part, position) => Math.abs(part - data[at + position]) < 24)) found += 1;
    }
    return found;
}"""


def pixels(page, panel: str, color: str, since: float = 0, until: float = 1) -> int:
    """Return how many pixels of a panel's chart have a colour, between two shares of its width."""
    return page.evaluate(_PIXELS, [panel, color, since, until])


@contextmanager
def page_of(folder: Path, hours_ago: list[float]):
    """Yield the page of a ledger whose calls started so long ago."""
    path = str(folder / "ledger.db")
    now = time.time()
    with Ledger.open(path) as ledger:
        calls = []
        for number, hours in enumerate(hours_ago, start=1):
            started = int((now - hours * HOUR) * 1e9)
            made = call(number, started_ns=started, ended_ns=started + 2 * 10**9)
            calls.append((made, priced()))
        steps = [root(started_ns=calls[0][0].started_ns)] if calls else []
        ledger.write(calls, steps, frozen)
    with serving(path, folder) as address:
        yield address


@pytest.mark.parametrize("ago", [[], [0.2], [0.2, 5], [0.2, 5, 20]], ids=lambda ago: f"{len(ago)}")
def test_the_time_axis_is_the_chosen_range(page, tmp_path, ago):
    """However few calls there are, the axis is the day that was chosen, not years."""
    with page_of(tmp_path, ago) as address:
        visit(page, address)
        wait_until_drawn(page)
        assert page.get_by_role("alert").count() == 0
        plots = page.evaluate(
            "[...document.querySelectorAll('.plot')].map((plot) => ({...plot.dataset}))"
        )
    assert bool(plots) is bool(ago)
    for plot in plots:
        assert DAY <= float(plot["to"]) - float(plot["from"]) <= DAY + 2 * HOUR
        assert abs(float(plot["to"]) - time.time()) < 2 * HOUR


def test_a_lone_call_is_a_dot_on_a_curve(page, tmp_path):
    """A curve of one point has no line to draw, so the point itself is drawn."""
    with page_of(tmp_path, [5]) as address:
        visit(page, address)
        wait_until_drawn(page)
        assert pixels(page, "call_latency", "#4477aa") + pixels(page, "call_latency", "#aa3377") > 8


def test_hours_without_calls_are_a_gap(page, tmp_path):
    """Between two calls that are ten hours apart nothing is drawn."""
    with page_of(tmp_path, [6, 18]) as address:
        visit(page, address)
        wait_until_drawn(page)
        assert pixels(page, "call_latency", "#aa3377") > 8
        assert pixels(page, "call_latency", "#aa3377", 0.45, 0.65) == 0


def test_a_name_has_one_colour_on_all_panels(page, tmp_path):
    """The model that is blue in one chart is blue in the next."""
    with page_of(tmp_path, [1, 2, 3]) as address:
        visit(page, address, "?view=models")
        wait_until_drawn(page)
        colors = page.evaluate("""() => {
            const found = {};
            for (const entry of document.querySelectorAll(".legend .entry")) {
                const color = entry.querySelector(".swatch").style.getPropertyValue("--swatch");
                (found[entry.textContent] ??= []).push(color);
            }
            return found;
        }""")
    assert len(colors["gpt-4o"]) > 2
    assert len(set(colors["gpt-4o"])) == 1


def test_the_budget_on_the_page_is_the_ledgers_own(page, tmp_path):
    """Without a budget there is no line and no share; one set in the ledger is there at once."""
    with page_of(tmp_path, [1, 30]) as address:
        visit(page, address, "?view=spend")
        wait_until_drawn(page)
        assert "No monthly budget set" in page.locator("[data-panel=budget_used]").inner_text()
        assert "budget" not in page.locator("[data-panel=month_curve] .legend").inner_text()
        with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
            save(ledger.engine, parse_budget("20 USD/month"), now_ns=time.time_ns())
        visit(page, address, "?view=spend")
        wait_until_drawn(page)
        assert "%" in page.locator("[data-panel=budget_used]").inner_text()
        assert "budget" in page.locator("[data-panel=month_curve] .legend").inner_text()
        assert page.get_by_label("Budget, USD a month").input_value() == "20"
