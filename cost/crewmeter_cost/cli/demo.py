"""``crewmeter demo``: see the meter work before pointing it at anything of yours."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from crewmeter_cost.cli.options import instant
from crewmeter_cost.cli.output import console
from crewmeter_cost.formatting import counted

__all__ = ["register"]

_CALLS_PER_DAY = 330


def register(app: typer.Typer, help: str) -> None:
    """Add ``demo`` to `app`."""

    @app.command("demo", help=help)
    def demo(
        ledger: Annotated[
            str | None,
            typer.Option(
                "--ledger",
                help="Where to write. Default: ~/.crewmeter/demo.db, apart from your own runs.",
            ),
        ] = None,
        days: Annotated[
            int | None,
            typer.Option(
                "--days", min=1, max=3660, help="Write so many days of imaginary history instead."
            ),
        ] = None,
        seed: Annotated[
            int, typer.Option("--seed", help="Which history: the same seed gives the same rows.")
        ] = 7,
        until: Annotated[
            str | None,
            typer.Option(
                "--until",
                help="Where the history ends: 2026-11-01, 2026-11-01T12:00Z, now (default).",
            ),
        ] = None,
        calls_per_day: Annotated[
            int,
            typer.Option(
                "--calls-per-day", min=1, max=10_000_000, help="Model calls on an average day."
            ),
        ] = _CALLS_PER_DAY,
    ) -> None:
        from crewmeter_cost.demo.command import demo_ledger

        where = ledger or demo_ledger()
        if days is None:
            _crew(
                Console(file=sys.stdout, highlight=False), where
            )  # this stdout, also while CrewAI's is muted
        else:
            now = datetime.now(UTC).replace(microsecond=0)
            end = now if until is None else instant(until, option="--until", now=now)
            _history(console(), where, days=days, seed=seed, until=end, calls_per_day=calls_per_day)


def _crew(out: Console, where: str) -> None:
    """A live crew, then its bill.

    Exit code 1 if the ledger and the stand-in's books differ.
    """
    from crewmeter_cost.cli.show import print_tree
    from crewmeter_cost.demo.command import perform
    from crewmeter_cost.demo.summary import money, next_steps, settle
    from crewmeter_cost.ledger.read.run_tree import run_tree
    from crewmeter_cost.ledger.read.runs import find_run
    from crewmeter_cost.ledger.store import Ledger

    out.print("[bold]A real CrewAI flow, against a stand-in for OpenAI on this machine.[/]")
    out.print(
        "No key is used and nothing leaves 127.0.0.1. The costs are what OpenAI would charge for these tokens.\n"
    )
    Ledger.open(
        where
    ).close()  # a ledger that cannot be written is said now, not after the crew has run
    with out.status("importing CrewAI and running the flow …"):
        played = perform(where)
    out.print("The crew wrote:", style="bold")
    out.print(f"{played.brief}\n", style="italic", markup=False)
    with Ledger.open(where, read_only=True) as ledger:
        found = find_run(ledger, "last")
        bill = money(
            out, ledger, "Where the money went", ["agent", "model"], since=played.began, until=None
        )
        out.print("\n[bold]Where the time went[/]")
        print_tree(run_tree(ledger, found))
    out.print()
    agreed = settle(out, bill, played.books)
    out.print()
    flag = f" --ledger {where}"
    next_steps(
        out,
        [
            (f"crewmeter show last{flag}", "this run again, as a tree"),
            (f"crewmeter report --by model{flag}", "the same sums by any of a dozen groups"),
            ("crewmeter demo --days 30", "a month of history to look around in"),
            ("crewmeter run your_app.py", "your own app, without changing a line"),
        ],
    )
    if not agreed:
        raise typer.Exit(1)


def _history(
    out: Console, where: str, *, days: int, seed: int, until: datetime, calls_per_day: int
) -> None:
    """Days of history with a progress bar, then where the money went."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from crewmeter_cost.demo.history.writer import load_history
    from crewmeter_cost.demo.summary import money, next_steps, spend_by_day
    from crewmeter_cost.ledger.store import Ledger

    columns = (
        TextColumn("writing {task.fields[days]} of history"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
    )
    with Ledger.open(where) as ledger:
        with Progress(*columns, console=out, transient=True) as progress:
            bar = progress.add_task("", total=1.0, days=counted(days, "day"))
            loaded = load_history(
                ledger,
                days=days,
                seed=seed,
                until=until,
                calls_per_day=calls_per_day,
                progress=lambda done: progress.update(bar, completed=done),
            )
        written = counted(loaded.new_calls, "new call")
        out.print(
            f"{counted(days, 'day')} of imaginary history, seed {seed}: {written} in {where}\n",
            soft_wrap=True,
        )
        since = until - timedelta(days=days)
        money(out, ledger, "Where the money went", ["model"], since=since, until=until)
        out.print()
        money(out, ledger, "Who spent it", ["team", "crew"], since=since, until=until)
        out.print()
        spend_by_day(out, ledger, since=max(since, until - timedelta(days=30)), until=until)
    out.print()
    flag = f" --ledger {where}"
    next_steps(
        out,
        [
            (f"crewmeter report --by team --by user{flag}", "who spent what"),
            (f"crewmeter runs --since 7d{flag}", "the runs of the last week"),
            (f"crewmeter open{flag}", "the boards, in a browser"),
        ],
    )
