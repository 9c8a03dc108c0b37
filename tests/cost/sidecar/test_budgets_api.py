"""The budget API of a sidecar.

Apps on other hosts share accounts through it, and it says how budgets stand.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time

import pytest
from support.certificates import make_certificate
from support.patience import patience
from support.sidecars import request

from crewmeter import semconv
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.loader import guard
from crewmeter_cost.budgets.local_balance import window_at
from crewmeter_cost.budgets.remote_balance import RemoteBalanceStore
from crewmeter_cost.budgets.repository import save
from crewmeter_cost.budgets.reservations import BudgetRefusal
from crewmeter_cost.errors import BalanceUnavailableError
from crewmeter_cost.ledger.store import Ledger

CALL = {semconv.OPERATION: "chat", semconv.PROVIDER: "openai", semconv.REQUEST_MODEL: "gpt-4o-mini"}
ENDED = {**CALL, **usage_attributes(TokenUsage(input=1000, output=166))}
COST = 249_600_000
JSON = {"content-type": "application/json"}


@pytest.fixture
def sidecar(sidecar, monkeypatch):
    """A sidecar whose clients wait for it however busy the machine is."""
    monkeypatch.setattr("crewmeter_cost.budgets.remote_balance.TIMEOUT_SECONDS", 60)
    return sidecar


def spend_all(guard, most=50):
    for made in range(most):
        outcome = guard.reserve(CALL, input_chars=3000)
        if isinstance(outcome, BudgetRefusal):
            return made, outcome
        guard.settle(outcome, ENDED)
    return most, None


def test_apps_on_two_hosts_share_one_budget(sidecar):
    """The first spends it, the second finds it spent; leases are given back."""
    url = f"http://127.0.0.1:{sidecar.port}"
    first, second = (guard("0.002 USD/day", endpoint=url) for _ in range(2))
    made, refusal = spend_all(first)
    assert made == 8
    assert (refusal.spent_usd, refusal.limit_usd) == ("0.0019968", "0.002")
    assert spend_all(second)[0] <= 1
    first.close()
    second.close()
    budget = parse_budget("0.002 USD/day")
    state = RemoteBalanceStore(url, {}).lease(
        budget, window_at(budget, time.time()), holder="x", need_pusd=10**12
    )
    assert (state.granted_pusd, state.leased_pusd) == (0, 0)


def test_far_from_the_limit_the_sidecar_is_hardly_queried(sidecar):
    """A thousand calls under a large budget ask a few times, not a thousand."""
    guarded = guard("team:rare 1000 USD/day", endpoint=f"http://127.0.0.1:{sidecar.port}")
    about = {**CALL, semconv.TEAM: "rare"}
    guarded.settle(guarded.reserve(about, input_chars=3000), {**ENDED, semconv.TEAM: "rare"})
    begun = time.perf_counter()
    for _ in range(1000):
        guarded.settle(guarded.reserve(about, input_chars=3000), {**ENDED, semconv.TEAM: "rare"})
    assert time.perf_counter() - begun < patience(1)
    guarded.close()


@pytest.mark.parametrize(("on_unknown", "goes"), [("allow", True), ("block", False)])
def test_a_sidecar_that_hangs_costs_one_short_wait(on_unknown, goes):
    """It takes connections and never answers.

    One wait of at most 0.3 s, then ``on_unknown`` decides without asking again.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        guarded = guard(
            {"amount": "1 USD/day", "on_unknown": on_unknown},
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
        )
        guarded._ready()
        begun = time.perf_counter()
        outcomes = [guarded.reserve(CALL, input_chars=10) for _ in range(50)]
        assert time.perf_counter() - begun < patience(0.7)
        assert all(isinstance(outcome, BudgetRefusal) is not goes for outcome in outcomes)


@pytest.fixture
def soon(monkeypatch):
    """An account that failed is tried again at once, and a slow answer is waited for."""
    monkeypatch.setattr("crewmeter_cost.budgets.remote_balance.TIMEOUT_SECONDS", 60)
    monkeypatch.setattr("crewmeter_cost.budgets.reservations.SILENCE_SECONDS", 0.05)


def wait_until_booked(port, budget, pusd):
    """Bookings are sent in the background. One that is cut short may be done, and is not sent
    again: the ledger's rows correct it.
    """
    store = RemoteBalanceStore(f"http://127.0.0.1:{port}", {})
    window = window_at(budget, time.time())
    nothing = {"holder": "onlooker", "spent_pusd": 0, "returned_pusd": 0}
    deadline = time.monotonic() + 60
    while store.book(budget, window, **nothing).spent_pusd < pusd:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("on_unknown", ["allow", "block"])
def test_a_sidecar_that_dies_with_leases_out(nursery, tmp_path, on_unknown, soon):
    """What is leased may be spent, then `on_unknown` decides. When the sidecar is back, what was
    spent meanwhile is booked, and the budget is not spent twice.
    """
    path = tmp_path / "ledger.db"
    budget = {"amount": "0.01 USD/day", "on_unknown": on_unknown}
    with nursery.start(path) as first:
        port = first.port
        guarded = guard(budget, endpoint=f"http://127.0.0.1:{port}")
        assert spend_all(guarded, most=5)[0] == 5
        wait_until_booked(port, parse_budget(budget), 5 * COST)
        first.kill()
    made, refusal = spend_all(guarded, most=60)
    spent = 5 + made
    if on_unknown == "block":
        assert spent * COST <= 10**10
        assert "can't be read" in refusal.reason
    else:
        assert made == 60
    with nursery.start(path, port=port):
        deadline = time.monotonic() + 120
        while True:
            outcome = guarded.reserve(CALL, input_chars=3000)
            if not isinstance(outcome, BudgetRefusal):
                guarded.settle(outcome, ENDED)
                spent += 1
                assert spent < 200
            elif "can't be read" not in outcome.reason:
                break
            assert time.monotonic() < deadline, outcome
            time.sleep(0.01)
        assert float(outcome.spent_usd) == pytest.approx(spent * COST / 1e12)
        assert spent == 40 if on_unknown == "block" else spent >= 65
        guarded.close()


def test_a_client_certificate_is_presented_for_budgets(tmp_path, monkeypatch):
    """The sidecar's proxy wants the same certificates for budgets as for spans."""
    ours = make_certificate(tmp_path, "server")
    theirs = make_certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.certificate, ours.key)
    context.load_verify_locations(theirs.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    document = b'{"spent_pusd": 0, "leased_pusd": 7, "granted_pusd": 7}'
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(document), document)

    def serve(listener):
        while True:
            try:
                connection = context.wrap_socket(listener.accept()[0], server_side=True)
                received = b""
                while b"need_pusd" not in received:
                    received += connection.recv(65_536)
                connection.sendall(reply)
                connection.close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        store = RemoteBalanceStore(f"https://127.0.0.1:{listener.getsockname()[1]}", {})
        budget = parse_budget("1 USD/day")
        window = window_at(budget, time.time())
        monkeypatch.setattr("crewmeter_cost.budgets.remote_balance.TIMEOUT_SECONDS", 30)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(ours.certificate))
        with pytest.raises(BalanceUnavailableError):
            store.lease(budget, window, holder="h", need_pusd=1)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(theirs.certificate))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(theirs.key))
        assert store.lease(budget, window, holder="h", need_pusd=1).granted_pusd == 7
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(tmp_path / "none"))
        with pytest.raises(BalanceUnavailableError):
            store.lease(budget, window, holder="h", need_pusd=1)


def test_nonsense_is_refused_and_named(sidecar):
    """Amounts, periods, budgets and bodies that can't be meant get a 400 with the reason."""
    budget = {"amount_pusd": 10**12, "period": "day"}
    start = window_at(parse_budget("1 USD/day"), time.time()).start
    good = {"budget": budget, "period_start": start, "holder": "h", "need_pusd": 1}
    assert sidecar.ask("POST", "/api/budgets/lease", json.dumps(good).encode(), JSON).status == 200
    for wrong in (
        {"need_pusd": -1},
        {"need_pusd": 1.5},
        {"need_pusd": True},
        {"holder": ""},
        {"period_start": start + 7},
        {"period_start": None},
        {"budget": {"amount_pusd": -5, "period": "day"}},
        {"budget": {"amount_pusd": 1, "period": "eon"}},
        {"budget": {"x": 1}},
        {"budget": [1]},
    ):
        answer = sidecar.ask("POST", "/api/budgets/lease", json.dumps(good | wrong).encode(), JSON)
        assert (answer.status, bool(answer.json()["error"])) == (400, True), wrong
    assert sidecar.ask("POST", "/api/budgets/lease", b"[", JSON).status == 400
    assert sidecar.ask("POST", "/api/budgets/lease", b"x" * 70_000, JSON).status == 413
    assert (
        sidecar.ask("POST", "/api/budgets/lease", b"{}", {"content-type": "text/plain"}).status
        == 415
    )


def test_accounts_need_the_key_that_spans_need(nursery, tmp_path, monkeypatch):
    """A key to read does not lease; the app's key comes from its headers or ``CREWMETER_TOKEN``."""
    with nursery.start(
        tmp_path / "ledger.db", token="ingest:write-key-1,read:read-key-1"
    ) as running:
        budget = parse_budget("1 USD/day")
        window = window_at(budget, time.time())

        def granted(headers):
            balance_store = RemoteBalanceStore(f"http://127.0.0.1:{running.port}", headers)
            return balance_store.lease(budget, window, holder="h", need_pusd=1).granted_pusd

        with pytest.raises(BalanceUnavailableError, match="401"):
            granted({"authorization": "Bearer read-key-1"})
        assert granted({"authorization": "Bearer write-key-1"}) > 0
        monkeypatch.setenv("CREWMETER_TOKEN", "ingest:write-key-1")
        assert granted({}) > 0


@pytest.mark.slow
def test_the_ledgers_budgets_are_metrics_and_give_notice(nursery, tmp_path):
    """A budget stored in the ledger that only the sidecar feeds shows on /metrics and posts to its
    webhook.
    """
    got = []
    with socket.create_server(("127.0.0.1", 0)) as hook:

        def listen():
            connection, _ = hook.accept()
            data = connection.recv(65_536)
            while b"percent" not in data and (more := connection.recv(65_536)):
                data += more
            connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            connection.close()
            got.append(data)

        threading.Thread(target=listen, daemon=True).start()
        path = tmp_path / "ledger.db"
        url = f"http://127.0.0.1:{hook.getsockname()[1]}/"
        with nursery.start(path) as first:
            assert first.post(request(1)).status == 200
            first.terminate()
        # Only now, so that the first sidecar can't have given the notice.
        with Ledger.open(str(path)) as ledger:
            save(
                ledger.engine,
                parse_budget({"amount": "0.0002 USD/day", "name": "small", "webhook": url}),
                now_ns=1,
            )
        with nursery.start(path, env={"CREWMETER_WEBHOOK_ALLOW_INTERNAL": "true"}) as running:
            assert running.metric('crewmeter_budget_limit_usd{budget="small"}') == 0.0002
            assert running.metric('crewmeter_budget_spent_usd{budget="small"}') == 0.00021
            end = time.monotonic() + 60
            while not got and time.monotonic() < end:
                time.sleep(0.02)
    assert b'"percent": 100' in got[0]
