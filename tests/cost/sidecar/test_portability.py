"""The sidecar on systems that lack what POSIX has: signals, and an event loop's handlers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.paths import TESTS
from support.ports import free_port

from crewmeter_cost.demo.fake_provider import FakeProvider
from crewmeter_cost.ledger.location import ledger_url

APP = """
import sys
from without_posix import take_away

take_away()
import crewmeter

handle = crewmeter.instrument(budget="0.0001 USD/day", summary=False)
import os
from crewai import LLM

llm = LLM(model="gpt-4o", api_key="none", base_url=os.environ["OPENAI_BASE_URL"])
llm.call("hello")
handle.flush(60)
try:
    llm.call("hello again")
except crewmeter.BudgetExceeded:
    print("refused")
handle.uninstrument()
"""

LAUNCHER = [sys.executable, str(TESTS / "support/without_posix.py")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A ledger that `demo` made without POSIX."""
    path = tmp_path_factory.mktemp("portable") / "ledger.db"
    done = command("demo", "--days", "2", ledger=path)
    assert done.returncode == 0, done.stderr
    return path


def command(*words: str, ledger: Path | None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command without POSIX, with a console that has no UTF-8."""
    where = [] if ledger is None else ["--ledger", str(ledger)]
    return subprocess.run(
        [*LAUNCHER, *words, *where],
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", **more},
        capture_output=True,
        encoding="cp1252",
        timeout=600,
        check=False,
    )


@pytest.mark.mostly_slow("report --by")
@pytest.mark.parametrize(
    "words",
    [
        ("report", "--by", "crew"),
        ("runs", "--limit", "3"),
        ("show", "last"),
        ("budget", "set", "5 USD/day"),
        ("budget", "status"),
        ("statement",),
        ("export", "--format", "csv"),
        ("doctor",),
        ("forecast",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_runs_without_posix(sample, words):
    """It prints what it always does, on a console of code page 1252 too."""
    done = command(*words, ledger=sample)
    assert done.returncode in ({0, 1} if words[0] in ("doctor", "budget") else {0}), done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_app_is_metered_without_posix(tmp_path):
    """A call is in the ledger, and a hard budget refuses the next one."""
    ledger = tmp_path / "ledger.db"
    app = tmp_path / "app.py"
    app.write_text(APP, "utf-8")
    with FakeProvider() as provider:
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OPENAI_API_KEY": "none",
            "CREWMETER_LEDGER": str(ledger),
            "CREWAI_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": str(TESTS / "support"),
        }
        done = subprocess.run(
            [sys.executable, str(app)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
    listed = command("report", "--format", "json", ledger=ledger)
    total = json.loads(listed.stdout)["total"]
    # The refused call has a row, and costs nothing.
    assert total["calls"] - total["failed_calls"] == 1
    assert 0 < float(total["cost_usd"]) < 0.001


@pytest.mark.slow
def test_open_serves_the_page_without_posix(sample):
    """The page and its data come, and Ctrl-C ends it."""
    port = free_port()
    words = [*LAUNCHER, "open", "--no-browser", "--port", str(port), "--ledger", str(sample)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        answer = fetch(f"http://127.0.0.1:{port}/api/panels/runs?from=now-30d")
        assert json.loads(answer)["rows"][0][0] > 0
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output


def fetch(url: str) -> bytes:
    """GET from a server that is starting."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (r"C:\Users\Ada\ledger.db", r"C:\Users\Ada\ledger.db"),
        ("C:/Users/Ada/ledger.db", "C:/Users/Ada/ledger.db"),
        ("C://Users/Ada/ledger.db", "C:/Users/Ada/ledger.db"),
        (r"sqlite:///C:\Users\Ada\ledger.db", r"C:\Users\Ada\ledger.db"),
        ("sqlite:///C:/Users/Ada/ledger.db", "C:/Users/Ada/ledger.db"),
        ("sqlite:////C:/Users/Ada/ledger.db", "C:/Users/Ada/ledger.db"),
        (r"\\server\share\ledger.db", r"\\server\share\ledger.db"),
    ],
)
def test_a_ledger_of_windows_is_a_file(text, path, monkeypatch, tmp_path):
    """Drive letters, back-slashes and shares are paths, never a driver or a server."""
    monkeypatch.chdir(tmp_path)
    found = ledger_url(text)
    assert found.backend == "sqlite"
    assert found.database == str(tmp_path / path)


def windows_file(path: Path, *lines: str) -> str:
    """Write lines as Notepad does, with CRLF and a byte order mark, and return the path."""
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join((*lines, "")).encode())
    return str(path)


def test_a_price_file_of_windows_is_read(tmp_path):
    """Its own model has its own price."""
    lines = ("[[price]]", 'provider = "acme"', 'model = "house"', "input = 2", "output = 3")
    prices = windows_file(tmp_path / "prices.toml", *lines)
    words = ("price", "house", "--provider", "acme", "--input", "1000000")
    done = command(*words, ledger=None, CREWMETER_PRICES=prices)
    assert done.returncode == 0, done.stderr
    assert "$2.00" in done.stdout


def test_a_budget_file_of_windows_is_read(sample, tmp_path):
    """The budget is listed under its name."""
    lines = ("[[budget]]", 'amount = "500 USD/month"', 'name = "from-windows"')
    budgets = windows_file(tmp_path / "budgets.toml", *lines)
    done = command("budget", "list", ledger=sample, CREWMETER_BUDGETS=budgets)
    assert done.returncode == 0, done.stderr
    assert "from-windows" in done.stdout


def test_thresholds_of_windows_are_read(tmp_path):
    """The month's budget of the file stands in the alert rules."""
    numbers = windows_file(tmp_path / "numbers.toml", "[spend]", "month_budget_usd = 321")
    words = ("dashboards", "export", str(tmp_path / "out"), "--thresholds", numbers)
    done = command(*words, ledger=tmp_path / "none.db")
    assert done.returncode == 0, done.stderr
    rules = tmp_path / "out/provisioning/alerting/rules.yml"
    assert "321 USD" in rules.read_text("utf-8")


def test_a_baseline_of_windows_is_read(sample, tmp_path):
    """`gate` compares with a report that a Windows console or editor saved."""
    report = command("report", "--by", "model", "--format", "json", ledger=sample)
    baseline = windows_file(tmp_path / "baseline.json", *report.stdout.splitlines())
    words = ("gate", "--baseline", baseline, "--max", "cost +10%")
    done = command(*words, ledger=sample)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_and_stops_without_posix(tmp_path, number):
    """No SIGHUP, no fork, no `add_signal_handler`: it serves, and ends in order by a signal."""
    process = subprocess.Popen(
        [*LAUNCHER, "serve", "--http-port", "0", "--no-grpc", "--ledger", f"{tmp_path}/ledger.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert "ready" in line, process.stderr.read()
        address = next(word for word in line.split() if word.startswith("http://")).strip(",")
        with urllib.request.urlopen(f"{address}/readyz", timeout=60) as answer:
            assert answer.read() == b"ready\n"
        process.send_signal(number)
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        errors = process.stderr.read()
        assert process.returncode == 0, errors
        assert "is at its location" in errors
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_signal_that_does_not_exist_is_left_out():
    """Windows has no SIGHUP."""
    from crewmeter_cost.sidecar.server import _on_signal

    loop = asyncio.new_event_loop()
    try:
        _on_signal(loop, "SIGNONE", lambda: None)
    finally:
        loop.close()
