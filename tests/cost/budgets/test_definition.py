"""Budgets as people write them, and periods as calendars have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.plan import read_budgets
from crewmeter_cost.errors import CrewMeterError


@pytest.mark.parametrize(
    ("text", "pusd", "period", "scope", "value"),
    [
        ("0.002 USD/day", 2_000_000_000, "day", "everything", None),
        ("5/month", 5 * 10**12, "month", "everything", None),
        ("$5 per month", None, None, None, None),
        ("team:growth 500 USD/month", 500 * 10**12, "month", "team", "growth"),
        (
            "agent:Senior Research Analyst 0.5 usd/run",
            5 * 10**11,
            "run",
            "agent",
            "Senior Research Analyst",
        ),
        ("tag:env=prod 1,000 USD/week", 1000 * 10**12, "week", "tag", "env=prod"),
        ("1e-3 USD/hour", 10**9, "hour", "everything", None),
    ],
)
def test_a_short_form_says_amount_period_and_scope(text, pusd, period, scope, value):
    """The short form is `[scope] amount [USD]/period`; anything else is refused."""
    if pusd is None:
        with pytest.raises(CrewMeterError):
            parse_budget(text)
        return
    budget = parse_budget(text)
    assert (budget.amount_pusd, budget.period, budget.scope, budget.value) == (
        pusd,
        period,
        scope,
        value,
    )
    assert parse_budget(budget) is budget


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("nonsense", "nonsense"),
        ("-1 USD/day", "-1"),
        ("0 USD/day", "0"),
        ("5 USD/fortnight", "fortnight"),
        ("5 EUR/day", "EUR"),
        ("NaN USD/day", "NaN"),
        ("1e-13 USD/day", "1e-13"),
        ("99999999 USD/day", "99999999"),
        ("planet:mars 5 USD/day", "planet"),
        ("team: 5 USD/day", "team"),
        ("tag:env 5 USD/day", "env"),
        ("1,5 USD/day", "1,5"),
        ("1.000,50 USD/day", "1.000,50"),
        ("10,00 USD/day", "10,00"),
        ("1_5 USD/day", "1_5"),
        ("1,0000 USD/day", "1,0000"),
        ("1,,000 USD/day", "1,,000"),
        ("1.5.0 USD/day", "1.5.0"),
    ],
)
def test_a_bad_budget_is_refused_by_name(text, culprit):
    """The message names what is wrong and the hint says what would be right."""
    with pytest.raises(CrewMeterError) as refused:
        parse_budget(text)
    assert culprit in refused.value.message
    assert refused.value.hint


def test_a_file_lists_budgets_and_names_a_wrong_key(tmp_path):
    """TOML and YAML say the same; a wrong key is named with file and position."""
    toml = tmp_path / "budgets.toml"
    toml.write_text(
        '[[budget]]\namount = "5 USD/day"\n\n[[budget]]\nname = "growth"\namount = "500 '
        'USD/month"\nscope = "team:growth"\nhard = false\n'
    )
    first, second = read_budgets(str(toml))
    assert first == Budget(amount_pusd=5 * 10**12, period="day")
    assert (second.name, second.hard, second.value) == ("growth", False, "growth")
    yaml = tmp_path / "budgets.yaml"
    yaml.write_text("budget:\n  - amount: 5 USD/day\n    hrad: true\n")
    with pytest.raises(CrewMeterError) as refused:
        read_budgets(str(yaml))
    assert "hrad" in refused.value.message
    assert "budget 1" in refused.value.message


def test_two_amounts_for_one_scope_and_period_contradict():
    """Which one counts would be a guess, so neither is taken.

    A soft one beside a hard one is fine.
    """
    with pytest.raises(CrewMeterError, match="contradict"):
        read_budgets("5 USD/day; 7 USD/day")
    assert len(read_budgets("5 USD/day; 7 USD/month")) == 2


def test_an_unreadable_file_is_named():
    """A path that is not there is an error with the path, not a traceback."""
    with pytest.raises(CrewMeterError, match="nowhere"):
        read_budgets("/nowhere/budgets.toml")


def test_days_follow_the_calendar_over_a_clock_change():
    """Berlin's 25 October 2026 has 25 hours and 29 March 2026 has 23; an hour is always an hour."""
    berlin = ZoneInfo("Europe/Berlin")
    start, reset = bounds("day", datetime(2026, 10, 25, 12, tzinfo=UTC), berlin)
    assert reset - start == timedelta(hours=25)
    start, reset = bounds("day", datetime(2026, 3, 29, 12, tzinfo=UTC), berlin)
    assert reset - start == timedelta(hours=23)
    start, reset = bounds("hour", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), berlin)
    assert reset - start == timedelta(hours=1)


def test_months_and_weeks_end_where_calendars_say():
    """31 December rolls into January; a week starts on Monday."""
    start, reset = bounds("month", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), ZoneInfo("UTC"))
    assert (start, reset) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    start, reset = bounds("week", datetime(2026, 11, 22, 12, tzinfo=UTC), ZoneInfo("UTC"))
    assert (start, reset) == (
        datetime(2026, 11, 16, tzinfo=UTC),
        datetime(2026, 11, 23, tzinfo=UTC),
    )
    assert bounds("total", datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("UTC")) == (None, None)


@pytest.mark.parametrize("kind", ["toml", "yaml"])
def test_a_hostile_file_is_refused_at_once(tmp_path, kind):
    """Aliases that grow to gigabytes, and nesting without end, cost an error message."""
    path = tmp_path / f"budgets.{kind}"
    if kind == "yaml":
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        path.write_text("\n".join([*lines, "budget: *a11"]))
    else:
        path.write_text(f"budget = {'[' * 5000}{']' * 5000}")
    with pytest.raises(CrewMeterError):
        read_budgets(str(path))


def test_a_device_is_not_read_as_a_budgets_file():
    """/dev/zero never ends."""
    with pytest.raises(CrewMeterError, match="regular file"):
        read_budgets("/dev/zero")
