"""How many statements a batch is, and what the writer need not read again."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import CONTEXT, call, frozen, priced, root, step
from support.rows import rows

from crewmeter_cost.ledger.maintenance.forget import forget_user
from crewmeter_cost.ledger.maintenance.prune import prune
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import PICO

READS = ("SELECT",)
FRAME = ("BEGIN IMMEDIATE", "PRAGMA data_version", "COMMIT")


class _Statements:
    """The statements that a ledger's writer runs."""

    def __init__(self, ledger: Ledger) -> None:
        self.run: list[str] = []
        ledger._sqlite.session.connection.set_trace_callback(self.run.append)

    def of(self, write) -> list[str]:
        self.run.clear()
        write()
        return list(self.run)


def _batch(first: int, count: int):
    return [(call(number), priced()) for number in range(first, first + count)]


def _parts(rows_written: int) -> int:
    """Statements of so many rows: one for each power of two in the number, 512 at most."""
    return rows_written // 512 + (rows_written % 512).bit_count()


@pytest.mark.parametrize("size", [1, 2, 25, 100, 1000])
def test_a_batch_is_a_fixed_number_of_statements(ledger, size):
    """A batch reads nothing that its writer knows, and writes each table in a few statements."""
    ledger.write(_batch(0, 10), [], frozen)
    statements = _Statements(ledger)
    ran = statements.of(lambda: ledger.write(_batch(100, size), [], frozen))
    assert [each for each in ran if each.startswith(READS)] == []
    assert [each for each in ran if each in FRAME] == list(FRAME)
    writes = [each.split('"')[1] for each in ran if each.startswith("INSERT")]
    assert len(ran) == len(FRAME) + len(writes)
    assert writes.count("call") == _parts(size)
    assert writes.count("run") == 1
    # 11 roll-ups and 7 latency counts an hour, however many calls fall into it.
    hours = 1 + size // 3600
    assert writes.count("rollup_hour") <= _parts(11 * hours)
    assert writes.count("latency_hour") <= _parts(7 * hours)
    assert writes.count("latency_day") <= _parts(7)


def test_known_names_are_not_looked_up_again(ledger):
    """A run's later batches, with steps and its end, read nothing either."""
    first = [step(20, "tool", "search"), step(21, "agent", "writer")]
    ledger.write(_batch(0, 3), [*first, root()], frozen)
    statements = _Statements(ledger)
    ran = statements.of(lambda: ledger.write(_batch(10, 3), [step(30, "tool", "search")], frozen))
    assert [each for each in ran if each.startswith(READS)] == []
    assert_books_hold(ledger)


def test_another_writers_batch_is_seen(ledger, ledger_path):
    """Two processes add to one run: each adds to the other's totals, not to those it remembers."""
    with Ledger.open(str(ledger_path)) as other:
        for number in range(6):
            writer = (ledger, other)[number % 2]
            writer.write(_batch(number, 1), [], frozen)
    books = assert_books_hold(ledger)
    assert [run["calls"] for run in books.runs] == [6]


def test_pruning_by_another_is_seen(ledger, ledger_path):
    """A span from before what another process pruned is refused by a writer that is open."""
    ledger.write(_batch(0, 5), [], frozen)
    with Ledger.open(str(ledger_path)) as other:
        newest = max(row["started_ns"] for row in rows(other, "SELECT started_ns FROM call"))
        prune(other, datetime.fromtimestamp(newest / 1e9, UTC) + timedelta(hours=2))
    assert ledger.write(_batch(0, 5), [], frozen).inserted_calls == 0


def test_a_forgotten_name_is_looked_up_again(ledger, ledger_path):
    """After a user is forgotten, their next call is booked under the name, not the pseudonym."""
    ledger.write(_batch(0, 2), [], frozen)
    with Ledger.open(str(ledger_path)) as other:
        forget_user(other, CONTEXT.user)
    ledger.write(_batch(10, 1), [], frozen)
    names = [row["user"] for row in rows(ledger, 'SELECT "user" FROM calls ORDER BY time')]
    assert names[-1] == CONTEXT.user
    assert CONTEXT.user not in names[:-1]


def test_a_failed_batch_leaves_run_totals_as_they_were(ledger):
    """Totals that a rolled-back batch changed in memory are read again."""

    def broken(version: str):
        raise KeyError(version)

    ledger.write([(call(1), priced(PICO))], [], frozen)
    with pytest.raises(KeyError):
        ledger.write([(call(2), priced()), (call(3), priced(version="h9"))], [], broken)
    ledger.write([(call(4), priced(PICO))], [], frozen)
    assert [run["calls"] for run in assert_books_hold(ledger).runs] == [2]


def test_a_write_on_another_connection_is_counted(ledger, ledger_path):
    """SQLite's data version, seen inside a write transaction, tells of every other connection."""
    ledger.write(_batch(0, 1), [], frozen)
    session = ledger._sqlite.session
    before = session.data_version()
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("UPDATE run SET kind = 'flow'")
    raw.close()
    session.connection.execute("BEGIN IMMEDIATE")
    assert session.data_version() != before
    session.connection.execute("ROLLBACK")
