"""Alert rules on the ledger itself, evaluated by Grafana.

They need months of history or exact money, which metrics do not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_dashboards.panels.month_forecast import MONTH_END, TABLES

if TYPE_CHECKING:
    from crewmeter_dashboards.thresholds import Thresholds

__all__ = ["LedgerAlert", "ledger_alerts"]


@dataclass(frozen=True, slots=True)
class LedgerAlert:
    """One Grafana-managed rule: its query, its limit and its texts.

    `sql` gives one number. The rule fires while it is inside (`above`, `below`).

    `board` and `panel` say where its annotation leads.
    """

    uid: str
    title: str
    severity: str
    sql: str
    above: float
    below: float | None
    lasting: str
    runbook: str
    summary: str
    board: str
    panel: str


_TOTAL = "SELECT COALESCE(SUM(cost_usd), 0) FROM total_hourly WHERE time >= "
_MONTH = f"({_TOTAL}@month_start)"
_DAY = "time >= @now - 86400"
# The value of query A. Without dollar signs, in which Grafana's provisioning sees variables.
_SHARE = "{{ humanizePercentage .Values.A.Value }}"
_TIMES = '{{ printf "%.1f" .Values.A.Value }}'


def ledger_alerts(t: Thresholds) -> tuple[LedgerAlert, ...]:
    """Return every rule on the ledger, with the numbers of `t`."""
    return (*_month(t), _forecast(t), _unusual(t), _waste(t), _drift(t))


def _budget(t: Thresholds) -> str:
    return f"{t('spend', 'month_budget_usd'):,.0f} USD"


def _month(t: Thresholds) -> tuple[LedgerAlert, ...]:
    shares = t.month_shares
    budget = _budget(t)
    rules = []
    for share, following in zip(shares, (*shares[1:], None), strict=True):
        rules.append(
            LedgerAlert(
                uid=f"crewmeter-month-{share * 100:.0f}",
                title=f"Month to date passed {share:.0%} of the budget",
                severity="page" if following is None else "ticket",
                sql=f"SELECT 1.0 * {_MONTH} / NULLIF(@budget, 0) AS used",
                above=share,
                below=following,
                lasting="5m",
                runbook="month-to-date",
                summary=f"Spend this month is {_SHARE} of the budget of {budget} "
                f"(limit {share:.0%}).",
                board="spend",
                panel="budget_used",
            )
        )
    return tuple(rules)


def _forecast(t: Thresholds) -> LedgerAlert:
    return LedgerAlert(
        uid="crewmeter-forecast",
        title="Forecast over budget",
        severity="ticket",
        sql=f"WITH {TABLES}\nSELECT 1.0 * ({MONTH_END}) / NULLIF(@budget, 0) AS forecast",
        above=1.0,
        below=None,
        lasting="1h",
        runbook="forecast-over-budget",
        summary="At the pace of the last four weeks this month ends at "
        f"{_SHARE} of the budget of {_budget(t)} (limit 100%).",
        board="spend",
        panel="forecast_share",
    )


def _unusual(t: Thresholds) -> LedgerAlert:
    floor = f"{t('spend', 'usual_floor_usd'):g}"
    hour = "@now / 3600 * 3600 - 3600"
    weeks = ", ".join(f"{hour} - {week * 604800}" for week in (1, 2, 3))
    spent = f"({_TOTAL}{hour} AND time < {hour} + 3600)"
    usual = f"(SELECT SUM(cost_usd) / 3.0 FROM total_hourly WHERE time IN ({weeks}))"
    return LedgerAlert(
        uid="crewmeter-unusual",
        title="Last hour far above the same hour of the last weeks",
        severity="ticket",
        sql=f"SELECT CASE WHEN {spent} > {floor} THEN {spent} / NULLIF({usual}, 0) ELSE 0 END AS "
        "times_usual",
        above=t("spend", "usual_ratio"),
        below=None,
        lasting="0s",
        runbook="spend-unusual",
        summary=f"The last whole hour cost {_TIMES} times the mean of the same hour of the last "
        f"three weeks (limit {t('spend', 'usual_ratio'):g} times).",
        board="overview",
        panel="spend_by_crew",
    )


def _waste(t: Thresholds) -> LedgerAlert:
    failed = "SUM(CASE WHEN status IN ('error', 'abandoned') THEN cost_usd ELSE 0 END)"
    return LedgerAlert(
        uid="crewmeter-waste",
        title="Failed runs cost too much",
        severity="ticket",
        sql=(
            f"SELECT CASE WHEN {failed} > {t('spend', 'wasted_floor_usd'):g} THEN {failed} / "
            "NULLIF(SUM(cost_usd), 0)\n"
            f"  ELSE 0 END AS wasted FROM run_hourly WHERE {_DAY}"
        ),
        above=t("spend", "wasted_share"),
        below=None,
        lasting="30m",
        runbook="waste",
        summary=f"{_SHARE} of the cost of the last day went into runs that failed "
        f"(limit {t('spend', 'wasted_share'):.0%}).",
        board="spend",
        panel="waste_share",
    )


def _drift(t: Thresholds) -> LedgerAlert:
    return LedgerAlert(
        uid="crewmeter-price-drift",
        title="Our cost and the providers' own cost drift apart",
        severity="ticket",
        sql=(
            f"SELECT CASE WHEN SUM(reported_cost_usd) > {t('spend', 'price_drift_floor_usd'):g}\n"
            "  THEN ABS(SUM(cost_usd) / NULLIF(SUM(reported_cost_usd), 0) - 1.0) ELSE 0 END AS "
            "drift\n"
            f"FROM calls WHERE {_DAY} AND reported_cost_usd IS NOT NULL"
        ),
        above=t("spend", "price_drift_share"),
        below=None,
        lasting="1h",
        runbook="price-drift",
        summary="What providers report for the calls of the last day differs by "
        f"{_SHARE} from what the price book says (limit {t('spend', 'price_drift_share'):.1%}).",
        board="spend",
        panel="reported",
    )
