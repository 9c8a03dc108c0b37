"""``crewmeter budget set|list|status|remove``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.store import Status, in_force, kept, remove, save, status
from crewmeter_cost.budgets.webhook import check_target
from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption
from crewmeter_cost.cli.output import exact_usd, print_csv, print_json, print_table, usd
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["register"]

_DEFINITION = ("budget", "scope", "amount_usd", "period", "hard", "on_unknown", "timezone", "webhook")
_STATUS = ("budget", "scope", "period", "spent_usd", "amount_usd", "percent", "exceeded", "resets_at")


def register(app: typer.Typer, line: str) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True)
    group.command("set", help='Set a budget: "5 USD/day", "team:growth 500 USD/month", "agent:Researcher 0.10 USD/run".')(_set)
    group.command("list", help="The budgets in force, with their settings.")(_list)
    group.command("status", help="What is spent of each budget; exit code 1 where one is exceeded.")(_status)
    group.command("remove", help="Remove a budget by its name.")(_remove)
    app.add_typer(group, name="budget", help=line)


def _set(
    amount: Annotated[str, typer.Argument(help='"[SCOPE] AMOUNT USD/PERIOD".')],
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    soft: Annotated[bool, typer.Option("--soft", help="Give notice only, never stop a call.")] = False,
    on_unknown: Annotated[str, typer.Option(help="allow or block, where the spend can't be known.")] = "allow",
    timezone: Annotated[str, typer.Option(help="IANA zone in which days, weeks and months are counted.")] = "UTC",
    webhook: Annotated[str | None, typer.Option(help="Where to post notices at 50, 80 and 100 %.")] = None,
    ledger: LedgerOption = None,
) -> None:
    short = parse_budget(amount, where="budget set")
    scope = short.scope if short.value is None else f"{short.scope}:{short.value}"
    options = {"name": name, "hard": not soft, "on_unknown": on_unknown, "timezone": timezone}
    budget = parse_budget(
        {"amount": short.amount_text, "scope": scope, **options, **({"webhook": webhook} if webhook else {})}, where="budget set"
    )
    if webhook:
        check_target(webhook, allow_internal=True)
    with Ledger.open(ledger) as book:
        replaced = save(book.engine, budget, now_ns=time.time_ns())
    sys.stdout.write(f"{'changed' if replaced else 'set'}: {budget.label} ({'hard' if budget.hard else 'soft'})\n")


def _list(ledger: LedgerOption = None, format: FormatOption = Format.TABLE) -> None:
    with Ledger.open(ledger) as book:
        budgets = in_force(book.engine)
        shared = set(kept(book.engine))
    rows = [_definition(budget) for budget in budgets]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_DEFINITION, rows)
    elif not budgets:
        sys.stdout.write('no budgets; set one with: crewmeter budget set "5 USD/day"\n')
    else:
        cells = [
            (budget.label, budget.amount_text, "hard" if budget.hard else "soft", "ledger" if budget in shared else "environment")
            for budget in budgets
        ]
        print_table("Budgets", [("budget", "left"), ("amount", "right"), ("kind", "left"), ("set in", "left")], cells)


def _status(ledger: LedgerOption = None, format: FormatOption = Format.TABLE) -> None:
    with Ledger.open(ledger) as book:
        found = status(book.engine, in_force(book.engine), now=datetime.now(UTC))
    rows = [_standing(each) for each in found]
    if format is Format.JSON:
        print_json({"budgets": rows})
    elif format is Format.CSV:
        print_csv(_STATUS, rows)
    elif not found:
        sys.stdout.write('no budgets with a period; set one with: crewmeter budget set "5 USD/day"\n')
    else:
        _print_standings(found)
    if any(each.exceeded for each in found):
        raise typer.Exit(1)


def _remove(
    name: Annotated[str, typer.Argument(help="The budget's name, as `budget list` shows it.")], ledger: LedgerOption = None
) -> None:
    with Ledger.open(ledger) as book:
        remove(book.engine, name)
    sys.stdout.write(f"removed: {name}\n")


def _print_standings(found: Sequence[Status]) -> None:
    bar = 20
    cells = []
    for each in found:
        filled = min(bar, round(each.percent / 100 * bar))
        resets = "never" if each.resets_at is None else each.resets_at.astimezone(each.budget.zone).strftime("%d %b %H:%M")
        mark = " exceeded" if each.exceeded else ""
        cells.append(
            (
                each.budget.label,
                usd(each.spent_pusd),
                usd(each.budget.amount_pusd),
                "█" * filled + "░" * (bar - filled),
                f"{each.percent:.0f} %{mark}",
                resets,
            )
        )
    headings = [("budget", "left"), ("spent", "right"), ("limit", "right"), ("", "left"), ("", "right"), ("resets", "left")]
    print_table("Budgets", headings, cells)


def _definition(budget: Budget) -> dict[str, object]:
    return {
        "budget": budget.label,
        "scope": budget.scope if budget.value is None else f"{budget.scope}:{budget.value}",
        "amount_usd": exact_usd(budget.amount_pusd),
        "period": budget.period,
        "hard": budget.hard,
        "on_unknown": budget.on_unknown,
        "timezone": budget.timezone,
        "webhook": budget.webhook,
    }


def _standing(each: Status) -> dict[str, object]:
    about = _definition(each.budget)
    return {
        "budget": about["budget"],
        "scope": about["scope"],
        "period": about["period"],
        "spent_usd": exact_usd(each.spent_pusd),
        "amount_usd": about["amount_usd"],
        "percent": round(each.percent, 2),
        "exceeded": each.exceeded,
        "resets_at": None if each.resets_at is None else each.resets_at.isoformat(),
    }
