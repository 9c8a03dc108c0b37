"""Time expressions: every form, in a zone, and the windows that are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.time_range import instant, read_zone, window, window_text

NOW = datetime(2026, 11, 26, 15, 30, tzinfo=UTC)
"""A Thursday."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-26T15:30"),
        ("today", "2026-11-26T00:00"),
        ("yesterday", "2026-11-25T00:00"),
        ("monday", "2026-11-23T00:00"),
        ("Thursday", "2026-11-26T00:00"),
        ("last thursday", "2026-11-19T00:00"),
        ("fri", "2026-11-20T00:00"),
        ("week", "2026-11-23T00:00"),
        ("this week", "2026-11-23T00:00"),
        ("last week", "2026-11-16T00:00"),
        ("month", "2026-11-01T00:00"),
        ("Last  Month", "2026-10-01T00:00"),
        ("last year", "2025-01-01T00:00"),
        ("2h", "2026-11-26T13:30"),
        ("90 minutes ago", "2026-11-26T14:00"),
        ("7d", "2026-11-19T15:30"),
        ("2 weeks", "2026-11-12T15:30"),
        ("9 months ago", "2026-02-26T15:30"),
        ("2026-11-01", "2026-11-01T00:00"),
        ("2026-11-01T12:00Z", "2026-11-01T12:00"),
        ("2026-11-01T12:00+02:00", "2026-11-01T10:00"),
    ],
)
def test_a_time_expression_names_a_moment(text, expected):
    """ISO times, ages and words; a word names a period and means its start."""
    found = instant(text, option="--since", now=NOW)
    assert (f"{found:%Y-%m-%dT%H:%M}", found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-11-25T23:00"),
        ("2026-07-01", "2026-06-30T22:00"),
        ("last month", "2026-09-30T22:00"),
        ("2026-07-01T00:00Z", "2026-07-01T00:00"),
        ("1d", "2026-11-25T15:30"),
    ],
)
def test_days_begin_in_the_given_zone(text, expected):
    """Words and times without a zone are read in the zone, summer time included."""
    found = instant(text, option="--since", now=NOW, zone=ZoneInfo("Europe/Berlin"))
    assert f"{found:%Y-%m-%dT%H:%M}" == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "tomorrowish", "9" * 30 + "d", "99999 months", "2026-13-01", "last", "d", "-3d"],
)
def test_what_is_not_a_time_is_named(text):
    """The error names the option and the text, and shows forms that work."""
    with pytest.raises(CrewMeterError) as refusal:
        instant(text, option="--until", now=NOW)
    assert "--until" in refusal.value.message
    assert "last week" in (refusal.value.hint or "")


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_an_error(text):
    """No text ends in another exception."""
    try:
        found = instant(text, option="--since", now=NOW, zone=ZoneInfo("America/New_York"))
    except CrewMeterError:
        return
    assert found.tzinfo is UTC


def test_a_window_that_begins_in_the_future_is_refused():
    """A future start is a mistake (exit 2); a future end is not."""
    with pytest.raises(CrewMeterError, match="in the future") as refusal:
        window("2026-12-01", None, now=NOW)
    assert refusal.value.exit_code == 2
    with pytest.raises(CrewMeterError, match="is not before"):
        window("today", "yesterday", now=NOW)
    assert window("now", "2026-12-01", now=NOW)[1] == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_window_in_words_names_its_zone():
    """Titles say all time, an open end, and in which zone the times are."""
    since = datetime(2026, 11, 1, tzinfo=UTC)
    assert window_text(None, None) == "all time"
    assert window_text(since, None) == "2026-11-01 00:00 to now (UTC)"
    berlin = window_text(None, since, ZoneInfo("Europe/Berlin"))
    assert berlin == "up to 2026-11-01 01:00 (Europe/Berlin)"


def test_the_zone_comes_from_the_option_or_the_environment(monkeypatch):
    """--tz goes before CREWMETER_TZ; the error names which one is wrong."""
    monkeypatch.setenv("CREWMETER_TZ", "Asia/Kolkata")
    assert read_zone() == ZoneInfo("Asia/Kolkata")
    assert read_zone("UTC") is UTC
    with pytest.raises(CrewMeterError, match="--tz 'Mars/Base'"):
        read_zone("Mars/Base")
    monkeypatch.setenv("CREWMETER_TZ", "../etc")
    with pytest.raises(CrewMeterError, match="CREWMETER_TZ"):
        read_zone()
