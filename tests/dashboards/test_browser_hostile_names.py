"""Every name that a client can send, and all content, is text on the page and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from support.browser import accessibility_faults, serving, strict_page, visit, wait_until_drawn

from crewmeter import semconv
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.records import Span

pytestmark = [pytest.mark.slow, pytest.mark.services]

SECOND = 10**9
TRACE = "d" * 32


def attack(where: str) -> str:
    """Return a name that runs code wherever it is taken for HTML. It says where it was sent."""
    return f"<img src=x onerror=alert('{where}')>\"'><script>alert('{where}')</script>"


NAMES = {
    semconv.RUN_NAME: "crew",
    semconv.CREW: "crew",
    semconv.FLOW: "flow",
    semconv.TASK: "task",
    semconv.AGENT_NAME: "agent",
    semconv.USER: "user",
    semconv.TEAM: "team",
    semconv.SESSION: "session",
    f"{semconv.TAG_PREFIX}{attack('tag key')}": "tag value",
}
OF_CALLS = {
    semconv.PROVIDER: "provider",
    semconv.REQUEST_MODEL: "model",
    semconv.RESPONSE_MODEL: "model",
    semconv.FINISH_REASONS: "finish reason",
    semconv.SERVICE_TIER: "tier",
    semconv.SERVER_ADDRESS: "host",
    semconv.INPUT_MESSAGES: "prompt",
    semconv.OUTPUT_MESSAGES: "answer",
}
OF_TOOLS = {
    semconv.TOOL_NAME: "tool",
    semconv.TOOL: "tool",
    semconv.ERROR_TYPE: "error type",
    semconv.TOOL_ARGUMENTS: "arguments",
    semconv.TOOL_RESULT: "result",
}
RESOURCE = {semconv.SERVICE_NAME: attack("service"), semconv.ENVIRONMENT: attack("environment")}


def hostile_run() -> list[Span]:
    """Return a failed run in which every text is an attack, once as a list of messages."""
    now = time.time_ns()
    common = {name: attack(where) for name, where in NAMES.items()}
    # Without a slash: ids are parts of addresses, and ours are hexadecimal.
    common[semconv.RUN_ID] = "<img src=x onerror=alert('run id')>"
    messages = (
        '[{"role": "<b>role</b>", "parts": [{"type": "text", "content": "<b>said</b>"}, '
        '{"type": "tool_call", "name": "<b>called</b>", "arguments": {"a": "<b>given</b>"}}]}]'
    )

    def span(number: int, kind: str, attributes: dict[str, object], *, parent: int = 1) -> Span:
        return Span(
            trace_id=TRACE,
            span_id=f"{number:016x}",
            parent_span_id=None if number == parent else f"{parent:016x}",
            name=attack("span"),
            started_ns=now - (90 - number) * SECOND,
            ended_ns=now - (60 - number) * SECOND,
            error=kind != "llm",
            attributes={**common, semconv.KIND: kind, **attributes},
            resource=RESOURCE,
            scope="crewmeter",
            status_message=attack("error message"),
        )

    call = {name: attack(where) for name, where in OF_CALLS.items()}
    tool = {name: attack(where) for name, where in OF_TOOLS.items()}
    chat = {semconv.OPERATION: "chat", semconv.INPUT_TOKENS: 5, semconv.OUTPUT_TOKENS: 5}
    error = {semconv.ERROR_TYPE: attack("error type")}
    return [
        span(1, "crew", {semconv.RUN_KIND: attack("kind"), **error}),
        span(2, "task", error),
        span(3, "agent", error, parent=2),
        span(4, "llm", {**call, **chat}, parent=3),
        span(5, "tool", {semconv.OPERATION: "execute_tool", **tool}, parent=3),
        span(6, "llm", {**call, **chat, semconv.INPUT_MESSAGES: messages}, parent=3),
        span(7, attack("kind"), error, parent=3),
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    path = str(tmp_path_factory.mktemp("hostile") / "ledger.db")
    with Ledger.open(path) as ledger:
        store = ContentStore(ledger.url)
        Pipeline(ledger, PriceBook.load(), content=store).ingest(hostile_run())
    with serving(path, tmp_path_factory.mktemp("log")) as found:
        yield found


def assert_only_text(page) -> None:
    """No element of an attack is on the page. Dialogs and requests fail the test by themselves."""
    made = "img[src=x], script:not([src]), [onerror], figure.content pre *"
    assert page.locator(made).count() == 0


@pytest.mark.parametrize("board", ["overview", "crews", "models", "spend", "pipeline"])
def test_a_board_runs_nothing(browser, address, board):
    """Nor do its menus of filters."""
    with strict_page(browser) as page:
        visit(page, address, f"?view={board}&from=now-24h")
        wait_until_drawn(page)
        assert_only_text(page)
        for menu in page.locator("button[aria-haspopup], summary").all():
            menu.click()
            assert_only_text(page)
            page.keyboard.press("Escape")


def test_the_run_list_and_its_filters_run_nothing(browser, address):
    """Names in rows, in chips, in the search field, and in the words of a refusal."""
    with strict_page(browser) as page:
        visit(page, address, "?view=runs&from=now-24h")
        page.wait_for_selector("table.runs")
        assert "alert('user')" in page.locator("table.runs").inner_text()
        assert_only_text(page)
        quoted = attack("crew").replace('"', '""')
        terms = urlencode({"where": f'crew="{quoted}"', "search": attack("agent")})
        visit(page, address, f"?view=runs&from=now-24h&{terms}")
        page.wait_for_selector("table.runs")
        assert page.locator(".chip").count() == 1
        assert_only_text(page)


def test_a_run_runs_nothing_on_any_step(browser, address):
    """Its facts, each step, and what each step captured."""
    with strict_page(browser) as page:
        visit(page, address, "?view=runs&from=now-24h")
        page.locator("table.runs tbody a").first.click()
        page.wait_for_selector("table.waterfall")
        read = page.locator("main").inner_text()
        for step in page.locator("table.waterfall button.label").all():
            step.click()
            page.wait_for_selector("figure.content")
            read += page.locator("aside.detail").inner_text()
            assert_only_text(page)
        sent = ("crew", "user", "team", "session", "service", "agent", "model", "provider")
        more = ("tool", "error type", "error message", "prompt", "answer", "arguments", "result")
        assert [where for where in sent + more if f"alert('{where}')" not in read] == []
        for text in ("<b>role</b>", "<b>said</b>", "<b>called</b>", "<b>given</b>"):
            assert text in read
        assert accessibility_faults(page) == []


def test_a_comparison_runs_nothing(browser, address):
    """Both sides, and the steps of each."""
    with strict_page(browser) as page:
        visit(page, address, "?view=runs&from=now-24h")
        href = page.locator("table.runs tbody a").first.get_attribute("href")
        run = next(part[4:] for part in href.lstrip("?").split("&") if part.startswith("run="))
        visit(page, address, f"?view=compare&a={run}&b={run}")
        page.wait_for_selector("main table")
        assert_only_text(page)
