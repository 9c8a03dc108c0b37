"""Spans wait in the ledger's file until somebody has the time to price them, and then are rows once."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from crewmeter_cost.ledger.inbox import TABLE, drain, put
from crewmeter_cost.records import Span


def span(n: int) -> Span:
    return Span(
        trace_id=f"{n:032x}",
        span_id=f"{n:016x}",
        parent_span_id=None,
        name="chat gpt-4o",
        started_ns=n,
        ended_ns=n + 5,
        error=False,
        attributes={"gen_ai.response.finish_reasons": ("stop",), "gen_ai.usage.input_tokens": n},
        resource={"service.name": "app"},
        scope="crewmeter",
    )


def test_what_is_put_comes_out_once_in_order(tmp_path):
    """Two batches in, both out, then none; the file is the owner's alone."""
    path = tmp_path / "new" / "ledger.db"
    put(path, [span(1), span(2)])
    put(path, [span(3)])
    out = []
    assert drain(path, out.extend) == 3
    assert [each.started_ns for each in out] == [1, 2, 3]
    assert out[0].attributes["gen_ai.usage.input_tokens"] == 1
    assert list(out[0].attributes["gen_ai.response.finish_reasons"]) == ["stop"]
    assert drain(path, out.extend) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_batch_stays_until_it_was_taken(tmp_path):
    """If writing its rows fails, it waits for the next attempt."""
    path = tmp_path / "ledger.db"
    put(path, [span(1)])

    def refuse(_):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        drain(path, refuse)
    assert drain(path, lambda _: None) == 1


def test_a_batch_of_a_version_to_come_is_left_alone(tmp_path):
    """It may be read by whoever understands it."""
    path = tmp_path / "ledger.db"
    put(path, [span(1)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT INTO {TABLE} (spans) VALUES ('[[1]]')")
    connection.close()
    assert drain(path, lambda _: None) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (1,)
    connection.close()


def test_a_file_that_is_no_database_is_an_error_of_sqlite(tmp_path):
    """The caller decides what to do about it; nothing is overwritten."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        put(path, [span(1)])
    assert path.read_bytes().startswith(b"not a database")
