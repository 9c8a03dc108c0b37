"""``crewmeter budget set|list|status|remove``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.repository import (
    BudgetStatus,
    budgets_of_environment,
    history,
    in_force,
    remove,
    save,
    status,
    stored_since,
)
from crewmeter_cost.budgets.status_document import definition_document, status_document
from crewmeter_cost.budgets.webhook import check_target
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    must_exist,
    window,
    window_text,
)
from crewmeter_cost.cli.output import console, print_csv, print_json, print_table, usd
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["register"]

_DEFINITION = (
    "budget",
    "scope",
    "amount_usd",
    "period",
    "hard",
    "on_unknown",
    "timezone",
    "webhook",
    "set_at",
)
_STATUS = (
    "budget",
    "scope",
    "period",
    "spent_usd",
    "amount_usd",
    "percent",
    "exceeded",
    "starts_at",
    "resets_at",
)
_BAR = 20
"""Characters of the bar where there is room."""

SetSinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", help="Only those set in the ledger from then on: 2026-11-01, 30d, today."
    ),
]
SetUntilOption = Annotated[
    str | None, typer.Option("--until", help="Only those set in the ledger before then.")
]
PeriodsOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Every period from then on, not only the current one: 2026-11-01, 30d, month.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--until", help="As of then, not now: what was spent later does not count."),
]


def register(app: typer.Typer, line: str) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True)
    group.command(
        "set",
        help='Set a budget: "5 USD/day", "team:growth 500 USD/month", "agent:Researcher 0.10 USD/run".',
    )(_set)
    group.command("list", help="The budgets in force, with their settings.")(_list)
    group.command(
        "status",
        help="What is spent of each budget; exit code 1 where one is exceeded now (or as of --until).",
    )(_status)
    group.command("remove", help="Remove a budget by its name.")(_remove)
    app.add_typer(group, name="budget", help=line)


def _set(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help='"[SCOPE] AMOUNT USD/PERIOD".')],
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    soft: Annotated[
        bool, typer.Option("--soft", help="Give notice only, never stop a call.")
    ] = False,
    on_unknown: Annotated[
        str, typer.Option(help="allow or block, where the spend can't be known.")
    ] = "allow",
    timezone: Annotated[
        str, typer.Option(help="IANA zone in which days, weeks and months are counted.")
    ] = "UTC",
    webhook: Annotated[
        str | None, typer.Option(help="Where to post notices at 50, 80 and 100 %.")
    ] = None,
    ledger: LedgerOption = None,
) -> None:
    short = parse_budget(amount, where="budget set")
    scope = short.scope if short.value is None else f"{short.scope}:{short.value}"
    options = {"name": name, "hard": not soft, "on_unknown": on_unknown, "timezone": timezone}
    budget = parse_budget(
        {
            "amount": short.amount_text,
            "scope": scope,
            **options,
            **({"webhook": webhook} if webhook else {}),
        },
        where="budget set",
    )
    if webhook:
        check_target(webhook, allow_internal=True)
    with Ledger.open(ledger) as book:
        replaced = save(book.engine, budget, now_ns=time.time_ns())
    sys.stdout.write(
        f"{'changed' if replaced else 'set'}: {budget.label} ({'hard' if budget.hard else 'soft'})\n"
    )


def _list(
    ledger: LedgerOption = None,
    since: SetSinceOption = None,
    until: SetUntilOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    start, end = window(since, until)
    set_at, budgets = _known(ledger)
    if start is not None or end is not None:
        first, last = nanoseconds(start) or 0, nanoseconds(end)
        budgets = tuple(
            each
            for each in budgets
            if first <= set_at.get(each, -1) and (last is None or set_at.get(each, -1) < last)
        )
    rows = [
        {
            **definition_document(budget),
            "set_at": moment(set_at[budget]) if budget in set_at else None,
        }
        for budget in budgets
    ]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_DEFINITION, rows)
    elif not budgets:
        none = (
            "no budgets"
            if start is None and end is None
            else f"no budget of this ledger was set in {window_text(start, end)}"
        )
        sys.stdout.write(f'{none}; set one with: crewmeter budget set "5 USD/day"\n')
    else:
        cells = [
            (
                each.label,
                each.amount_text,
                "hard" if each.hard else "soft",
                _set_in(set_at.get(each)),
            )
            for each in budgets
        ]
        print_table(
            "Budgets",
            [("budget", "left"), ("amount", "right"), ("kind", "left"), ("set in", "left")],
            cells,
        )


def _known(ledger: str | None) -> tuple[Mapping[Budget, int], tuple[Budget, ...]]:
    """When each of the ledger's budgets was set (unix nanoseconds), and all in force; without a ledger, those of the environment."""
    file = sqlite_path(ledger_url(ledger))
    if ledger is None and file is not None and not file.exists():
        return {}, budgets_of_environment()
    with Ledger.open(ledger, read_only=True) as book:
        return stored_since(book.engine), in_force(book.engine)


def _set_in(set_ns: int | None) -> str:
    return (
        "environment"
        if set_ns is None
        else f"ledger, {datetime.fromtimestamp(set_ns / 1e9, UTC):%Y-%m-%d}"
    )


def _status(
    ledger: LedgerOption = None,
    since: PeriodsOption = None,
    until: AsOfOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    start, end = window(since, until)
    now = datetime.now(UTC)
    with Ledger.open(ledger, read_only=True) as book:
        budgets = in_force(book.engine)
        found = status(book.engine, budgets, now=now, as_of=end)
        listed = (
            found if start is None else history(book.engine, budgets, since=start, until=end or now)
        )
    rows = [status_document(each) for each in listed]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_STATUS, rows)
    elif not listed:
        sys.stdout.write(
            'no budgets with a period; set one with: crewmeter budget set "5 USD/day"\n'
        )
    else:
        _print_standings(listed, as_of=end, periods=start is not None)
    if any(each.exceeded for each in found):
        raise typer.Exit(1)


def _remove(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The budget's name, as `budget list` shows it.")
    ],
    ledger: LedgerOption = None,
) -> None:
    must_exist(ledger)
    with Ledger.open(ledger) as book:
        remove(book.engine, name)
    sys.stdout.write(f"removed: {name}\n")


def _print_standings(
    listed: Sequence[BudgetStatus], *, as_of: datetime | None, periods: bool
) -> None:
    """One line a standing. The bar takes what the names leave, so that it never breaks."""
    beside = [
        (each.budget.label, _spoken_period(each) if periods else _resets(each), *_figures(each))
        for each in listed
    ]
    headings = ("budget", "period" if periods else "resets", "spent", "limit", "")
    widths = [
        max(len(heading), *(len(cells[index]) for cells in beside))
        for index, heading in enumerate(headings)
    ]
    bar = max(6, min(_BAR, console().width - sum(widths) - 2 * len(headings)))
    cells = []
    for each, (name, when, spent, limit, share) in zip(listed, beside, strict=True):
        filled = min(bar, round(each.percent / 100 * bar))
        cells.append((name, spent, limit, "█" * filled + "░" * (bar - filled), share, when))
    columns = [
        ("budget", "left"),
        *((heading, "right") for heading in ("spent", "limit", "", "", headings[1])),
    ]
    title = "Budgets" if as_of is None else f"Budgets as of {as_of:%Y-%m-%d %H:%M} UTC"
    print_table(title, columns, cells)


def _figures(each: BudgetStatus) -> tuple[str, str, str]:
    mark = " exceeded" if each.exceeded else ""
    return usd(each.spent_pusd), usd(each.budget.amount_pusd), f"{each.percent:,.0f} %{mark}"


def _resets(each: BudgetStatus) -> str:
    return (
        "never"
        if each.resets_at is None
        else f"{each.resets_at.astimezone(each.budget.zone):%d %b %H:%M}"
    )


def _spoken_period(each: BudgetStatus) -> str:
    if each.since is None:
        return "all time"
    begin = each.since if each.budget.period == "hour" else each.since.astimezone(each.budget.zone)
    forms = {"hour": "%d %b %H:00", "day": "%a %d %b", "week": "week of %d %b", "month": "%B %Y"}
    return begin.strftime(forms[each.budget.period])
