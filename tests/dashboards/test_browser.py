"""The page in a real browser.

It draws, filters, adds up, links, obeys the keyboard, and runs nothing from data.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.boards import HOSTILE, seeded
from support.browser import (
    CREWMETER,
    accessibility_faults,
    serving,
    strict_page,
    visit,
    wait_until_drawn,
)

from crewmeter import semconv
from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

pytestmark = [pytest.mark.slow, pytest.mark.services]

BOARDS = ["overview", "crews", "models", "spend", "pipeline"]


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory) -> str:
    """Thirty days, and runs whose every name is an attack."""
    path = str(tmp_path_factory.mktemp("page") / "ledger.db")
    named = {
        semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL,
        semconv.CREW,
        semconv.RUN_NAME,
        semconv.AGENT_NAME,
        semconv.TEAM,
        semconv.TASK,
    }
    with seeded(path) as ledger:
        spans = list(history(1, 99, datetime.now(UTC), calls_per_day=60))
        hostile = [
            replace(
                span,
                attributes={
                    key: HOSTILE if key in named else value
                    for key, value in span.attributes.items()
                },
            )
            for span in spans
        ]
        Pipeline(ledger, PriceBook.load()).ingest(hostile)
    return path


@pytest.fixture(scope="module")
def address(ledger_file, tmp_path_factory) -> Iterator[str]:
    with serving(ledger_file, tmp_path_factory.mktemp("log")) as found:
        yield found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("board", BOARDS)
def test_a_board_draws_every_panel(page, address, board, theme):
    """No panel fails, none keeps loading, nothing is wider than the window."""
    visit(page, address, f"?view={board}&from=now-30d&theme={theme}")
    wait_until_drawn(page)
    assert page.locator(".failed").count() == 0
    assert page.locator("article.panel").count() >= 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("document.documentElement.dataset.theme") == theme


def test_names_from_data_are_text(page, address):
    """Names such as <script>alert(1)</script> are displayed as text and do nothing."""
    for board in ("overview", "crews", "models", "spend"):
        visit(page, address, f"?view={board}&from=now-24h")
        wait_until_drawn(page)
        assert page.get_by_text(HOSTILE, exact=True).count() > 0
    visit(page, address, "?view=runs&from=now-24h&order=cost")
    page.get_by_role("link", name=HOSTILE).first.click()
    page.wait_for_selector("table.waterfall")
    assert page.get_by_text(HOSTILE, exact=True).count() > 1


def _report(ledger_file: str, *arguments: str) -> dict:
    command = [CREWMETER, "report", "--ledger", ledger_file, "--format", "json", *arguments]
    return json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    )


def test_the_table_of_models_equals_crewmeter_report(page, address, ledger_file):
    """Calls, tokens and cost on the page are those of the command line."""
    since, until = (
        "2020-01-01",
        datetime.now(UTC).replace(minute=0, second=0, microsecond=0).isoformat(),
    )
    start, end = (
        int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()),
        int(datetime.fromisoformat(until).timestamp()),
    )
    report = _report(
        ledger_file, "--by", "provider", "--by", "model", "--since", since, "--until", until
    )
    answer = page.request.get(f"{address}api/panels/models?from={start}&to={end}").json()
    drawn = {
        (row[0], row[1]): dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]
    }
    assert len(drawn) == len(report["rows"])
    for row in report["rows"]:
        here = drawn[(row["provider"], row["model"])]
        assert (here["calls"], here["input_tokens"], here["output_tokens"]) == (
            row["calls"],
            row["input_tokens"],
            row["output_tokens"],
        )
        assert here["unpriced"] == row["unpriced_calls"]
        if row["cost_usd"] is None:
            assert here["cost_usd"] is None
        else:
            assert here["cost_usd"] == pytest.approx(float(row["cost_usd"]), rel=1e-9)


def test_a_filter_is_chosen_with_the_keyboard_and_stands_in_the_address(page, address):
    """Open the menu, tick a box, apply.

    The address then shows the same to somebody else.
    """
    visit(page, address, "?from=now-30d")
    wait_until_drawn(page)
    before = page.locator("[data-panel=tokens] strong").first.inner_text()
    page.locator("[data-filter=team]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#pick-team input[type=checkbox]")
    page.locator("#pick-team input[type=checkbox]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("team="))
    wait_until_drawn(page)
    narrowed = page.locator("[data-panel=tokens] strong").first.inner_text()
    assert narrowed != before
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    wait_until_drawn(page)
    assert page.locator("[data-panel=tokens] strong").first.inner_text() == narrowed
    page.get_by_role("button", name="Clear filters").click()
    wait_until_drawn(page)
    assert page.locator("[data-panel=tokens] strong").first.inner_text() == before


def test_back_returns_to_the_board_before(page, address):
    """Boards are addresses: links, back, and the number keys."""
    visit(page, address)
    page.get_by_role("link", name="Spend", exact=True).click()
    page.wait_for_url(re.compile("view=spend"))
    page.keyboard.press("3")
    page.wait_for_url(re.compile("view=models"))
    page.go_back()
    page.wait_for_url(re.compile("view=spend"))
    assert page.locator("#nav [aria-current]").inner_text() == "Spend"


def test_a_crew_leads_to_its_agents(page, address):
    """Clicking a crew in the table opens Crews and agents filtered by it."""
    visit(page, address, "?from=now-30d")
    wait_until_drawn(page)
    page.locator("[data-panel=crews_red]").get_by_role(
        "link", name="code-review", exact=True
    ).click()
    page.wait_for_url(re.compile(r"view=crews.*crew=code-review"))
    wait_until_drawn(page)
    crews = page.locator("[data-panel=agents] tbody tr td:first-child").all_inner_texts()
    assert set(crews) == {"code-review"}


def test_a_runs_waterfall_folds_and_describes(page, address):
    """The tree opens and closes, and a selected step has its details beside it."""
    visit(page, address, "?view=runs&from=now-30d&order=calls")
    page.locator("table.runs a").first.click()
    page.wait_for_selector("table.waterfall")
    rows = page.locator("table.waterfall tbody tr")
    everything = rows.count()
    page.get_by_role("button", name=re.compile("^Fold")).first.click()
    assert rows.count() == 1
    page.get_by_role("button", name="Unfold").first.click()
    assert rows.count() == everything
    page.locator("table.waterfall .label", has=page.locator(".k-llm")).first.click()
    assert "Input tokens" in page.locator(".detail").inner_text()


def test_a_table_downloads_as_csv_that_a_spreadsheet_will_not_run(page, address):
    """The panel's rows with a header."""
    visit(page, address, "?view=spend&from=now-30d")
    wait_until_drawn(page)
    panel = page.locator("[data-panel=chargeback]")
    panel.hover()
    with page.expect_download() as started:
        panel.get_by_role("button", name="Download Chargeback as CSV").click()
    text = Path(started.value.path()).read_text("utf-8")
    assert text.startswith("team,user,calls,")
    assert len(text.splitlines()) > 3


def test_first_paint_is_within_a_second(page, address):
    """On the demo ledger, measured by the browser."""
    visit(page, address)
    assert (
        page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_words_of_an_empty_tile_fit_into_it(browser, tmp_path, width):
    """With no call at all, nothing stands across the next heading, or makes the page wider."""
    path = str(tmp_path / "empty.db")
    Ledger.open(path).close()
    reaches_out = "box => box.scrollHeight > box.clientHeight || box.scrollWidth > box.clientWidth"
    with serving(path, tmp_path) as address, strict_page(browser, width=width) as page:
        for board in BOARDS:
            visit(page, address, f"?view={board}")
            wait_until_drawn(page)
            tiles = page.locator("article.panel:has(.body.stat)").all()
            outside = [tile.inner_text() for tile in tiles if tile.evaluate(reaches_out)]
            assert outside == [], board
            assert page.evaluate("document.documentElement.scrollWidth") <= width, board


def test_an_empty_ledger_says_what_to_do(page, tmp_path):
    """Before the first call the page explains itself instead of showing blanks."""
    path = str(tmp_path / "empty.db")
    Ledger.open(path).close()
    with serving(path, tmp_path) as address:
        visit(page, address, "?from=now-1h")
        wait_until_drawn(page)
        assert "crewmeter demo" in page.locator("[data-panel=crews_red]").inner_text()


def test_a_selected_step_stands_in_the_address(page, address):
    """Arrow keys move along the steps, the address opens the same step, Escape closes it."""
    visit(page, address, "?view=runs&from=now-30d&order=calls")
    page.locator("table.runs a").first.click()
    page.wait_for_selector("table.waterfall")
    assert "Select a step for details." in page.locator(".detail").inner_text()
    page.locator("table.waterfall .label").first.click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile("span="))
    chosen = page.locator("tr.selected .label").inner_text()
    details = page.locator(".detail").inner_text()
    page.goto(page.url)
    page.wait_for_selector("tr.selected")
    assert page.locator("tr.selected .label").inner_text() == chosen
    assert page.locator(".detail").inner_text() == details
    page.locator("tr.selected .label").focus()
    page.keyboard.press("Escape")
    assert page.locator("tr.selected").count() == 0
    assert "span=" not in page.url


def test_a_view_that_is_unknown_says_so(page, address):
    """A mistyped address leads back instead of to a raw error."""
    visit(page, address, "?view=spned")
    assert "no board called “spned”" in page.locator("main").inner_text()
    page.get_by_role("link", name="Go to the overview").click()
    wait_until_drawn(page)
    visit(page, address, "?view=run")
    assert "names no run" in page.locator("main").inner_text()


def test_a_server_that_is_gone_is_one_message(browser, address):
    """Thirteen panels that cannot load say it once, at the top."""
    with playwright_page(browser) as page:
        visit(page, address, "?from=now-24h")
        page.route("**/api/panels/*", lambda route: route.abort())
        page.keyboard.press("r")
        wait_until_drawn(page)
        assert page.get_by_role("alert").count() == 1
        assert "crewmeter does not respond" in page.get_by_role("alert").inner_text()


@contextmanager
def playwright_page(browser):
    """Yield a page that may have errors on its console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", [*BOARDS, "runs", "run", "unknown"])
def test_axe_finds_nothing(browser, address, view, theme, width):
    """Contrast, names, landmarks, headings, target sizes: on every page, both themes and sizes."""
    with strict_page(browser, width=width) as page:
        visit(page, address, f"?view={view}&from=now-30d&theme={theme}")
        if view == "run":
            visit(page, address, f"?view=runs&from=now-30d&theme={theme}")
            page.locator("table.runs a").first.click()
            page.wait_for_selector("table.waterfall")
            page.locator("table.waterfall .label").first.click()
        wait_until_drawn(page)
        assert accessibility_faults(page) == []


def test_a_run_on_a_phone_hides_no_number(browser, address):
    """At 390 px the bar, time, tokens and cost of each step are on the screen."""
    with strict_page(browser, width=390, height=844) as page:
        visit(page, address, "?view=runs&from=now-30d&order=calls")
        page.locator("table.runs a").first.click()
        page.wait_for_selector("table.waterfall")
        for cell in page.locator("table.waterfall tbody tr").first.locator("td").all():
            box = cell.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def cut_amounts(page) -> list[str]:
    """Return the times, tokens and costs of steps that do not fit their cells."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".waterfall td:nth-child(n + 3)")]
            .filter((cell) => cell.scrollWidth > cell.clientWidth)
            .map((cell) => cell.textContent)"""
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_no_amount_of_a_run_is_cut(browser, address, width):
    """Times, tokens, costs and reasons for no cost are whole, on a phone too."""
    with strict_page(browser, width=width, height=844) as page:
        visit(page, address, "?view=runs&from=now-30d&where=unpriced_calls>0&order=cost")
        page.locator("table.runs a").first.click()
        page.wait_for_selector("table.waterfall")
        assert page.locator(".waterfall .star").count() > 0
        assert cut_amounts(page) == []
        assert "* without calls that have no price" in page.locator("main").inner_text()


def test_a_star_shifts_no_amount_and_has_a_legend(page, address):
    """Points stand under points in the run list, and what the star means is below it."""
    visit(page, address, "?view=runs&from=now-30d")
    page.wait_for_selector("table.runs")
    ends = page.evaluate(
        """() => [...document.querySelectorAll("table.runs td.barred")].map((cell) => {
            const range = document.createRange();
            range.selectNodeContents(cell.firstChild);
            return Math.round(range.getBoundingClientRect().right * 10);
        })"""
    )
    assert page.locator("table.runs .star").count() > 0
    assert len(set(ends)) == 1
    assert page.get_by_text("* without calls that have no price").is_visible()


def test_boards_mark_sums_without_unpriced_calls(page, address):
    """The chargeback's costs have the star where calls without a price are missing."""
    visit(page, address, "?view=spend&from=now-30d")
    wait_until_drawn(page)
    panel = page.locator("[data-panel=chargeback]")
    rows = panel.locator("tbody tr").all()
    starred = [row.locator(".star").count() == 1 for row in rows]
    unpriced = [row.locator("td").nth(5).inner_text() != "0" for row in rows]
    assert starred == unpriced
    assert any(starred)
    assert "* without calls that have no price" in panel.inner_text()


def test_the_zone_stands_beside_amounts_of_a_day_or_a_month(page, address):
    """Spend today and this month name the zone whose days they are."""
    visit(page, address, "?from=now-30d")
    wait_until_drawn(page)
    for panel, title in (
        ("spend_today", "Spend today UTC"),
        ("spend_month", "Spend this month UTC"),
    ):
        assert page.locator(f"[data-panel={panel}] h3").inner_text() == title
    assert page.locator("[data-panel=runs] h3").inner_text() == "Runs"
