"""The month-end forecast as SQL.

It is the rule of `crewmeter_cost.analysis.forecast`, which a test holds it to: every hour still to
come is expected to cost what the same hour of the week cost in the mean of the last four weeks.
"""

from __future__ import annotations

from crewmeter_dashboards import sql_sources

__all__ = ["MONTH_END", "MONTH_FACTS", "TABLES"]

_DAY = 86400
_WEEK = 7 * _DAY
_THIS_HOUR = "@to / 3600 * 3600"
# A week more than is averaged, so that an idle weekend is not taken for the beginning.
_LOOK_BACK = 35 * _DAY
_PAST_ROWS = sql_sources.TOTAL.rows(
    "cost_usd", since=f"({_THIS_HOUR} - {_LOOK_BACK})", until=f"({_THIS_HOUR})"
)


def _weeks_before(moment: str) -> str:
    """Return whole weeks from an hour to a moment, without a division that may round."""
    distance = f"({moment} - hour)"
    return f"({distance} - {distance} % {_WEEK}) / {_WEEK}"


_REPEATS = f"({_weeks_before('@month_end - 1')} - {_weeks_before('this_hour')})"
"""How often an hour of the week is still to come this month."""

MONTH_FACTS = f"facts AS ({sql_sources.TOTAL.rows('cost_usd', since='@month_start')})"
"""A CTE: this month's rows."""

TABLES = f"""{MONTH_FACTS},
past AS (SELECT time / 3600 * 3600 AS hour, {_THIS_HOUR} AS this_hour, SUM(cost_usd) AS cost
  FROM ({_PAST_ROWS}) AS rows_before GROUP BY 1, 2),
known AS (SELECT MAX(this_hour) - MIN(hour) AS seconds FROM past),
weeks AS (SELECT seconds, CASE WHEN seconds >= {4 * _WEEK} THEN 4 WHEN seconds >= {3 * _WEEK} THEN 3
  WHEN seconds >= {2 * _WEEK} THEN 2 ELSE 1 END AS n FROM known),
rest AS (SELECT CASE WHEN MAX(seconds) < {_DAY} THEN 0.0
  WHEN MAX(seconds) < {_WEEK} THEN SUM(cost) * (@month_end - MAX(this_hour) - 3600) / MAX(seconds)
  ELSE SUM(CASE WHEN this_hour - hour <= n * {_WEEK} THEN cost * {_REPEATS} ELSE 0.0 END) / MAX(n)
  END AS cost FROM past CROSS JOIN weeks)"""
"""CTEs that `MONTH_END` reads."""

MONTH_END = "(SELECT COALESCE(SUM(cost_usd), 0) FROM facts) + COALESCE((SELECT cost FROM rest), 0)"
"""Expected spend of the whole month in USD."""
