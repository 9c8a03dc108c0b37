"""``crewmeter forecast``: month-end spend with a range, and unusual hours."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.analysis.budget_forecast import history_start, outlook, projection_document
from crewmeter_cost.analysis.forecast import Anomaly, Projection, anomalies
from crewmeter_cost.budgets.period import month_bounds
from crewmeter_cost.budgets.period_spend import hourly_pusd, names_since
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    instant,
    window,
    zone,
)
from crewmeter_cost.cli.output import (
    Amount,
    amount_texts,
    exact_usd,
    print_csv,
    print_json,
    print_table,
    usd,
)
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import utc_text
from crewmeter_cost.time_range import zone_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.ledger.session import Session

__all__ = ["register"]

_BY = ("crew", "agent", "model", "team", "user", "tag")
_COLUMNS = ("scope", "spent_usd", "expected_usd", "low_usd", "high_usd", "days_of_history")
_DAY = 24 * 3600


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("forecast", help=line)(_forecast)


def _forecast(
    by: Annotated[
        str | None, typer.Option("--by", help=f"Also one projection each: {', '.join(_BY)}.")
    ] = None,
    at: Annotated[str, typer.Option("--at", help="As of this moment (UTC).")] = "now",
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    if by is not None and by not in _BY:
        raise CrewMeterError(f"--by {by!r} has no forecast", hint=f"one of {', '.join(_BY)}")
    begin, end = window(since, until)  # the history to learn from; this month is always whole
    now = end or instant(
        at,
        option="--at",
        now=datetime.now(UTC),
    )
    here = zone()
    start = history_start(now, here)
    if begin is not None:
        month, _ = month_bounds(now, here)
        start = max(start, min(int(begin.timestamp()), month))
    with Ledger.open(ledger, read_only=True) as book, book.read_session() as session:
        scopes: list[tuple[str, str | None]] = [("everything", None)]
        if by is not None:
            scopes += [(by, name) for name in names_since(session, by, start)]
        projections = [
            (
                scope if name is None else f"{scope}:{name}",
                outlook(
                    session,
                    scope=scope,
                    name=name,
                    start=start,
                    now=now,
                    zone=here,
                ),
            )
            for scope, name in scopes
        ]
        odd = _anomalies(session, now)
    rows = [projection_document(scope, projection) for scope, projection in projections]
    if format is Format.JSON:
        print_json(
            {
                "as_of": utc_text(now),
                "currency": "USD",
                "rows": rows,
                "anomalies": [_odd(each) for each in odd],
            }
        )
    elif format is Format.CSV:
        print_csv(_COLUMNS, rows)
    else:
        _print(now, projections, odd)


def _anomalies(session: Session, now: datetime) -> list[Anomaly]:
    """Odd hours among the last 24 whole ones."""
    last = int(now.timestamp()) // 3600 * 3600
    hourly: Mapping[int, int] = hourly_pusd(
        session, scope="everything", value=None, start=last - 29 * _DAY, end=last
    )
    return anomalies(
        hourly,
        hours=list(range(last - _DAY, last, 3600)),
    )


def _odd(each: Anomaly) -> dict[str, object]:
    return {
        "hour": utc_text(datetime.fromtimestamp(each.hour, UTC)),
        "spent_usd": exact_usd(each.spent_pusd),
        "usual_usd": exact_usd(each.usual_pusd),
    }


def _print(now: datetime, projections: list[tuple[str, Projection]], odd: list[Anomaly]) -> None:
    local = now.astimezone(zone())
    headings = [
        ("scope", "name"),
        ("this month so far", "right"),
        ("month end", "right"),
        ("80 % interval", "right"),
        ("history", "right"),
    ]
    ends = [end for _, each in projections for end in (each.low_pusd, each.high_pusd)]
    texts = [text.strip() for text in amount_texts([Amount(end) for end in ends])]
    intervals = zip(texts[::2], texts[1::2], strict=True)
    cells = [
        (
            scope,
            Amount(each.spent_pusd),
            Amount(each.expected_pusd),
            f"{low} to {high}",
            counted(each.days_of_history, "day"),
        )
        for (scope, each), (low, high) in zip(projections, intervals, strict=True)
    ]
    print_table(
        f"Forecast for {local:%B %Y}, as of {local:%Y-%m-%d %H:%M} {zone_name(zone())}",
        headings,
        cells,
        drop=("history", "80 % interval"),
    )
    if not projections[0][1].days_of_history:
        sys.stdout.write("no whole day of history yet: the projection counts only what is spent\n")
    for each in odd:
        factor = (
            ""
            if each.ratio is None
            else f", {each.ratio:.1f} times the usual {usd(each.usual_pusd)}"
        )
        sys.stdout.write(
            f"unusual: {datetime.fromtimestamp(each.hour, zone()):%Y-%m-%d %H:00} spent "
            f"{usd(each.spent_pusd)}{factor}\n"
        )
