"""The JSON API: the same documents as the command line's ``--format json``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.ledger_build import call, frozen, priced
from support.sidecars import request

import crewmeter_cost
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read import run_search
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext
from crewmeter_cost.sidecar.api import ledger_routes


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    """A sidecar with two runs of one crew in its ledger."""
    with nursery.start(tmp_path_factory.mktemp("api") / "ledger.db") as running:
        for run in (1, 2):
            ids = {
                "crewmeter.run.id": f"{run:016x}",
                "crewmeter.crew.name": "news",
                "crewmeter.run.name": "news",
                "crewmeter.run.kind": "crew",
            }
            running.post(request(3, **ids))
            root = {"crewmeter.kind": "crew", "gen_ai.operation.name": "invoke_workflow"}
            running.post(
                request(spans=[(run.to_bytes(16, "big"), run.to_bytes(8, "big"))], **ids, **root)
            )
        yield running


def command(running, *words: str) -> object:
    """What the command line prints about the same ledger."""
    script = Path(sys.executable).with_name("crewmeter")
    done = subprocess.run(
        [script, *words, "--ledger", str(running.ledger), "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_report_is_the_command_lines_document(filled):
    """/api/report?by=… answers what `crewmeter report --by … --limit …` prints.

    Without a limit the same, with all rows.
    """
    answer = filled.get("/api/report?by=crew&by=model").json()
    assert answer == command(filled, "report", "--by", "crew", "--by", "model", "--limit", "5000")
    assert (answer.pop("groups"), answer.pop("truncated")) == (1, False)
    assert answer == command(filled, "report", "--by", "crew", "--by", "model")
    assert filled.get("/api/report?where=crew=none").json()["rows"] == []


def test_the_python_client_reads_a_sidecar_as_it_reads_the_ledger(filled):
    """`crewmeter_cost.open` answers the same for the sidecar's address as for its ledger."""
    with (
        crewmeter_cost.open(f"http://127.0.0.1:{filled.port}") as remote,
        crewmeter_cost.open(str(filled.ledger)) as local,
    ):
        for question in ({"by": ["crew", "model"]}, {"by": [], "where": "status=ok"}):
            ours, theirs = remote.report(**question), local.report(**question)
            assert (list(ours.rows), ours.total) == (list(theirs.rows), theirs.total)
        for words in ({"order": "calls"}, {"where": "crew=none"}, {"search": "news"}):
            assert list(remote.runs(**words)) == list(local.runs(**words))
        assert remote.run("last") == local.run("last")
        with pytest.raises(CrewMeterError, match="cannot filter by 'modle'"):
            remote.runs(where="modle=x")


def test_a_reports_rows_are_limited_and_its_total_is_not(filled):
    """limit=1 gives one of two runs, and says that there are two."""
    every, first = (filled.get(f"/api/report?by=run&limit={limit}").json() for limit in (20000, 1))
    assert (every["groups"], every["truncated"]) == (2, False)
    assert first == {**every, "rows": every["rows"][:1], "truncated": True}


def test_runs_and_run_are_the_command_lines_documents(filled):
    """/api/runs and /api/runs/ID answer what `crewmeter runs` and `crewmeter show` print."""
    listed = filled.get("/api/runs").json()
    assert listed == command(filled, "runs")
    assert len(listed) == 2
    assert filled.get("/api/runs?limit=1").json() == listed[:1]
    run_id = listed[0]["run_id"]
    assert filled.get(f"/api/runs/{run_id}").json() == command(filled, "show", run_id)


def test_a_search_that_stopped_says_so_in_a_header(tmp_path, monkeypatch):
    """The body stays the command line's list; the note of the scan comes as a header."""
    path = str(tmp_path / "ledger.db")
    with Ledger.open(path) as ledger:
        owners = [CallContext(run_id=f"{number:016x}") for number in (1, 2)]
        calls = [(call(at, context=owner), priced()) for at, owner in enumerate(owners)]
        ledger.write(calls, [], frozen)
        client = TestClient(Starlette(routes=ledger_routes(ledger, suspect=raise_it)))
        assert "crewmeter-note" not in client.get("/api/runs?order=cost").headers
        monkeypatch.setattr(run_search, "SCANNED_RUNS", 1)
        answer = client.get("/api/runs?order=cost")
    assert len(answer.json()) == 1
    assert "searched the newest 1 runs" in answer.headers["crewmeter-note"]
    with crewmeter_cost.open(path) as reader:
        assert "searched the newest 1 runs" in reader.runs(order="cost").note
        assert reader.runs().note is None


def raise_it(error: Exception) -> None:
    raise error


def test_wrong_questions_are_answered_with_the_way_out(filled):
    """400 or 404 with a reason and a hint, no traceback."""
    for path, status in {
        "/api/report?by=nonsense": 400,
        "/api/report?since=yesterdayish": 400,
        "/api/report?where=crew": 400,
        "/api/report?limit=0": 400,
        "/api/report?limit=20001": 400,
        "/api/report?limit=all": 400,
        "/api/runs?limit=0": 400,
        "/api/runs?limit=x": 400,
        "/api/runs/ffff": 404,
    }.items():
        reply = filled.get(path)
        assert reply.status == status, path
        assert reply.json()["error"], path


def test_health_is_plain(filled):
    """Probes get a word and no facts."""
    assert (filled.get("/healthz").status, filled.get("/healthz").text) == (200, "ok\n")
    assert (filled.get("/readyz").status, filled.get("/readyz").text) == (200, "ready\n")


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31",
        "9999-12-31T23:59:59-14:00",
        "10000-01-01",
        "-1",
        "1e400",
        "99999999999999999999 days",
        "999999 years",
    ],
)
def test_the_ends_of_the_calendar_are_answered_in_words(sidecar, name, moment):
    """A time that no ledger can hold is a 400 with the reason, on every path that takes one."""
    for path in ("/api/report", "/api/runs"):
        answer = sidecar.get(f"{path}?{urlencode({name: moment})}")
        assert answer.status == 400, (path, answer.text)
        assert moment.split()[0] in answer.json()["error"]


@pytest.mark.parametrize(
    "moment", ["99999999999", "253402300800", "now-999999w", "-1", "1e9", "\u0663"]
)
def test_the_page_refuses_times_no_ledger_can_hold(sidecar, moment):
    """Unix seconds past the year 2262 do not fit the ledger's nanoseconds."""
    for path in ("/api/panels/spend_over_time", "/api/page/runs", "/api/filters/crew"):
        for name in ("from", "to"):
            answer = sidecar.get(f"{path}?{urlencode({name: moment})}")
            assert answer.status in (400, 404), (path, answer.text)


@pytest.mark.parametrize(
    "limit", ["00000000199999", "9" * 32, "9" * 5000, "0", "-1", "1.0", "\u00b2"]
)
def test_a_limit_is_checked_by_its_value(sidecar, limit):
    """Leading zeros passed, and 32 digits were a 500."""
    for path, name in (
        ("/api/report", "limit"),
        ("/api/runs", "limit"),
        ("/api/runs", "offset"),
        ("/api/page/runs", "skip"),
    ):
        answer = sidecar.get(f"{path}?{urlencode({name: limit})}")
        allowed = limit == "0" and name in ("offset", "skip")
        small = name != "limit" and limit == "00000000199999"
        assert answer.status == (200 if allowed or small else 400), (path, name, answer.text)
