"""A mirror equals its ledger.

After the first copy, the second, more calls, a repricing, a pruning and an interruption.
"""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text
from support.clickhouse import UNTIL, clickhouse_url
from support.ledger_build import call, frozen, priced

from crewmeter_cost.clickhouse import sync as copying
from crewmeter_cost.clickhouse.connect import connected, mirror_url
from crewmeter_cost.clickhouse.sync import copy
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.maintenance.prune import prune
from crewmeter_cost.ledger.maintenance.reprice import reprice, undo
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

HOURLY = [f"{name}_hourly" for name in DIMENSIONS]
VIEWS = ["calls", "runs", "steps", *HOURLY, "latency_hourly", "latency_daily"]
DEAR = """
[[price]]
provider = "openai"
model = "gpt-4o-mini"
input = 7.77
output = 99.9
"""


def _of_ledger(ledger: Ledger, sql: str):
    with ledger.reading() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def _same_rows(ledger: Ledger, client, view: str) -> None:
    """Every column of the ledger's view, row by row; floats may differ in the last digit."""
    with ledger.reading() as connection:
        found = connection.execute(text(f"SELECT * FROM {view}"))
        columns = list(found.keys())
        ours = sorted((tuple(row) for row in found), key=repr)
    names = ", ".join(f'"{name}"' for name in columns)
    theirs = sorted(client.query(f"SELECT {names} FROM {view}").result_rows, key=repr)
    assert len(theirs) == len(ours) > 0
    assert [_rounded(row) for row in theirs] == [_rounded(row) for row in ours]


def _rounded(row):
    return [f"{value:.9g}" if isinstance(value, float) else value for value in row]


def _same_money(ledger: Ledger, client) -> int:
    """Sums of calls, of runs and of every roll-up, exact to the pico-dollar.

    Returns the calls' sum.
    """
    ((calls,),) = _of_ledger(ledger, "SELECT SUM(cost_pusd) FROM call")
    assert client.query("SELECT sum(cost_exact_pusd) FROM calls").result_rows == [(calls,)]
    ((whole, part),) = _of_ledger(ledger, "SELECT SUM(cost_whole_usd), SUM(cost_pusd) FROM run")
    assert client.query("SELECT sum(cost_exact_pusd) FROM runs").result_rows == [
        (whole * 10**12 + part,)
    ]
    for name, dimension in DIMENSIONS.items():
        query = (
            "SELECT SUM(cost_whole_usd), SUM(cost_pusd) FROM rollup_hour WHERE dimension = "
            f"{dimension.code}"
        )
        ((whole, part),) = _of_ledger(ledger, query)
        assert client.query(f"SELECT sum(cost_exact_pusd) FROM {name}_hourly").result_rows == [
            (whole * 10**12 + part,)
        ], name
    return calls


@pytest.mark.slow
def test_every_view_says_what_the_ledgers_says(ledger, client):
    """The same names, the same columns, the same rows: whatever reads a ledger reads its mirror."""
    copy(ledger, client)
    for view in VIEWS:
        _same_rows(ledger, client, view)
    assert _same_money(ledger, client) > 0


@pytest.mark.slow
def test_a_second_copy_sends_nothing(ledger, client):
    """Running it again is free and doubles nothing."""
    assert copy(ledger, client).rows["calls"] > 1500
    assert copy(ledger, client).total == 0
    _same_money(ledger, client)


@pytest.mark.slow
def test_a_copy_beside_a_writer_takes_the_rest_next_time(ledger, client):
    """Calls are committed while rows are compared and sent. The next copy sends what is missing,
    and the mirror is the ledger again.
    """
    stop = threading.Event()
    written = []

    def write():
        with Ledger.open(ledger.name) as other:
            while not stop.is_set() or not written:
                number = 9_000_000 + len(written)
                other.write([(call(number), priced())], [], frozen)
                written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copy(ledger, client)
        copy(ledger, client)
    finally:
        stop.set()
        writer.join()
    copy(ledger, client)
    assert written
    for view in VIEWS:
        _same_rows(ledger, client, view)
    _same_money(ledger, client)


@pytest.mark.slow
def test_later_calls_are_sent_and_nothing_else(ledger, client):
    """The copy after new calls carries those, and the sums they moved."""
    before = copy(ledger, client)
    until = UNTIL + timedelta(days=1)
    load_history(ledger, days=1, seed=7, until=until, calls_per_day=60)
    after = copy(ledger, client)
    assert 0 < after.rows["calls"] < before.rows["calls"] / 5
    assert after.rows["rollup"] < before.rows["rollup"] / 5
    for view in ("calls", "runs", "total_hourly", "latency_daily"):
        _same_rows(ledger, client, view)
    _same_money(ledger, client)


@pytest.mark.slow
def test_a_repricing_and_its_undoing_reach_the_mirror(ledger, client, tmp_path):
    """Old calls that cost something else now replace themselves.

    Undone, the first money is back.
    """
    copy(ledger, client)
    first = _same_money(ledger, client)
    path = tmp_path / "prices.toml"
    path.write_text(DEAR, "utf-8")
    done = reprice(ledger, PriceBook.load(path), reason="dearer")
    assert done.job is not None
    sent = copy(ledger, client)
    assert sent.rows["calls"] == done.changed
    assert _same_money(ledger, client) != first
    undo(ledger, done.job)
    copy(ledger, client)
    assert _same_money(ledger, client) == first
    assert copy(ledger, client).total == 0


@pytest.mark.slow
def test_what_the_ledger_pruned_stays_in_the_mirror(ledger, client):
    """Retention of the ledger is not the mirror's.

    Its detail stays, and later copies leave it alone.
    """
    copy(ledger, client)
    ((calls,),) = client.query("SELECT count() FROM calls").result_rows
    pruned = prune(ledger, UNTIL - timedelta(days=10))
    assert pruned.calls > 0
    assert copy(ledger, client).total == 0
    assert client.query("SELECT count() FROM calls").result_rows == [(calls,)]


@pytest.mark.slow
def test_a_row_the_ledger_no_longer_has_goes(ledger, client):
    """A call that another instrumentor's row replaced is not counted beside it."""
    copy(ledger, client)
    with ledger.writing() as work:
        work.connection.execute(text("DELETE FROM call WHERE id = 5"))
        work.connection.execute(
            text(
                "UPDATE call SET span_id = x'00000000000000ff', duration_ns = duration_ns + 1 "
                "WHERE id = 6"
            )
        )
    sent = copy(ledger, client)
    assert (sent.rows["calls"], sent.removed["calls"]) == (1, 2)
    _same_rows(ledger, client, "calls")


@pytest.mark.slow
def test_an_interrupted_copy_goes_on(ledger, client, monkeypatch):
    """What was sent before the connection broke is not sent again, and in the end nothing is
    missing or twice there.
    """
    monkeypatch.setattr(copying, "BATCH", 200)
    insert, sent = client.insert, []

    def breaking(table, rows, **options):
        if len(sent) == 3:
            raise ConnectionResetError("the network went away")
        sent.append(len(rows))
        return insert(table, rows, **options)

    monkeypatch.setattr(client, "insert", breaking)
    with pytest.raises(ConnectionResetError):
        copy(ledger, client)
    monkeypatch.setattr(client, "insert", insert)
    ((calls,),) = _of_ledger(ledger, "SELECT COUNT(*) FROM call")
    assert copy(ledger, client).rows["calls"] == calls - sum(sent)
    _same_rows(ledger, client, "calls")
    _same_money(ledger, client)


@pytest.mark.slow
def test_a_window_leaves_older_history_alone(ledger, client):
    """`--every` looks at the last days only.

    A change before them waits for the next whole round.
    """
    copy(ledger, client)
    with ledger.writing() as work:
        work.connection.execute(text("UPDATE call SET duration_ns = duration_ns + 1 WHERE id = 1"))
    assert copy(ledger, client, since=int(UNTIL.timestamp()) - 86_400).total == 0
    assert copy(ledger, client).rows["calls"] == 1


def test_an_empty_ledger_has_an_empty_mirror(tmp_path):
    """Before the first call the views are there and have no rows."""
    with (
        Ledger.open(str(tmp_path / "empty.db")) as empty,
        connected(mirror_url(clickhouse_url())) as client,
    ):
        assert copy(empty, client).total == 0
        for view in VIEWS:
            assert client.query(f"SELECT count() FROM {view}").result_rows == [(0,)]
