"""Thresholds: one file, overridden by name, refused when wrong."""

from __future__ import annotations

import pytest

from crewmeter_dashboards.prometheus_alerts import prometheus_alerts
from crewmeter_dashboards.thresholds import ThresholdsError, load


def test_an_override_reaches_the_rules(tmp_path):
    """A number in somebody's own file is the one the rule compares with."""
    mine = tmp_path / "mine.toml"
    mine.write_text('runbooks = "https://wiki.example/"\n[spend]\nper_hour_usd = 7\n', "utf-8")
    thresholds = load(mine)
    spend = next(
        alert for alert in prometheus_alerts(thresholds) if alert.name == "SpendPerHourHigh"
    )
    assert spend.expr.endswith("> 7")
    assert thresholds.runbooks == "https://wiki.example/"
    assert thresholds("latency", "min_count") == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[spend]\nper_hour = 7", "spend.per_hour"),
        ('[spend]\nper_hour_usd = "7"', "spend.per_hour_usd"),
        ("[spend]\nper_hour_usd = true", "spend.per_hour_usd"),
        ("spend = 3", "spend is a section"),
        ("not toml", "mine.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_the_culprit(tmp_path, text, said):
    """A misspelt threshold is refused, because its alert would never fire."""
    mine = tmp_path / "mine.toml"
    mine.write_text(text, "utf-8")
    with pytest.raises(ThresholdsError, match=said.replace(".", r"\.")):
        load(mine)


def test_a_missing_file_is_refused(tmp_path):
    """Said at once, with the path."""
    with pytest.raises(ThresholdsError, match="nowhere"):
        load(tmp_path / "nowhere.toml")
