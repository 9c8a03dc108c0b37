"""A number on the page, in the API, in a command and in a statement is one number."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.boards import running
from support.browser import CREWMETER, visit, wait_until_drawn
from support.ports import free_port

from crewmeter_cost.cli.output import usd
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.services]

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
SINCE = NOW - timedelta(days=3)
RANGE = f"from={int(SINCE.timestamp())}&to={int(NOW.timestamp())}"
BUDGET = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """Thirty days of sample data that end with the last whole hour, and a budget."""
    where = str(tmp_path_factory.mktemp("truth") / "ledger.db")
    with Ledger.open(where) as ledger:
        load_history(ledger, days=30, seed=3, until=NOW, calls_per_day=60)
    command(where, "budget", "set", f"{BUDGET} USD/month")
    return where


@pytest.fixture(scope="module")
def address(path, tmp_path_factory):
    """The sidecar of that ledger, which has the API and the page."""
    port = free_port()
    words = [CREWMETER, "serve", "--http-port", str(port), "--no-grpc", "--ledger", path]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    with running(words, ready=f"http://127.0.0.1:{port}/readyz", log=log):
        yield f"http://127.0.0.1:{port}/"


def command(path: str, *words: str) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(
        [CREWMETER, *words, "--ledger", path], capture_output=True, text=True, check=True
    )
    return done.stdout


def document(path: str, *words: str):
    """Return the JSON that a command prints."""
    return json.loads(command(path, *words, "--format", "json"))


def answer(address: str, query: str):
    """GET a JSON document."""
    with urllib.request.urlopen(address + query, timeout=120) as response:
        return json.load(response)


def panel(address: str, name: str) -> list:
    """Return the first row of a panel in the window."""
    return answer(address, f"api/panels/{name}?{RANGE}")["rows"][0]


def tile(page, name: str) -> str:
    """Return the number that a tile displays."""
    return page.locator(f"[data-panel={name}] strong").first.inner_text()


def text(amount: str | None) -> str:
    """Return an exact amount of USD as tables and tiles print it."""
    return usd(int(Decimal(amount or 0).scaleb(12)))


def test_the_windows_money_calls_and_tokens(page, path, address):
    """Command, API, panels and tiles count the same calls of one window."""
    window = ("--since", SINCE.isoformat(), "--until", NOW.isoformat())
    total = document(path, "report", *window)["total"]
    queried = f"since={SINCE:%Y-%m-%dT%H:%M:%SZ}&until={NOW:%Y-%m-%dT%H:%M:%SZ}"
    assert answer(address, f"api/report?{queried}")["total"] == total
    assert panel(address, "tokens") == [total["input_tokens"], total["output_tokens"]]
    assert panel(address, "unpriced_calls") == [total["unpriced_calls"]]
    by_crew = answer(address, f"api/panels/spend_by_crew?{RANGE}")["rows"]
    assert sum(row[2] for row in by_crew) == pytest.approx(float(total["cost_usd"]), rel=1e-9)
    chargeback = answer(address, f"api/panels/chargeback?{RANGE}")
    cost, calls = (chargeback["columns"].index(name) for name in ("cost_usd", "calls"))
    rows = chargeback["rows"]
    assert sum(row[cost] or 0 for row in rows) == pytest.approx(float(total["cost_usd"]), rel=1e-9)
    assert sum(row[calls] for row in rows) == total["calls"]
    visit(page, address, f"?view=overview&{RANGE}")
    wait_until_drawn(page)
    assert tile(page, "unpriced_calls") == str(total["unpriced_calls"])


def test_the_windows_runs(page, path, address):
    """The tile, the command and the API have as many finished runs."""
    window = ("--since", SINCE.isoformat(), "--until", NOW.isoformat(), "--limit", "1000")
    listed = document(path, "runs", *window)
    finished = [run for run in listed if run["status"] != "running"]
    assert panel(address, "runs") == [len(finished)]
    visit(page, address, f"?view=overview&{RANGE}")
    wait_until_drawn(page)
    assert tile(page, "runs") == str(len(finished))
    good = sum(run["status"] == "ok" for run in finished)
    assert tile(page, "success_rate") == f"{100 * good / len(finished):.1f} %"


def test_the_month(page, path, address):
    """Spend so far, forecast and budget of this month are the same on five surfaces."""
    forecast = document(path, "forecast", "--at", NOW.isoformat())["rows"][0]
    spent = document(path, "report", "--since", "month", "--until", NOW.isoformat())["total"]
    (budget,) = document(path, "budget", "status")["budgets"]
    statement = document(path, "statement")
    assert {spent["cost_usd"], budget["spent_usd"], statement["total_usd"]} == {
        forecast["spent_usd"]
    }
    visit(page, address, f"?view=spend&{RANGE}")
    wait_until_drawn(page)
    assert tile(page, "month_to_date") == text(forecast["spent_usd"])
    assert tile(page, "forecast") == text(forecast["expected_usd"])
    used = float(forecast["spent_usd"]) / BUDGET
    assert tile(page, "budget_used") == f"{100 * used:.1f} %"
    visit(page, address, f"?view=overview&{RANGE}")
    wait_until_drawn(page)
    assert tile(page, "spend_month") == text(forecast["spent_usd"])


def test_a_run(page, path, address):
    """The most expensive run costs the same in list, tree, report, API and on the page."""
    window = ("--since", SINCE.isoformat(), "--until", NOW.isoformat())
    run = document(path, "runs", *window, "--order", "cost", "--limit", "1")[0]
    where = f"run={run['run_id']}"
    total = document(path, "report", "--where", where)["total"]
    assert (total["cost_usd"], total["calls"]) == (run["cost_usd"], run["calls"])
    assert document(path, "show", run["run_id"])["cost_usd"] == run["cost_usd"]
    visit(page, address, f"?view=run&run={run['run_id']}")
    assert text(run["cost_usd"]) in page.locator("main").inner_text()
