"""``crewmeter budget set|list|status|remove``."""

from __future__ import annotations

import difflib
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import select

from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.repository import (
    BudgetStatus,
    budgets_of_environment,
    definition_document,
    history,
    in_force,
    remove,
    save,
    status,
    status_document,
    stored_since,
)
from crewmeter_cost.budgets.webhook import check_target
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    ZoneOption,
    must_exist,
    window,
    window_text,
    zone,
)
from crewmeter_cost.cli.output import (
    Amount,
    amount_texts,
    console,
    print_csv,
    print_json,
    print_table,
    usd,
)
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import moment, nanoseconds
from crewmeter_cost.time_range import zone_name

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
_SHORTEST_BAR = 6
_SHORTEST_LABEL = 24
"""Characters of a budget's label that are worth more than a longer bar."""
_MAX_NAMES = 20_000
"""Names that a budget's scope is looked for among."""

SetSinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only those set in the ledger from then on: 2026-11-01, 30d, today.",
    ),
]
SetUntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Only those set in the ledger before then."),
]
PeriodsOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Every period from then on, not only the current one: 2026-11-01, 30d, month.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="TIME", help="As of then, not now: what was spent later does not count."
    ),
]
_SET_HELP = (
    'Set a budget: "5 USD/day", "team:growth 500 USD/month", "agent:Researcher 0.10 USD/run". '
    "It gives notice; with --hard it stops calls."
)
_STATUS_HELP = (
    "Print what is spent of each budget; exit 1 where one is exceeded now (or as of --until)."
)
_EXAMPLE = 'crewmeter budget set "5 USD/day"'


def register(app: typer.Typer, line: str) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True)
    group.command("set", help=_SET_HELP)(_set)
    group.command("list", help="List the budgets in force, with their settings.")(_list)
    group.command("status", help=_STATUS_HELP)(_status)
    group.command("remove", help="Remove a budget by its name.")(_remove)
    app.add_typer(group, name="budget", help=line)


def _set(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help='"[SCOPE] AMOUNT USD/PERIOD".')],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call it.")] = "",
    hard: Annotated[
        bool,
        typer.Option("--hard", help="Stop calls over it, with BudgetExceeded in the app."),
    ] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Only give notice (the default).", hidden=True)
    ] = False,
    on_unknown: Annotated[
        str,
        typer.Option(
            "--on-unknown",
            metavar="allow|block",
            help="What a hard budget does where the spend cannot be known.",
        ),
    ] = "allow",
    timezone: Annotated[
        str,
        typer.Option(
            "--timezone", metavar="ZONE", help="Zone in which days, weeks and months are counted."
        ),
    ] = "UTC",
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", metavar="URL", help="Where to post notices at 50, 80, 100 %."),
    ] = None,
    ledger: LedgerOption = None,
) -> None:
    if hard and soft:
        raise CrewMeterError("--hard stands beside --soft", hint="give one of them")
    short = parse_budget(amount, where="budget set")
    definition: dict[str, object] = {
        "amount": short.amount_text,
        "scope": short.scope_text,
        "name": name,
        "hard": hard,
        "on_unknown": on_unknown,
        "timezone": timezone,
    }
    if webhook:
        definition["webhook"] = webhook
        check_target(webhook, allow_internal=True)
    budget = parse_budget(definition, where="budget set")
    with Ledger.open(ledger) as opened:
        replaced = save(opened.engine, budget, now_ns=time.time_ns())
        found = status(opened.engine, [budget], now=datetime.now(UTC))
        unknown = unknown_scope(opened, budget)
    kind = "hard: stops calls" if budget.hard else "soft: gives notice only, --hard stops calls"
    sys.stdout.write(f"{'changed' if replaced else 'set'}: {budget.label} ({kind})\n")
    for each in found:
        sys.stdout.write(f"{_already_spent(each)}\n")
    if unknown:
        sys.stderr.write(f"warning: {unknown}\n")


def _already_spent(each: BudgetStatus) -> str:
    """Return what a new budget has spent already, and what follows from it."""
    spent = f"{usd(each.spent_pusd)} of {usd(each.budget.amount_pusd)} spent in this period"
    share = f"{each.percent:,.0f} %"
    if not each.exceeded:
        return f"{spent} ({share})"
    consequence = "the next call is refused" if each.budget.hard else "calls go on"
    return f"already exceeded, {share}: {spent}; {consequence}"


def unknown_scope(ledger: Ledger, budget: Budget) -> str | None:
    """Return a warning where the ledger has never seen the name that a budget is for."""
    if budget.value is None:
        return None
    known = _names(ledger, budget.scope)
    if budget.value in known:
        return None
    near = difflib.get_close_matches(budget.value, known, n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"no call of {budget.scope} {budget.value!r} is in this ledger yet{meant}"


def _names(ledger: Ledger, kind: str) -> list[str]:
    """Return the names of one kind that the ledger has."""
    query = select(core_tables.label.c.value).where(core_tables.label.c.kind == kind)
    with ledger.reading() as connection:
        return [str(name) for name in connection.execute(query.limit(_MAX_NAMES)).scalars()]


def _list(
    ledger: LedgerOption = None,
    since: SetSinceOption = None,
    until: SetUntilOption = None,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
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
        {**definition_document(budget), "set_at": _moment_of(set_at.get(budget))}
        for budget in budgets
    ]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_DEFINITION, rows)
    elif budgets:
        _print_definitions(budgets, set_at)
    elif start is None and end is None:
        sys.stdout.write(f"no budgets; set one with: {_EXAMPLE}\n")
    else:
        span = window_text(start, end)
        sys.stdout.write(f"no budget of this ledger was set in {span}; set one: {_EXAMPLE}\n")


def _moment_of(set_ns: int | None) -> str | None:
    return None if set_ns is None else moment(set_ns)


def _print_definitions(budgets: Sequence[Budget], set_at: Mapping[Budget, int]) -> None:
    cells = [
        (
            each.label,
            each.amount_text,
            "hard" if each.hard else "soft",
            _set_in(set_at.get(each)),
        )
        for each in budgets
    ]
    columns = [("budget", "left"), ("amount", "right"), ("kind", "left"), ("set in", "left")]
    print_table("Budgets", columns, cells)


def _known(ledger: str | None) -> tuple[Mapping[Budget, int], tuple[Budget, ...]]:
    """Return when the ledger's budgets were set (unix ns), and all in force.

    Without a ledger, those of the environment.
    """
    file = sqlite_path(ledger_url(ledger))
    if ledger is None and file is not None and not file.exists():
        return {}, budgets_of_environment()
    with Ledger.open(ledger, read_only=True) as opened:
        return stored_since(opened.engine), in_force(opened.engine)


def _set_in(set_ns: int | None) -> str:
    if set_ns is None:
        return "environment"
    return f"ledger, {datetime.fromtimestamp(set_ns / 1e9, zone()):%Y-%m-%d}"


def _status(
    ledger: LedgerOption = None,
    since: PeriodsOption = None,
    until: AsOfOption = None,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    start, end = window(since, until)
    now = datetime.now(UTC)
    with Ledger.open(ledger, read_only=True) as opened:
        budgets = in_force(opened.engine)
        found = status(opened.engine, budgets, now=now, as_of=end)
        listed = found
        if start is not None:
            listed = history(opened.engine, budgets, since=start, until=end or now)
    rows = [status_document(each) for each in listed]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_STATUS, rows)
    elif not listed:
        sys.stdout.write(f"no budgets with a period; set one with: {_EXAMPLE}\n")
    else:
        _print_statuses(listed, as_of=end, periods=start is not None)
    if any(each.exceeded for each in found):
        raise typer.Exit(1)


def _remove(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The budget's name, as `budget list` prints it.")
    ],
    ledger: LedgerOption = None,
) -> None:
    must_exist(ledger)
    with Ledger.open(ledger) as opened:
        remove(opened.engine, name)
    sys.stdout.write(f"removed: {name}\n")


def _print_statuses(
    listed: Sequence[BudgetStatus], *, as_of: datetime | None, periods: bool
) -> None:
    """Print one line a status.

    The bar takes what the names leave, and goes where that is none.
    """
    when = "period" if periods else "resets"
    rows = []
    spent = amount_texts([Amount(each.spent_pusd) for each in listed])
    limits = amount_texts([Amount(each.budget.amount_pusd) for each in listed])
    for index, each in enumerate(listed):
        moment_text = _period_text(each) if periods else _resets(each)
        row = [
            each.budget.label,
            spent[index],
            limits[index],
            _share(each),
            moment_text,
        ]
        rows.append(row)
    others = 0
    for index in range(1, 5):
        others += max(len(row[index]) for row in rows)
    room = console().width - others - _SHORTEST_LABEL - 2 * 5
    bar = max(_SHORTEST_BAR, min(_BAR, room))
    for each, row in zip(listed, rows, strict=True):
        filled = min(bar, round(each.percent / 100 * bar))
        empty = bar - filled
        row.insert(3, "█" * filled + "░" * empty)
    columns = [
        ("budget", "name"),
        ("spent", "point"),
        ("limit", "point"),
        ("bar", "right"),
        ("", "right"),
        (when, "right"),
    ]
    title = "Budgets"
    if as_of is not None:
        title = f"Budgets as of {as_of.astimezone(zone()):%Y-%m-%d %H:%M} {zone_name(zone())}"
    print_table(title, columns, rows, drop=("bar", when))


def _share(each: BudgetStatus) -> str:
    mark = " exceeded" if each.exceeded else ""
    return f"{each.percent:,.0f} %{mark}"


def _resets(each: BudgetStatus) -> str:
    if each.resets_at is None:
        return "never"
    return f"{each.resets_at.astimezone(each.budget.zone):%d %b %H:%M}"


def _period_text(each: BudgetStatus) -> str:
    """Return the period of a status in words: ``November 2026``."""
    if each.since is None:
        return "all time"
    begin = each.since
    if each.budget.period != "hour":
        begin = begin.astimezone(each.budget.zone)
    forms = {"hour": "%d %b %H:00", "day": "%a %d %b", "week": "week of %d %b", "month": "%B %Y"}
    return begin.strftime(forms[each.budget.period])
