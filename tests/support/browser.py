"""The local page in a real browser: serving a ledger, visiting, waiting until it is drawn."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.boards import running
from support.paths import TESTS
from support.ports import free_port

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
CREWMETER = str(Path(sys.executable).parent / "crewmeter")
_AXE = (TESTS / "support/vendor/axe.min.js").read_text("utf-8")
_OURS = re.compile(r"(http://127\.0\.0\.1:|blob:|data:)")


@contextmanager
def serving(ledger: str, folder: Path) -> Iterator[str]:
    """Serve a ledger's page and yield its address."""
    port = free_port()
    command = [CREWMETER, "open", "--no-browser", "--port", str(port), "--ledger", ledger]
    with running(command, ready=f"http://127.0.0.1:{port}/", log=folder / "open.log"):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def strict_page(browser, *, width: int = 1280, height: int = 900):
    """Yield a page of this size.

    Any console error, policy violation, foreign request or dialog fails the test.
    """
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, accept_downloads=True)
    page = context.new_page()
    faults: list[str] = []

    def console(message) -> None:
        if message.type == "error":
            faults.append(message.text)

    def dialog(opened) -> None:
        faults.append(f"dialog {opened.message}")
        opened.dismiss()

    def request(sent) -> None:
        if not _OURS.match(sent.url):
            faults.append(sent.url)

    page.on("console", console)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", dialog)
    page.on("request", request)
    yield page
    context.close()
    assert faults == []


def visit(page, address: str, query: str = "") -> None:
    """Open an address and wait for its requests."""
    page.goto(address + query)
    page.wait_for_load_state("networkidle")


def wait_until_drawn(page) -> None:
    """Wait until every panel on the board, also those further down, has its data."""
    for card in page.locator("article.panel").all():
        card.scroll_into_view_if_needed()
    page.wait_for_function("() => !document.querySelector('.skeleton, [aria-busy]')")


def accessibility_faults(page) -> list[str]:
    """Return what axe finds on the page: rule, element and reason."""
    page.evaluate(_AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:150]} ({node['failureSummary']})"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]
