"""`crewmeter dashboards` and `crewmeter open` from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml
from support.paths import ROOT
from support.ports import free_port

pytestmark = pytest.mark.mostly_slow(
    "test_export_points_at_the_ledger_and_prometheus_given",
    "test_export_without_a_ledger_says_what_is_missing",
)

CREWMETER = str(Path(sys.executable).parent / "crewmeter")


def crewmeter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CREWMETER, *arguments], capture_output=True, text=True, check=False, timeout=600
    )


def test_export_points_at_the_ledger_and_prometheus_given(tmp_path):
    """Boards, rules and provisioning for an existing Grafana, in one folder."""
    done = crewmeter(
        "dashboards",
        "export",
        str(tmp_path),
        "--ledger",
        "/data/ledger.db",
        "--prometheus",
        "http://prom:9090",
    )
    assert done.returncode == 0, done.stderr
    sources = yaml.safe_load(
        (tmp_path / "provisioning/datasources/crewmeter.yml").read_text("utf-8")
    )["datasources"]
    assert sources[0]["jsonData"]["path"] == "/data/ledger.db"
    assert sources[1]["url"] == "http://prom:9090"
    provider = yaml.safe_load(
        (tmp_path / "provisioning/dashboards/crewmeter.yml").read_text("utf-8")
    )["providers"][0]
    assert provider["options"]["path"] == str(tmp_path / "dashboards")
    assert len(list((tmp_path / "dashboards").glob("*.json"))) == 5
    assert (tmp_path / "prometheus/alerts.yml").exists()


def test_boards_for_grafana_com_have_inputs(tmp_path):
    """Each board names its data sources as inputs, what it requires, and has a page's text.

    Nothing in it points at a data source or variable that an import would not have.
    """
    done = crewmeter("dashboards", "export", str(tmp_path), "--for", "grafana.com")
    assert done.returncode == 0, done.stderr
    plugins = {
        "sqlite": "frser-sqlite-datasource",
        "postgres": "grafana-postgresql-datasource",
        "clickhouse": "grafana-clickhouse-datasource",
    }
    for folder, plugin in plugins.items():
        boards = sorted((tmp_path / folder).glob("*.json"))
        assert len(boards) == 5
        for path in boards:
            text = path.read_text("utf-8")
            board = json.loads(text)
            inputs = {given["name"]: given["pluginId"] for given in board["__inputs"]}
            assert inputs["DS_LEDGER"] == plugin
            assert set(inputs) <= {"DS_LEDGER", "DS_PROMETHEUS"}
            variables = {given["name"] for given in board["templating"]["list"]}
            assert not variables & {"ledger", "prometheus"}
            used = set(re.findall(r'"uid": "\$\{(\w+)\}"', text))
            assert used <= set(inputs) | variables | {"tempo"}
            required = {(given["type"], given["id"]) for given in board["__requires"]}
            assert {("grafana", "grafana"), ("datasource", plugin)} <= required
            assert {kind for kind, _ in required} == {"grafana", "datasource", "panel"}
            assert board["id"] is None
            assert board["description"]
            page = path.with_suffix(".md").read_text("utf-8")
            assert board["title"] in page
            assert board["description"] in page
            (picture,) = re.findall(r"stable/(images/[\w-]+\.png)", page)
            assert (ROOT / "docs" / picture).is_file()


def test_export_without_a_ledger_says_what_is_missing(tmp_path):
    """Whoever wants boards for a Grafana of their own has to name the ledger."""
    done = crewmeter("dashboards", "export", str(tmp_path))
    assert done.returncode == 2
    assert "--ledger" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_for_postgresql_never_writes_the_password(tmp_path):
    """A password in a URL stays where it was typed."""
    done = crewmeter(
        "dashboards",
        "export",
        str(tmp_path),
        "--ledger",
        "postgresql://reader:hunter2@db:5433/meter",
    )
    assert done.returncode == 0, done.stderr
    text = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert "hunter2" not in text
    source = yaml.safe_load(
        (tmp_path / "provisioning/datasources/crewmeter.yml").read_text("utf-8")
    )["datasources"][0]
    assert (source["url"], source["user"], source["jsonData"]["database"]) == (
        "db:5433",
        "reader",
        "meter",
    )
    assert "rawSql" in (tmp_path / "dashboards/spend.json").read_text("utf-8")


def test_export_for_a_mirror_in_clickhouse(tmp_path):
    """The plugin's own connection keys and query format, and no password."""
    done = crewmeter(
        "dashboards", "export", str(tmp_path), "--ledger", "clickhouses://reader:hunter2@ch/meter"
    )
    assert done.returncode == 0, done.stderr
    text = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert "hunter2" not in text
    source = yaml.safe_load(
        (tmp_path / "provisioning/datasources/crewmeter.yml").read_text("utf-8")
    )["datasources"][0]
    wanted = {
        "host": "ch",
        "port": 8443,
        "secure": True,
        "username": "reader",
        "defaultDatabase": "meter",
    }
    assert wanted.items() <= source["jsonData"].items()
    assert source["type"] == "grafana-clickhouse-datasource"
    assert '"queryType": "timeseries"' in (tmp_path / "dashboards/spend.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ledger", "mysql://db/x"), "no boards for mysql"),
        (("--ledger", "no such://"), "is not a database URL"),
        (("--ledger", "x.db", "--thresholds", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_export_refuses_what_it_cannot_do(tmp_path, arguments, said):
    """Exit 2, the culprit, no traceback."""
    done = crewmeter("dashboards", "export", str(tmp_path / "out"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_that_the_files_are_current():
    """The gate that CI runs."""
    done = crewmeter("dashboards", "check")
    assert done.returncode == 0, done.stderr
    assert "current" in done.stdout


def test_open_serves_the_page_on_loopback_only(sqlite_ledger):
    """One line with the address.

    Another host name gets nothing (DNS rebinding).
    """
    port = free_port()
    command = [
        CREWMETER,
        "open",
        "--no-browser",
        "--port",
        str(port),
        "--ledger",
        sqlite_ledger.engine.url.database,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )
    try:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        assert address == f"http://127.0.0.1:{port}/"
        for _ in range(50):
            try:
                page = urlopen(address, timeout=30)
                break
            except OSError:
                time.sleep(0.1)
        assert b"crewmeter" in page.read()
        with pytest.raises(OSError, match="400"):
            urlopen(Request(address, headers={"Host": "evil.example"}), timeout=30)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_open_without_a_ledger_says_what_to_do(tmp_path):
    """Nothing is created by looking."""
    done = crewmeter("open", "--no-browser", "--ledger", str(tmp_path / "none.db"))
    assert done.returncode == 2
    assert "crewmeter demo" in done.stderr
    assert list(tmp_path.iterdir()) == []
