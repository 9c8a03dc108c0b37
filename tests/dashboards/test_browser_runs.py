"""From a number to the runs behind it, in a real browser: find, click, run, compare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from support.boards import seeded
from support.browser import (
    accessibility_faults,
    serving,
    strict_page,
    visit,
    wait_until_drawn,
)

pytestmark = [pytest.mark.slow, pytest.mark.services]

SIZES = [1280, 390]
BOARDS = ["overview", "crews", "models", "spend", "pipeline"]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    path = str(tmp_path_factory.mktemp("runs") / "ledger.db")
    seeded(path).close()
    with serving(path, tmp_path_factory.mktemp("log")) as found:
        yield found


@contextmanager
def opened(browser, address: str, query: str, width: int = 1280):
    """Yield a page of this width on which any fault fails the test."""
    with strict_page(browser, width=width) as page:
        visit(page, address, query)
        yield page


def listed(page) -> list[str]:
    """Return the names of the runs in the list, once it is there."""
    page.wait_for_url(re.compile("view=runs"))
    page.wait_for_selector("table.runs, .empty.big")
    return page.locator("table.runs tbody tr td:nth-child(2)").all_inner_texts()


def chips(page) -> list[str]:
    return [text.removesuffix(" ×") for text in page.locator(".chip").all_inner_texts()]


def runs_of(page, address: str, href: str) -> list[dict]:
    """Return every run that a link into the run list leads to, over the page's own API."""
    wanted = {key: values[0] for key, values in parse_qs(urlsplit(href).query).items()}
    found: list[dict] = []
    while True:
        query = urlencode({**wanted, "skip": str(len(found))})
        answer = page.request.get(f"{address}api/page/runs?{query}")
        assert answer.status == 200, (href, answer.text())
        document = answer.json()
        found += [dict(zip(document["columns"], row, strict=True)) for row in document["rows"]]
        if len(document["rows"]) < document["page"]:
            return found


@pytest.mark.parametrize("board", BOARDS)
def test_every_number_leads_to_runs(browser, address, board):
    """Each panel with data has links to the run list, and each link is a filter that is read."""
    with opened(browser, address, f"?view={board}&from=now-30d") as page:
        wait_until_drawn(page)
        hrefs = set()
        for card in page.locator("article.panel").all():
            if card.locator(".empty").count():
                continue
            links = card.locator("a[href*='view=run']").all()
            assert links, card.get_attribute("data-panel")
            hrefs |= {link.get_attribute("href") for link in links}
        for href in sorted(hrefs):
            if "view=runs" in href:
                runs_of(page, address, href)


@pytest.mark.parametrize("width", SIZES)
def test_a_bar_leads_to_the_runs_that_it_sums(browser, address, width):
    """The runs behind the highest bar of spend by user cost together what the bar says."""
    with opened(browser, address, "?view=spend&from=now-30d", width) as page:
        wait_until_drawn(page)
        bar = page.locator("[data-panel=spend_by_user] li").first
        user = bar.locator("a").inner_text()
        href = bar.locator("a").get_attribute("href")
        panel = page.request.get(f"{address}api/panels/spend_by_user?from=now-30d").json()
        assert sum(run["cost_usd"] or 0 for run in runs_of(page, address, href)) == pytest.approx(
            dict(panel["rows"])[user]
        )
        bar.locator(".track").click()
        assert listed(page)
        assert chips(page) == [f"user={user}"]


@pytest.mark.parametrize("width", SIZES)
def test_a_tile_a_legend_entry_and_a_row_lead_to_their_runs(browser, address, width):
    """Each opens the run list with the filter of what was clicked, and back returns."""
    with opened(browser, address, "?from=now-30d", width) as page:
        wait_until_drawn(page)
        page.locator("[data-panel=unpriced_calls] a.number").click()
        assert listed(page)
        assert chips(page) == ["unpriced_calls>0"]
        page.go_back()
        wait_until_drawn(page)
        entry = page.locator("[data-panel=spend_by_crew] .legend a").first
        crew = entry.inner_text()
        entry.click()
        assert listed(page)
        assert chips(page) == [f"crew={crew}"]
        visit(page, address, "?view=models&from=now-30d")
        wait_until_drawn(page)
        row = page.locator("[data-panel=models] tbody tr").first
        model = row.locator("td").nth(1).inner_text()
        row.locator("td").nth(2).click()
        assert listed(page)
        provider, named = chips(page)
        assert provider.startswith("provider=")
        assert named == f"model={model}"


def test_a_column_of_a_chart_leads_to_the_runs_of_its_time(browser, address):
    """A click, unlike a drag, on a column opens the runs of that bucket and of the part it hit."""
    with opened(browser, address, "?from=now-30d") as page:
        wait_until_drawn(page)
        chart = page.locator("[data-panel=runs_by_status] .u-over")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] - 4)
        assert listed(page)
        query = parse_qs(urlsplit(page.url).query)
        assert int(query["to"][0]) - int(query["from"][0]) == 86400
        assert chips(page)[0].startswith("status=")


@pytest.mark.parametrize("width", SIZES)
def test_a_filter_is_written_and_removed_as_chips(browser, address, width):
    """A term becomes a chip and stands in the address; its cross takes it away again."""
    with opened(browser, address, "?view=runs&from=now-30d", width) as page:
        everything = listed(page)
        page.get_by_label("Add a filter").fill("status=failed calls>1")
        page.keyboard.press("Enter")
        page.wait_for_selector(".chip")
        assert chips(page) == ["status=failed", "calls>1"]
        outcomes = page.locator("table.runs tbody tr td:nth-child(3)").all_inner_texts()
        assert all(text.startswith(("failed", "abandoned")) for text in outcomes)
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        page.wait_for_selector(".chip")
        page.get_by_role("button", name="Remove the filter calls>1").click()
        page.wait_for_function("() => document.querySelectorAll('.chip').length === 1")
        page.get_by_role("button", name="Remove the filter status=failed").click()
        page.wait_for_function("() => !document.querySelector('.chip')")
        assert listed(page) == everything
        page.get_by_label("Find in names and ids").fill("market")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("search=market"))
        page.wait_for_load_state("networkidle")
        assert 0 < len(set(listed(page))) < len(set(everything))
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_mistyped_filter_says_what_is_meant(browser, address):
    """The message names the nearest key, and the field still has what was typed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()  # the refusal is an error on its console
    visit(page, address, "?view=runs&where=modle%3Dgpt-5")
    page.wait_for_selector("[role=alert]")
    assert "did you mean model?" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Add a filter").input_value() == "modle=gpt-5"
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_two_runs_are_found_and_compared(browser, address, width, theme):
    """From the list to a run, from there to a second one, and to what differs between them."""
    query = f"?view=runs&from=now-30d&order=cost&where=crew%3Dmarket-research&theme={theme}"
    with opened(browser, address, query, width) as page:
        assert len(listed(page)) > 2
        page.locator("table.runs a").first.click()
        page.wait_for_selector("table.waterfall")
        page.get_by_role("link", name="Compare with another run").click()
        page.wait_for_selector(".picked")
        assert page.locator(".pickrun input:checked").count() == 1
        assert accessibility_faults(page) == []
        page.locator(".pickrun input").nth(2).check()
        page.get_by_role("link", name="Compare", exact=True).click()
        page.wait_for_selector("table.totals")
        query = parse_qs(urlsplit(page.url).query)
        answer = page.request.get(
            f"{address}api/page/compare?{urlencode({'a': query['a'][0], 'b': query['b'][0]})}"
        ).json()
        assert page.locator("ul.explain li").count() == len(answer["explanation"]) > 0
        calls = page.locator("table.totals tr", has_text="Model calls").locator("td")
        assert calls.all_inner_texts()[:2] == [str(answer[side]["calls"]) for side in "ab"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert accessibility_faults(page) == []
        page.get_by_role("link", name="Swap A and B").click()
        page.wait_for_url(re.compile(f"a={query['b'][0]}"))
