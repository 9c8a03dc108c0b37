"""Accounts and pools.

However many ask, what is spent and what may be spent never passes the limit.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, event
from sqlmodel import SQLModel

from crewmeter_cost.budgets import leases as accounts
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.local_balance import LocalBalanceStore, window_at
from crewmeter_cost.budgets.notifications import announce, crossed, undelivered
from crewmeter_cost.budgets.reservations import BudgetRefusal, LeasedPool, RunPool
from crewmeter_cost.ledger.schema.generate import model_tables

NOW = 1_795_000_000.0


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/ledger.db", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _wal(connection, _record):
        connection.execute("PRAGMA journal_mode=WAL")

    SQLModel.metadata.create_all(engine, tables=model_tables())
    yield engine
    engine.dispose()


def test_an_account_starts_with_what_the_ledger_knows(engine):
    """Opening twice is opening once; the second answer about the past is not used."""
    first = accounts.open_account(
        engine, scope="everything", period_start=0, spent_so_far=lambda: 7
    )
    again = accounts.open_account(
        engine, scope="everything", period_start=0, spent_so_far=lambda: 99
    )
    assert first == again
    assert accounts.balance(engine, first) == accounts.Balance(7, 0)


def test_a_lease_never_passes_the_limit(engine):
    """Twelve threads lease as much as they can: the sum granted is at most the limit."""
    account = accounts.open_account(
        engine, scope="everything", period_start=0, spent_so_far=lambda: 0
    )
    limit = 1_000

    def lease(n):
        granted = 0
        while state := accounts.acquire(
            engine,
            account,
            holder=f"h{n}",
            limit_pusd=limit,
            need_pusd=7,
            want_pusd=50,
        ).granted_pusd:
            granted += state
        return granted

    with ThreadPoolExecutor(12) as pool:
        total = sum(pool.map(lease, range(12)))
    assert limit - 7 < total <= limit
    assert accounts.balance(engine, account).leased_pusd == total


def test_a_dead_process_gives_its_lease_back_after_a_while(engine):
    """Its lease expires; what it spent comes back through the ledger's own rows."""
    account = accounts.open_account(
        engine, scope="everything", period_start=0, spent_so_far=lambda: 0
    )
    wanted = {"limit_pusd": 100, "need_pusd": 30, "want_pusd": 30}
    accounts.acquire(engine, account, holder="dead", limit_pusd=100, need_pusd=80, want_pusd=80)
    assert accounts.acquire(engine, account, holder="alive", **wanted).granted_pusd == 0
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE budget_lease SET expires_ns = 1")
    assert accounts.acquire(engine, account, holder="alive", **wanted).granted_pusd == 30
    state = accounts.settle(
        engine, account, holder="alive", spent_pusd=30, returned_pusd=0, actual_pusd=75
    )
    assert state == accounts.Balance(75, 0)


@pytest.mark.parametrize("skew", [31, 600, -3600])
def test_hosts_with_other_clocks_do_not_take_each_others_leases(engine, skew, monkeypatch):
    """Two hosts whose clocks differ lease 10 USD together, never more.

    By the hosts' clocks, 31 s apart, each lease of the one was expired for the other.
    """
    budget = parse_budget("10 USD/total")
    real = time.time
    granted = {"here": 0, "there": 0}
    for _ in range(200):
        for host, offset in (("here", 0), ("there", skew)):
            monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
            monkeypatch.setattr(time, "time_ns", lambda offset=offset: int((real() + offset) * 1e9))
            balance_store = LocalBalanceStore(engine)
            window = window_at(budget, time.time())
            lease = balance_store.lease(budget, window, holder=host, need_pusd=10**10)
            granted[host] += lease.granted_pusd
    assert sum(granted.values()) <= 10 * 10**12
    assert min(granted.values()) > 0


def test_a_pool_stops_exactly_where_the_calls_no_longer_fit(engine):
    """A budget of 2,000 and calls of 250.

    Eight fit, the ninth is refused with spent, limit and reset.
    """
    pool = LeasedPool(parse_budget("0.000000002 USD/day"), LocalBalanceStore(engine), "me", NOW)
    calls = 0
    while not isinstance(outcome := pool.reserve(250, sure=True, now=NOW), BudgetRefusal):
        pool.settle(outcome, 250)
        calls += 1
    assert calls == 8
    assert (outcome.spent_pusd, outcome.limit_pusd) == (2_000, 2_000)
    assert outcome.resets_at is not None


def calls_that_fit(pool, pusd=250):
    """How many more calls a pool lets through."""
    calls = 0
    while not isinstance(outcome := pool.reserve(pusd, sure=True, now=NOW), BudgetRefusal):
        pool.settle(outcome, pusd)
        calls += 1
    return calls


def test_a_call_in_the_rows_before_it_is_booked_counts_once(engine, monkeypatch):
    """A call ends, and is written, while a sync reads the ledger's rows.

    Two calls of 250 leave six of a budget of 2,000.
    """
    store = LocalBalanceStore(engine)
    pool = LeasedPool(parse_budget("0.000000002 USD/day"), store, "me", NOW)
    first, second = (pool.reserve(250, sure=True, now=NOW) for _ in range(2))
    pool.settle(first, 250)
    unsettled = [second]

    def rows(budget, window):
        if unsettled:
            pool.settle(unsettled.pop(), 250)
        return 500

    monkeypatch.setattr(store, "_spent_in_rows", rows)
    pool.sync(NOW, final=False)
    pool.sync(NOW, final=False)
    assert calls_that_fit(pool) == 6


def test_a_call_written_before_the_account_is_opened_counts_once(engine, monkeypatch):
    """The first call ended before there were budgets: it leaves seven of eight."""
    store = LocalBalanceStore(engine)
    monkeypatch.setattr(store, "_spent_in_rows", lambda budget, window: 250)
    pool = LeasedPool(parse_budget("0.000000002 USD/day"), store, "me", NOW)
    pool.settle(0, 250)
    assert calls_that_fit(pool) == 7


def test_many_threads_and_pools_do_not_overspend(engine):
    """Four pools, eight threads each, costs that differ from the estimate.

    Overshoot is at most what was in flight.
    """
    limit, estimate, cost = 1_000_000, 1_000, 1_040
    budget = parse_budget("0.000001 USD/day")
    pools = [LeasedPool(budget, LocalBalanceStore(engine), f"p{n}", NOW) for n in range(4)]
    spent, lock = [0], threading.Lock()

    def work(pool):
        while not isinstance(outcome := pool.reserve(estimate, sure=True, now=NOW), BudgetRefusal):
            with lock:
                spent[0] += cost
            pool.settle(outcome, cost)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, [pool for pool in pools for _ in range(8)]))
    for pool in pools:
        pool.sync(NOW, final=True)
    assert spent[0] <= limit + 32 * cost
    assert spent[0] >= limit - 32 * cost
    account = accounts.open_account(
        engine,
        scope="everything:/day/UTC",
        period_start=window_at(budget, NOW).start,
        spent_so_far=int,
    )
    assert accounts.balance(engine, account) == accounts.Balance(spent[0], 0)


def test_a_first_guess_that_does_not_fit_goes_alone(engine):
    """Nobody knows yet what the model costs: one call is let through, a second beside it is not."""
    pool = LeasedPool(parse_budget("0.000000002 USD/day"), LocalBalanceStore(engine), "me", NOW)
    first = pool.reserve(50_000, sure=False, now=NOW)
    assert not isinstance(first, BudgetRefusal)
    assert isinstance(pool.reserve(50_000, sure=False, now=NOW), BudgetRefusal)
    pool.settle(first, 250)
    assert not isinstance(pool.reserve(250, sure=True, now=NOW), BudgetRefusal)


def test_near_no_limit_the_account_is_not_queried(engine):
    """Of a thousand small calls only a few reach the ledger."""
    pool = LeasedPool(parse_budget("1000 USD/day"), LocalBalanceStore(engine), "me", NOW)
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for _ in range(1000):
        outcome = pool.reserve(250_000_000, sure=True, now=NOW)
        pool.settle(outcome, 250_000_000)
    assert len(statements) < 20


def test_a_budget_per_run_needs_no_ledger():
    """It counts in the process, and a soft one never refuses."""
    hard, soft = (
        RunPool(parse_budget("0.000000001 USD/run")),
        RunPool(parse_budget({"amount": "0.000000001 USD/run", "hard": False})),
    )
    for pool, stops in ((hard, True), (soft, False)):
        for _ in range(4):
            pool.settle(pool.reserve(250, sure=True, now=NOW), 250)
        assert isinstance(pool.reserve(250, sure=True, now=NOW), BudgetRefusal) is stops


class Hook:
    """A webhook that takes a notice, or fails, as `works` says."""

    def __init__(self, works: bool) -> None:
        self.works = works
        self.documents: list[dict] = []

    def __call__(self, _url: str, document: dict) -> bool:
        self.documents.append(dict(document))
        return self.works


def _notice(engine, hook: Hook, *, after_seconds: float = 0, spent_pusd: int = 85):
    """Look at a budget of 100 pico-USD, and wait until the webhook was called."""
    budget = parse_budget({"amount": "0.0000000001 USD/day", "webhook": "http://example.invalid/"})
    before = len(hook.documents)
    announced = announce(
        engine,
        budget,
        account=1,
        spent_pusd=spent_pusd,
        resets_at=None,
        now_ns=int((NOW + after_seconds) * 1e9),
        send=hook,
    )
    deadline = time.monotonic() + 60
    while announced and time.monotonic() < deadline:
        if len(hook.documents) > before and undelivered(engine, 1) is not hook.works:
            break
        time.sleep(0.01)
    return announced


def test_a_threshold_is_announced_once_whoever_asks(engine):
    """80 % is 80 %; a second process that sees it too stays silent.

    A jump is reported as the highest.
    """
    assert crossed(79, 100) == (50,)
    assert crossed(80, 100) == (50, 80)
    hook = Hook(works=True)
    assert _notice(engine, hook) == (50, 80)
    assert _notice(engine, hook) == ()
    assert _notice(engine, hook, after_seconds=86_400) == ()
    assert [document["percent"] for document in hook.documents] == [80]


def test_a_notice_that_was_not_delivered_is_sent_again(engine, caplog):
    """A webhook that is down, or a process that dies, delays a notice. It is not dropped."""
    hook = Hook(works=False)
    assert _notice(engine, hook) == (50, 80)
    assert _notice(engine, hook, after_seconds=60) == (), "it may still be under way"
    assert _notice(engine, hook, after_seconds=130) == (50, 80)
    hook.works = True
    assert _notice(engine, hook, after_seconds=-3600) == (50, 80), "a clock that was set back"
    assert _notice(engine, hook, after_seconds=7200) == ()
    assert len({document["id"] for document in hook.documents}) == 1
    assert len(hook.documents) == 3
    assert _notice(engine, hook, after_seconds=7200, spent_pusd=100) == (100,)
    assert hook.documents[-1]["id"] != hook.documents[0]["id"]
    assert caplog.text.count("% spent") == 2, "the log says each threshold once"
