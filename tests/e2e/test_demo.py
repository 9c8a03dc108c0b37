"""``crewmeter demo``.

A real crew whose bill agrees with the fake provider's books, and a history that is the same every
time.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from support.apps_python import has
from support.environment import quiet_environment
from support.rows import call_rows, run_rows, step_rows
from support.sidecars import Nursery

from crewmeter import semconv
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger

UNTIL = datetime(2026, 11, 21, 9, tzinfo=UTC)


def _crewmeter(tmp_path, *words, **env):
    command = [sys.executable, "-c", "from crewmeter_cost.cli import main; main()", *words]
    environment = os.environ | quiet_environment(tmp_path) | {"COLUMNS": "100", **env}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def _load(path, **options):
    with Ledger.open(str(path)) as ledger:
        return load_history(
            ledger, **{"days": 3, "seed": 7, "until": UNTIL, "calls_per_day": 60, **options}
        )


def _content(path):
    """A hash over every row of every table that is not bookkeeping about when the ledger was
    made.
    """
    connection = sqlite3.connect(path)
    tables = (
        "label",
        "call",
        "step",
        "run",
        "tag_set",
        "rollup_hour",
        "latency_hour",
        "latency_day",
    )
    digest = hashlib.sha256()
    for table in tables:
        digest.update(
            "".join(sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"')))).encode()
        )
    prices = connection.execute(
        "SELECT hash, source, provider, model, rates FROM price_version ORDER BY hash"
    ).fetchall()
    connection.close()
    return digest.hexdigest(), prices


def test_the_same_seed_writes_the_same_rows(tmp_path):
    """Two ledgers filled with one seed and end are equal, row for row and byte for byte.

    Another seed differs.
    """
    _load(tmp_path / "a.db")
    _load(tmp_path / "b.db")
    _load(tmp_path / "c.db", seed=8)
    assert _content(tmp_path / "a.db") == _content(tmp_path / "b.db")
    assert _content(tmp_path / "a.db") != _content(tmp_path / "c.db")


def test_loading_twice_adds_nothing(tmp_path):
    """The history's spans keep their ids, so a second load, or a longer one over it, only adds
    what is new.
    """
    first = _load(tmp_path / "a.db")
    assert _load(tmp_path / "a.db").new_calls == 0
    longer = _load(tmp_path / "a.db", days=4)
    assert 0 < longer.new_calls < first.new_calls


def test_tomorrow_adds_a_day(tmp_path):
    """A history that ends a day later holds the same runs where the two overlap."""
    today = {span.span_id: span for span in history(3, 7, UNTIL, calls_per_day=60)}
    tomorrow = {
        span.span_id: span for span in history(3, 7, UNTIL + timedelta(days=1), calls_per_day=60)
    }
    shared = today.keys() & tomorrow.keys()
    assert len(shared) > len(today) / 3
    assert all(today[span] == tomorrow[span] for span in shared)


def test_every_span_lies_inside_its_window_and_its_parent():
    """No span begins before the window, ends after it, or leaves its parent's time."""
    spans = {span.span_id: span for span in history(2, 3, UNTIL, calls_per_day=60)}
    first, last = (
        int((UNTIL - timedelta(days=2)).timestamp()) * 10**9,
        int(UNTIL.timestamp()) * 10**9,
    )
    for span in spans.values():
        assert first <= span.started_ns <= span.ended_ns <= last
        if span.parent_span_id is not None:
            parent = spans[span.parent_span_id]
            assert parent.started_ns <= span.started_ns <= span.ended_ns <= parent.ended_ns


def test_a_month_has_a_bit_of_everything(tmp_path):
    """Thirty days hold failures, an unpriced model, cached tools, embeddings, a spike, several
    providers, teams and sessions.
    """
    _load(tmp_path / "a.db", days=30, calls_per_day=120)
    calls, steps, runs = (read(tmp_path / "a.db") for read in (call_rows, step_rows, run_rows))
    assert {row["cost_status"] for row in calls} >= {"priced", "unknown_model", "usage_missing"}
    assert {row["operation"] for row in calls} == {"chat", "embeddings"}
    assert len({row["provider"] for row in calls}) >= 7
    assert len({row["team"] for row in calls}) >= 6
    assert {row["status"] for row in runs} == {"ok", "error"}
    assert any(
        step["details"] and "cached" in str(step["details"])
        for step in steps
        if step["kind"] == "tool"
    )
    assert any(row["reasoning_tokens"] for row in calls)
    assert any(row["ttft_ns"] for row in calls)
    assert {row["service_tier"] for row in calls} >= {"flex"}
    days: dict[int, int] = {}
    for row in calls:
        day = int(str(row["started_ns"])) // (86_400 * 10**9)
        days[day] = days.get(day, 0) + int(str(row["cost_pusd"] or 0))
    assert max(days.values()) > 2 * sorted(days.values())[len(days) // 2]


def test_every_billed_span_stands_alone():
    """A call's span carries its run, crew, task and agent itself.

    No parent is needed to price or attribute it.
    """
    for span in history(1, 7, UNTIL, calls_per_day=60):
        if span.attributes.get(semconv.OPERATION) in semconv.BILLED_OPERATIONS:
            wanted = {
                semconv.RUN_ID,
                semconv.CREW,
                semconv.TASK,
                semconv.AGENT_NAME,
                semconv.TEAM,
                semconv.USER,
                semconv.SESSION,
            }
            assert wanted <= span.attributes.keys()


def test_the_history_command_tells_what_it_did(tmp_path):
    """``demo --days`` needs no CrewAI, writes to a ledger of its own, and names the next commands
    with that ledger's path.
    """
    done = _crewmeter(
        tmp_path, "demo", "--days", "3", "--until", "2026-11-21T09:00Z", "--calls-per-day", "60"
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / ".crewmeter" / "demo.db"
    assert f"new calls in {path}" in done.stdout
    assert f"--ledger {path}" in done.stdout
    assert not (tmp_path / ".crewmeter" / "ledger.db").exists()
    assert "calls have no price" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--days", "0"),
        ("--days", "3", "--until", "someday"),
        ("--days", "x"),
        ("--calls-per-day", "0", "--days", "1"),
    ],
)
def test_bad_options_are_refused(tmp_path, words):
    """Exit code 2 and a word on what is wrong; no traceback, no ledger."""
    done = _crewmeter(tmp_path, "demo", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".crewmeter").exists()


@pytest.mark.parametrize("words", [(), ("--days", "2")])
def test_a_ledger_that_cannot_be_written_is_said_at_once(tmp_path, words):
    """A folder at the ledger's path, or a file that is none, is named before anything runs."""
    done = _crewmeter(tmp_path, "demo", "--ledger", str(tmp_path), *words)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "not.db").write_text("this is no database, and long enough to be sure of it" * 40)
    done = _crewmeter(tmp_path, "demo", "--ledger", str(tmp_path / "not.db"), *words)
    assert done.returncode == 2
    assert "not.db" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_crewai_the_demo_says_how_to_get_it(tmp_path):
    """The live demo needs CrewAI.

    Where it is missing, the hint names the command that brings it.
    """
    (tmp_path / "crewai_hidden.py").write_text(
        "import sys, importlib.abc\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'crewai': raise ModuleNotFoundError('No module "
        "named crewai', name='crewai')\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    words = [
        sys.executable,
        "-c",
        "import crewai_hidden; from crewmeter_cost.cli import main; main()",
        "demo",
    ]
    done = subprocess.run(
        words,
        env=os.environ | quiet_environment(tmp_path) | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2
    assert "[crewai]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not has("crewai"), reason="crewai is not installed")
@pytest.mark.parametrize("columns", ["80", pytest.param("120", marks=pytest.mark.slow)])
def test_the_live_demo_adds_up(tmp_path, columns):
    """The ledger has what the fake provider billed, the screen fits, the user's ledger is apart."""
    env = {
        "CREWMETER_LEDGER": str(tmp_path / "real.db"),
        "COLUMNS": columns,
    }
    done = _crewmeter(tmp_path, "demo", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The ledger has the same." in done.stdout
    assert "$0.005243" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "--ledger" not in line) <= int(
        columns
    )
    assert not (tmp_path / "real.db").exists()
    rows = call_rows(tmp_path / ".crewmeter" / "demo.db")
    assert [(row["request_model"], row["status"]) for row in rows] == [
        ("gpt-4o-mini", "ok"),
        ("gpt-4o-mini", "ok"),
        ("gpt-4o", "ok"),
        ("gpt-5", "error"),
    ]
    assert rows[2]["ttft_ns"]


@pytest.mark.slow
@pytest.mark.skipif(not has("crewai"), reason="crewai is not installed")
def test_the_live_demo_goes_where_the_otlp_variables_say(tmp_path):
    """With an endpoint the crew's spans arrive there, and no demo ledger is made."""
    with Nursery() as nursery, nursery.start(tmp_path / "served.db") as sidecar:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sidecar.port}"}
        done = _crewmeter(tmp_path, "demo", **endpoint)
        assert done.returncode == 0, done.stdout + done.stderr
        total = sidecar.get("/api/report?by=crew").json()["total"]
    assert (total["calls"], total["failed_calls"]) == (4, 1)
    assert total["cost_usd"].startswith("0.005243")
    assert not (tmp_path / ".crewmeter" / "demo.db").exists()


@pytest.mark.slow
def test_sample_data_goes_where_the_otlp_variables_say(tmp_path):
    """`demo --days` sends its spans to the endpoint: a sidecar has what a ledger would have."""
    path = tmp_path / "ledger.db"
    words = ("demo", "--days", "2", "--calls-per-day", "60", "--until", "2026-11-20T12:00Z")
    direct = tmp_path / "direct.db"
    done = _crewmeter(tmp_path, *words, "--ledger", str(direct))
    assert done.returncode == 0, done.stderr
    with Nursery() as nursery, nursery.start(path) as sidecar:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sidecar.port}"}
        sent = _crewmeter(tmp_path, *words, **endpoint)
        assert sent.returncode == 0, sent.stderr
        assert "sent to http://127.0.0.1" in sent.stdout
        served = sidecar.get("/api/report?by=crew").json()["total"]
    with Ledger.open(str(direct), read_only=True) as ledger:
        assert served == report(ledger, by=["crew"]).document()["total"]


@pytest.mark.slow
def test_a_demo_whose_endpoint_takes_nothing_fails(tmp_path):
    """Exit 1 with the address and the way out."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }
    done = _crewmeter(tmp_path, "demo", "--days", "1", "--calls-per-day", "20", **environment)
    assert done.returncode == 1
    assert "http://127.0.0.1:9 did not take the spans" in done.stderr
