"""Rows that another version wrote stop no reader: JSON with keys that are extra, or missing."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from support.sidecars import request

from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.repository import save
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

RUN = {
    "crewmeter.run.id": "r-1",
    "crewmeter.run.name": "news",
    "crewmeter.run.kind": "crew",
    "crewmeter.crew.name": "news",
    "crewmeter.tag.env": "prod",
}
READS = [
    "/metrics",
    "/readyz",
    "/api/report?" + urlencode({"by": "model", "where": "tag:env=prod"}),
    "/api/report?" + urlencode({"by": "tag:env"}),
    "/api/report?" + urlencode({"by": "crew"}),
    "/api/runs",
    "/api/runs/r-1",
    "/api/page/runs",
    "/api/page/runs/r-1",
    "/api/boards",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A ledger with history, a budget, tags and rare units, and its JSON columns."""
    path = tmp_path_factory.mktemp("foreign") / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        now = datetime.now(UTC)
        load_history(ledger, days=2, seed=4, until=now, calls_per_day=60)
        save(ledger.engine, parse_budget("tag:env=prod 5 USD/day"), now_ns=1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        columns = list(json_columns(connection))
    return path, columns


def json_columns(connection):
    """Every (table, column) that holds a JSON object in some row."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    for (table,) in connection.execute(query).fetchall():
        for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
            if "TEXT" in kind or "CHAR" in kind:
                found = connection.execute(
                    f"SELECT 1 FROM {table} WHERE \"{column}\" LIKE '{{%}}' LIMIT 1"
                )
                if found.fetchone():
                    yield table, column


def changed(text, how):
    """A JSON object as another version may have written it."""
    if text is None:
        return None
    document = json.loads(text)
    if how == "extra":
        return json.dumps(document | {"of_a_newer_version": {"deep": [1, None, {"x": "y"}]}})
    if how == "missing":
        return "{}"
    return json.dumps(dict.fromkeys(document))


@pytest.mark.mostly_slow("extra")
@pytest.mark.parametrize("how", ["extra", "missing", "null"])
def test_json_of_another_version_stops_no_reader(nursery, written, tmp_path, how, record_property):
    """Each column in turn, and all at once: every page answers, and spans are taken."""
    source, columns = written
    assert columns
    record_property("tried", len(columns))
    path = tmp_path / "ledger.db"
    path.write_bytes(source.read_bytes())
    with nursery.start(path) as running:
        assert running.post(request(3, **RUN)).status == 200
        root = {"crewmeter.kind": "crew", "gen_ai.operation.name": "invoke_workflow"}
        assert running.post(request(spans=[(b"\1" * 16, b"\1" * 8)], **RUN, **root)).status == 200
        running.terminate()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.create_function("changed", 1, lambda text: changed(text, how))
        for table, column in columns:
            with contextlib.suppress(sqlite3.IntegrityError):  # equal sets of tags are one row
                connection.execute(
                    f'UPDATE {table} SET "{column}" = changed("{column}") '
                    f"WHERE \"{column}\" LIKE '{{%}}'"
                )
        connection.commit()
    with nursery.start(path) as running:
        for read in READS:
            answer = running.get(read)
            assert answer.status < 500, (read, answer.text[:500])
        assert running.get("/metrics").status == running.get("/metrics").status == 200
        assert running.post(request(3, **RUN)).status == 200
        assert "Traceback" not in running.raw_log()
        assert running.metric('crewmeter_thread_restarts_total{thread="crewmeter-budgets"}') == 0
