"""The page's server.

Read-only, typed by the catalogue, strict about what a browser may ask.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.boards import seeded
from support.ledger_build import CONTEXT, NOON, call, frozen, priced, root
from support.patience import patience

import crewmeter_cost.web
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.web import page_routes
from crewmeter_cost.web.params import moment
from crewmeter_cost.web.time_buckets import auto_bucket
from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana import render_board
from crewmeter_dashboards.sql_dialects import for_grafana
from crewmeter_dashboards.sql_sources import Dialect

STATIC = Path(crewmeter_cost.web.__file__).parent / "static"


@pytest.fixture
def client(ledger):
    with TestClient(Starlette(routes=page_routes(ledger))) as client:
        yield client


def test_every_answer_carries_the_strict_policy(client):
    """No inline script, no foreign host, no frame, on files, API and refusals alike."""
    for path in (
        "/",
        "/static/app.js",
        "/api/boards",
        "/api/panels/runs",
        "/api/panels/none",
        "/static/none.js",
    ):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_the_page_has_no_inline_code_and_no_foreign_address():
    """The policy would stop it, so it must not be there at all.

    Nor does our code write HTML from data.
    """
    html = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    for path in STATIC.glob("*.*"):
        text = path.read_text("utf-8")
        if path.name.startswith("uPlot"):
            continue
        assert "innerHTML" not in text.replace("there is no innerHTML on this page", "")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name


def test_the_browser_never_sees_sql(client):
    """The catalogue it gets has titles and kinds, no queries."""
    text = client.get("/api/boards").text
    assert "SELECT" not in text
    assert len(json.loads(text)["boards"]) == 5


def test_a_panel_answers_with_columns_rows_and_time(client):
    """What the JavaScript draws from."""
    answer = client.get("/api/panels/models", params={"from": "now-30d"}).json()
    assert {"columns", "rows", "milliseconds", "range", "bucket"} == set(answer)
    assert answer["rows"]
    assert all(not isinstance(value, str) for row in answer["rows"] for value in row[2:])


@pytest.mark.parametrize(
    "query",
    [
        {"from": "someday"},
        {"from": "now", "to": "now-1h"},
        {"from": "now-1h; DROP TABLE call"},
        {"bucket": "-1"},
        {"bucket": "nan"},
        {"budget": "lots"},
        {"from": "now-99999999d"},
    ],
)
def test_a_wrong_question_is_refused_with_a_reason(client, query):
    """400, a sentence, and no trace of the inside."""
    answer = client.get("/api/panels/runs", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/api/panels/none",
        "/api/filters/none",
        "/api/page/runs/none",
        "/static/../routes.py",
        "/static/..%2froutes.py",
    ],
)
def test_what_is_not_there_is_404(client, path):
    """Unknown panels, filters, runs and files."""
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "query", [{"order": "cost_usd; DROP"}, {"status": "x"}, {"skip": "-1"}, {"skip": "99999999"}]
)
def test_the_run_list_takes_known_orders_only(client, query):
    """Order and status are names of ours, never SQL."""
    assert client.get("/api/page/runs", params=query).status_code == 400


def test_the_run_list_is_ordered_and_paged(client):
    """Most expensive first means that, and the second page continues the first."""
    query = {"from": "now-30d", "order": "cost"}
    first = client.get("/api/page/runs", params=query).json()
    second = client.get("/api/page/runs", params={**query, "skip": str(first["page"])}).json()
    cost = first["columns"].index("cost_usd")
    costs = [row[cost] or 0 for row in first["rows"] + second["rows"]]
    assert costs == sorted(costs, reverse=True)
    assert not {row[1] for row in first["rows"]} & {row[1] for row in second["rows"]}


def test_a_link_to_runs_without_a_name_lists_them(tmp_path):
    """What boards write for a missing name selects the runs whose calls have none."""
    nameless = replace(CONTEXT, run_id="00000000000000bb", agent=None)
    calls = [(call(1), priced()), (call(2, context=nameless), priced())]
    query = {"from": str(NOON // 10**9 - 3600), "to": str(NOON // 10**9 + 3600)}
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        steps = [root(), root(span_id=nameless.run_id, context=nameless)]
        ledger.write(calls, steps, frozen)
        with TestClient(Starlette(routes=page_routes(ledger))) as client:

            def listed(**more: str) -> set[str]:
                rows = client.get("/api/page/runs", params=query | more).json()["rows"]
                return {row[1] for row in rows}

            assert listed() == {CONTEXT.run_id, nameless.run_id}
            assert listed(where="agent=") == {nameless.run_id}
            assert listed(agent="(none)") == {nameless.run_id}
            assert listed(agent="(other)") == listed(), "the rest of the names is no name"


def test_a_run_adds_up(client):
    """The billed calls of a run's tree sum to the run's cost and tokens."""
    rows = client.get("/api/page/runs", params={"from": "now-30d", "order": "calls"}).json()
    run_id = rows["rows"][0][rows["columns"].index("run_id")]
    tree = client.get(f"/api/page/runs/{run_id}").json()
    calls = [node for node in tree["nodes"] if node["billed"]]
    assert len(calls) == tree["run"]["calls"]
    assert sum(node["cost_usd"] or 0 for node in calls) == pytest.approx(
        tree["run"]["cost_usd"] or 0
    )
    assert sum(node["input_tokens"] or 0 for node in calls) == tree["run"]["input_tokens"]
    ids = {node["id"] for node in tree["nodes"]}
    assert all(node["parent"] in ids for node in tree["nodes"] if node["id"] != run_id)


def test_two_values_of_one_filter_widen_it(client):
    """Names of one filter are alternatives."""

    def tokens(*teams: str) -> int:
        return client.get(
            "/api/panels/tokens", params={"from": "now-30d", "team": list(teams)}
        ).json()["rows"][0][0]

    one, two, *_ = client.get("/api/filters/team", params={"from": "now-30d"}).json()["values"]
    assert tokens(one, two) == tokens(one) + tokens(two)


def test_moments_and_buckets():
    """Every time that the command line reads, unix seconds, and a chart's worth of points."""
    assert moment("now-2d", name="from", now=1_000_000) == 1_000_000 - 172_800
    assert moment("yesterday", name="from", now=1_000_000) == 10 * 86_400
    assert moment("1970-01-11T06:00", name="from", now=0, zone=ZoneInfo("Asia/Tokyo")) == (
        9 * 86_400 + 21 * 3600
    )
    assert moment("12345", name="from", now=0) == 12345
    assert [
        auto_bucket(seconds) for seconds in (3600, 10_800, 86_400, 7 * 86_400, 30 * 86_400)
    ] == [60, 300, 3600, 21_600, 86_400]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_days_and_months_are_those_of_the_zone(ledger, client, zone, monkeypatch):
    """Today, this month, the month's axis and buckets of a day begin at the zone's midnight."""
    monkeypatch.setenv("CREWMETER_TZ", zone)
    assert client.get("/api/boards").json()["zone"] == zone
    now = datetime.now(ZoneInfo(zone))
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spent = client.get("/api/panels/spend_today", params={"from": "now-30d"}).json()["rows"][0][0]
    if zone != "Asia/Kolkata":  # its midnight is no whole hour, which sums to the hour cannot split
        total = report(ledger, by=["model"], since=today, until=None).total
        assert spent == pytest.approx(total.cost_pusd / 1e12)
    curve = client.get("/api/panels/month_curve", params={"from": "now-30d"}).json()
    assert curve["range"][0] == today.replace(day=1).timestamp()
    bars = client.get("/api/panels/spend_by_model", params={"from": "now-20d"}).json()
    last = datetime.fromtimestamp(bars["rows"][-1][0], ZoneInfo(zone))
    assert (last.hour, last.minute) == (0, 0)


def test_the_page_and_grafana_choose_the_same_bucket():
    """The CASE in Grafana's SQL and `auto_bucket` follow the same steps."""
    sql = for_grafana("@bucket", Dialect.SQLITE)
    for seconds in (3600, 10_800, 345_600, 1_209_600):
        assert f"<= {seconds} THEN {auto_bucket(seconds)}" in sql
    assert f"ELSE {auto_bucket(10**9)}" in sql


def test_the_page_and_grafana_offer_the_same_buckets(client):
    """The page's choices come with its catalogue, and are those of the boards' variable."""
    board = json.loads(render_board(BOARDS[0], Dialect.SQLITE, budget_usd=1000.0))
    variable = next(each for each in board["templating"]["list"] if each["name"] == "bucket")
    offered = client.get("/api/boards").json()["buckets"]["choices"]
    assert offered == [[each["text"], int(each["value"])] for each in variable["options"]]


def test_a_ledger_in_use_is_readable_while_it_is_written(tmp_path):
    """A reader opened before a write sees it at the next question."""
    ledger = seeded(str(tmp_path / "live.db"), days=2, calls_per_day=20)
    with ledger, TestClient(Starlette(routes=page_routes(ledger))) as client:
        before = client.get("/api/panels/tokens", params={"from": "now-30d"}).json()["rows"][0][0]
        seeded(str(tmp_path / "live.db"), days=6, calls_per_day=20).close()
        assert (
            client.get("/api/panels/tokens", params={"from": "now-30d"}).json()["rows"][0][0]
            > before
        )


def test_the_whole_overview_answers_within_a_second(client):
    """Every panel of the first page, one after the other, on the demo ledger."""
    overview = client.get("/api/boards").json()["boards"][0]
    started = time.perf_counter()
    for row in overview["rows"]:
        for cell in row["panels"]:
            assert client.get(f"/api/panels/{cell['id']}").status_code == 200
    assert time.perf_counter() - started < patience(1.5)


def test_a_ledger_that_went_away_is_a_503(tmp_path):
    """Each route says so in JSON, where some gave a traceback and some a 400."""
    path = tmp_path / "ledger.db"
    with (
        Ledger.open(str(path)) as ledger,
        TestClient(Starlette(routes=page_routes(ledger))) as client,
    ):
        ledger.close()
        for each in tmp_path.glob("ledger.db*"):
            each.unlink()
        for route in (
            "boards",
            "panels/models",
            "page/runs",
            "page/runs/a",
            "page/compare?a=a&b=b",
        ):
            answer = client.get(f"/api/{route}")
            assert answer.status_code == 503, route
            assert "no ledger at" in answer.json()["error"]
        assert not path.exists()


def test_a_damaged_ledger_is_reported(tmp_path):
    """The sidecar's writer is called where a page finds damage."""
    path = tmp_path / "ledger.db"
    suspected = []
    with (
        Ledger.open(str(path)) as ledger,
        TestClient(Starlette(routes=page_routes(ledger, suspected.append))) as client,
    ):
        ledger.close()
        path.write_bytes(b"no database" * 1000)
        assert client.get("/api/boards").status_code == 503
    assert len(suspected) == 1
