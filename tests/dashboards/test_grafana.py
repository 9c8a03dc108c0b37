"""What Grafana loads: valid by its schemas, current, linked, with ids that hold."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest
import yaml
from jsonschema import Draft7Validator
from support.paths import ROOT, SCHEMAS

from crewmeter import semconv
from crewmeter_dashboards import rendered_files
from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana import panel_ids, render_board
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.grafana_text import titled
from crewmeter_dashboards.provisioning import (
    Sources,
    render_alerting,
    render_contacts,
    render_folders,
    render_sources,
)
from crewmeter_dashboards.sql_sources import FILTERS, Dialect
from crewmeter_dashboards.thresholds import load

DASHBOARDS = ROOT / "dashboards"
STYLE = DASHBOARDS / "crewmeter_dashboards/grafana_style.py"
DASHBOARD = Draft7Validator(
    json.loads((SCHEMAS / "grafana-dashboard.schema.json").read_text("utf-8"))
)
ALERTING = json.loads((SCHEMAS / "grafana-alerting.schema.json").read_text("utf-8"))
PAIRS = [(board, dialect) for board in BOARDS for dialect in Dialect]
IDS = [f"{board.id}-{dialect}" for board, dialect in PAIRS]


def _definition(name: str) -> Draft7Validator:
    return Draft7Validator(
        {"$ref": f"#/definitions/{name}", "definitions": ALERTING["definitions"]}
    )


@pytest.mark.parametrize(("board", "dialect"), PAIRS, ids=IDS)
def test_a_board_is_valid_by_the_strict_schema(board, dialect):
    """The v1 schema refuses unknown keys.

    A board passes it whole.
    """
    document = json.loads(
        (DASHBOARDS / "grafana" / rendered_files.FOLDER[dialect] / f"{board.id}.json").read_text(
            "utf-8"
        )
    )
    assert [error.message[:200] for error in DASHBOARD.iter_errors(document)] == []


@pytest.mark.parametrize(("board", "dialect"), PAIRS, ids=IDS)
def test_panel_ids_are_unique_and_stable(board, dialect):
    """Alert annotations and links point at panels by number."""
    document = json.loads(render_board(board, dialect, budget_usd=1000))
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(numbers) == len(set(numbers))
    titles = {panel["id"]: panel["title"] for panel in document["panels"]}
    for panel, number in panel_ids(board).items():
        assert titles[number] == titled(CATALOGUE[panel])


def test_panels_fill_the_grid_without_overlap():
    """No panel hides another or sticks out of the 24 columns."""
    for board in BOARDS:
        taken = set()
        for panel in json.loads(render_board(board, Dialect.SQLITE, budget_usd=1000))["panels"]:
            grid = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(grid["x"], grid["x"] + grid["w"])
                for y in range(grid["y"], grid["y"] + grid["h"])
            }
            assert grid["x"] + grid["w"] <= 24
            assert not cells & taken, (board.id, panel["title"])
            taken |= cells


def test_boards_link_to_each_other_and_keep_range_and_variables():
    """From any board each other one is a click away, showing the same thing."""
    for board in BOARDS:
        links = json.loads(render_board(board, Dialect.SQLITE, budget_usd=1000))["links"]
        assert {link["url"] for link in links} == {
            f"/d/{other.uid}" for other in BOARDS if other is not board
        }
        assert all(link["keepTime"] and link["includeVars"] for link in links)


def _drawn(board, kind: str) -> dict[str, list[dict]]:
    """Return the links of the panels of a kind, by title."""
    document = json.loads(render_board(board, Dialect.SQLITE, budget_usd=1000))
    return {
        panel["title"]: panel["fieldConfig"]["defaults"].get("links", [])
        for panel in document["panels"]
        if panel["type"] == kind
    }


@pytest.mark.parametrize("kind", ["table", "timeseries"])
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.id)
def test_every_row_and_curve_links_to_its_runs(board, kind):
    """On crewmeter's page, in the range of the board, with the filter that the page knows."""
    for title, links in _drawn(board, kind).items():
        runs = [link["url"] for link in links if link["url"].startswith("${page}/?view=run")]
        assert runs, title
        for url in runs:
            assert "from=${__from:date:iso}" in url or "&run=${__data" in url
            for name in re.findall(r"&(\w+)=\$\{__(?:data|field)", url):
                assert name in {*FILTERS, "run"}


def test_runs_link_to_their_trace_and_names_to_traces_like_theirs():
    """A trace id leads into the trace back end, a name into a search by an attribute of ours."""
    (crews,) = [board for board in BOARDS if board.id == "crews"]
    for title, links in _drawn(crews, "table").items():
        urls = [unquote(link["url"]) for link in links if "traceql" in link["url"]]
        assert urls, title
        assert all("${tempo}" in url for url in urls)
    attributes = re.findall(r'"span\.([a-z_.]+)"', STYLE.read_text("utf-8"))
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    assert len(attributes) >= 5
    assert set(attributes) <= known


def test_alerts_are_marked_on_the_curves():
    """Grafana's own rules and those of Prometheus, where the rules say whose they are."""
    for board in BOARDS:
        document = json.loads(render_board(board, Dialect.SQLITE, budget_usd=1000))
        own, firing = document["annotations"]["list"]
        assert own["builtIn"] == 1
        assert firing["expr"] == 'ALERTS{alertstate="firing", product="crewmeter"}'
    assert "product: crewmeter" in (DASHBOARDS / "prometheus/alerts.yml").read_text("utf-8")


def test_every_panel_says_something_when_it_is_empty_and_has_a_unit():
    """No bare "No data", no bare number."""
    for board in BOARDS:
        for panel in json.loads(render_board(board, Dialect.POSTGRESQL, budget_usd=1000))["panels"]:
            if panel["type"] != "row":
                defaults = panel["fieldConfig"]["defaults"]
                assert len(defaults["noValue"]) > 20
                assert defaults["unit"]


def test_committed_files_are_what_the_code_renders():
    """Drift between catalogue and files fails here, as `crewmeter dashboards check`."""
    assert rendered_files.drift(rendered_files.rendered(load()), DASHBOARDS) == []


@pytest.mark.parametrize("dialect", list(Dialect))
def test_alert_rules_are_valid(dialect):
    """Each rule passes Grafana's alerting schema and points at a real panel.

    The names of file provisioning are mapped to the schema's first.
    """
    (group,) = yaml.safe_load(render_alerting(load(), dialect))["groups"]
    uids = {board.uid: board for board in BOARDS}
    for rule in group["rules"]:
        board = uids[rule.pop("dashboardUid")]
        assert rule.pop("panelId") in panel_ids(board).values()
        mapped = {
            **rule,
            "folderUID": group["folder"],
            "ruleGroup": group["name"],
            "orgID": group["orgId"],
        }
        assert [error.message for error in _definition("Rule").iter_errors(mapped)] == []
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "runbook_url"} <= set(rule["annotations"])
        assert "$" not in json.dumps(rule["data"]).replace("'$.", "")


def test_month_alerts_do_not_fire_together():
    """50, 80 and 100 % are ranges that meet and do not overlap."""
    (group,) = yaml.safe_load(render_alerting(load(), Dialect.SQLITE))["groups"]
    ranges = [
        rule["data"][1]["model"]["conditions"][0]["evaluator"]
        for rule in group["rules"]
        if rule["uid"].startswith("crewmeter-month")
    ]
    assert [each["params"] for each in ranges] == [[0.5, 0.8], [0.8, 1.0], [1.0]]
    assert [each["type"] for each in ranges] == ["within_range", "within_range", "gt"]


def test_contact_points_and_policy_are_valid():
    """Receivers and routes pass the schema, and every route has its receiver."""
    document = yaml.safe_load(render_contacts(Sources(dialect=Dialect.SQLITE)))
    names = {point["name"] for point in document["contactPoints"]}
    for point in document["contactPoints"]:
        for receiver in point["receivers"]:
            # The schema is of the HTTP API, which has a shorter name for the type.
            receiver["type"] = receiver["type"].removeprefix("prometheus-")
            assert [
                error.message for error in _definition("ContactPoint").iter_errors(receiver)
            ] == []
    (policy,) = document["policies"]
    assert {policy["receiver"]} == names
    policy.pop("orgId")
    assert [error.message for error in _definition("NotificationPolicy").iter_errors(policy)] == []


def test_data_sources_are_read_only_and_hold_no_password():
    """Grafana's SQL comes from browsers.

    Secrets come from the environment.
    """
    sqlite = yaml.safe_load(render_sources(Sources(dialect=Dialect.SQLITE)))["datasources"][0]
    assert "mode=ro" in sqlite["jsonData"]["pathOptions"]
    postgres = yaml.safe_load(render_sources(Sources(dialect=Dialect.POSTGRESQL)))["datasources"][0]
    assert postgres["secureJsonData"]["password"].startswith("$")
    clickhouse = yaml.safe_load(render_sources(Sources(dialect=Dialect.CLICKHOUSE)))["datasources"][
        0
    ]
    assert (clickhouse["jsonData"]["host"], clickhouse["jsonData"]["port"]) == ("clickhouse", 8123)
    assert clickhouse["secureJsonData"]["password"].startswith("$")
    (provider,) = yaml.safe_load(render_folders(Sources(dialect=Dialect.SQLITE)))["providers"]
    assert provider["folderUid"] == "crewmeter"
