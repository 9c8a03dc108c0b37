"""Hours, days, weeks and months of a report begin where the time zone says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from crewmeter_cost.ledger.read.calls import calls
from crewmeter_cost.ledger.read.report import report

FORMS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


@pytest.mark.parametrize("group", FORMS)
@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_time_groups_begin_in_the_zone(month, name, group):
    """Calls are counted on the day, week or month that it was in the zone; all add up."""
    zone = UTC if name == "UTC" else ZoneInfo(name)
    expected = Counter(
        datetime.fromisoformat(str(call["started_at"])).astimezone(zone).strftime(FORMS[group])
        for call in calls(month)
    )
    made = report(month, by=[group], zone=zone)
    assert {row.keys[0]: row.sums["calls"] for row in made.rows} == expected
    assert made.total.sums["calls"] == sum(expected.values())
    assert [row.keys[0] for row in made.rows] == sorted(expected)


def test_hours_of_a_zone_name_their_offset(month):
    """An hour elsewhere than in UTC is written with its offset."""
    made = report(month, by=["hour"], zone=ZoneInfo("Asia/Kolkata"))
    assert all(row.keys[0].endswith(":00+05:30") for row in made.rows)
    assert report(month, by=["hour"]).rows[0].keys[0].endswith(":00Z")
