"""Alerts have a receiver, or Alertmanager says that they have none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from support.boards import program
from support.paths import ROOT

from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.thresholds import load

SCRIPT = ROOT / "scripts/alertmanager.sh"
CONFIG = ROOT / "dashboards/prometheus/alertmanager.yml"
RECEIVERS = {
    "slack": {
        "ALERT_SLACK_URL": 'https://hooks.slack.com/services/a"b',
        "ALERT_SLACK_CHANNEL": "#x",
    },
    "pagerduty": {"ALERT_PAGERDUTY_KEY": "0123456789abcdef"},
    "email": {
        "ALERT_EMAIL_TO": "ops@example.com",
        "ALERT_SMTP_HOST": "smtp.example.com:587",
        "ALERT_SMTP_FROM": "crewmeter@example.com",
        "ALERT_SMTP_USER": "crewmeter",
        "ALERT_SMTP_PASSWORD": 'a: b # \\ "c',
    },
    "webhook": {"ALERT_WEBHOOK_URL": "http://127.0.0.1:9999/hook"},
}


def _started(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script as the container does, up to the configuration it would start with."""
    env = {"PATH": os.environ["PATH"], "ALERT_CHECK": "1", **variables}
    command = ["/bin/sh", str(SCRIPT), str(CONFIG)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)


def test_it_refuses_to_start_without_a_receiver():
    """As shipped nobody would be notified, so it says so and how to change it."""
    done = _started({})
    assert done.returncode == 1
    assert "alerts have no receiver" in done.stderr
    assert "ALERT_SLACK_URL" in done.stderr
    assert _started({"ALERTS": "off"}).returncode == 0


@pytest.mark.parametrize("kind", RECEIVERS)
def test_a_receiver_is_filled_in_by_the_environment(kind, tmp_path):
    """Pages reach each kind of receiver, tickets all but PagerDuty, and Alertmanager accepts it."""
    done = _started(RECEIVERS[kind])
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    page, ticket = config["receivers"]
    assert [page["name"], ticket["name"]] == ["page", "ticket"]
    assert f"{kind}_configs" in page
    assert (f"{kind}_configs" in ticket) is (kind != "pagerduty")
    values = [str(value) for entry in page[f"{kind}_configs"] for value in entry.values()]
    for value in RECEIVERS[kind].values():
        assert value in values
    assert config["route"] == yaml.safe_load(CONFIG.read_text("utf-8"))["route"]


@pytest.mark.services
@pytest.mark.parametrize("kind", RECEIVERS)
def test_alertmanager_accepts_the_receiver(kind, tmp_path):
    """Amtool check-config on what the script would start with."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(_started(RECEIVERS[kind]).stdout, "utf-8")
    command = [program("amtool"), "check-config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_incomplete_receiver_is_named():
    """An address to write to without a server to send with is refused."""
    done = _started({"ALERT_EMAIL_TO": "ops@example.com"})
    assert done.returncode != 0
    assert "ALERT_SMTP_HOST" in done.stderr


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        (None, "https://crewmeter.readthedocs.io/en/stable/runbooks/waste/"),
        ("https://wiki.example.com/ops", "https://wiki.example.com/ops/waste/"),
        ("https://git.example.com/r/{name}.md", "https://git.example.com/r/waste.md"),
    ],
)
def test_a_runbook_has_an_absolute_address(setting, url):
    """Whoever gets an alert can open its link."""
    assert load(runbooks=setting).runbook_url("waste") == url


def test_every_alert_links_to_a_runbook_that_exists():
    """The pages are in docs/runbooks, under the names in the links."""
    rules = yaml.safe_load((CONFIG.parent / "alerts.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            url = rule["annotations"]["runbook_url"]
            assert url.startswith("https://")
            assert Path(
                ROOT / "docs/runbooks" / f"{url.rstrip('/').rpartition('/')[2]}.md"
            ).is_file()


def test_an_alert_on_the_ledger_names_its_value_and_limit():
    """A page at night says how far it is beyond what, without opening Grafana."""
    alerts = ledger_alerts(load())
    assert alerts
    for alert in alerts:
        limit = f"limit {alert.above:.0%}"
        if alert.uid == "crewmeter-unusual":
            limit = f"limit {alert.above:g} times"
        assert ".Values.A.Value" in alert.summary, alert.uid
        assert limit in alert.summary.replace(".0%", "%"), alert.uid
        assert "$" not in alert.summary
