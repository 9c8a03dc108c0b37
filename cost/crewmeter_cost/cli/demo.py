"""``crewmeter demo``: see the meter work before pointing it at anything of yours."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crewmeter_cost.cli.options import ZoneOption, instant
from crewmeter_cost.cli.output import console
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter_cost.demo.command import Performance

__all__ = ["register"]

_CALLS_PER_DAY = 330
_ABOUT = (
    "No key is used and nothing leaves 127.0.0.1. The costs are what OpenAI would charge for these "
    "tokens.\n"
)


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("demo", help=help)(_demo)


def _demo(
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="URL",
            help="Where to write. Default: to $OTEL_EXPORTER_OTLP_ENDPOINT, else "
            "~/.crewmeter/demo.db, apart from your own runs.",
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            "--days", min=1, max=3660, metavar="N", help="Write so many days of sample data."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Which sample data: one seed gives one history.",
        ),
    ] = 7,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="Where the sample data ends: 2026-11-01, now (default)."
        ),
    ] = None,
    calls_per_day: Annotated[
        int,
        typer.Option(
            "--calls-per-day",
            min=1,
            max=10_000_000,
            metavar="N",
            help="Model calls on an average day.",
        ),
    ] = _CALLS_PER_DAY,
    tz: ZoneOption = None,
) -> None:
    from crewmeter_cost.demo.command import demo_ledger
    from crewmeter_cost.demo.otlp_export import otlp_endpoint

    endpoint = None if ledger else otlp_endpoint()
    where = ledger or demo_ledger()
    if days is None:
        # This stdout is used also while CrewAI's own output is muted.
        out = Console(file=sys.stdout, highlight=False)
        if endpoint is None:
            _crew(out, where)
        else:
            _crew_to(out, endpoint)
        return
    now = datetime.now(UTC).replace(microsecond=0)
    end = now if until is None else instant(until, option="--until", now=now)
    sample = _Sample(days, seed, end, calls_per_day)
    if endpoint is None:
        _history(console(), where, sample)
    else:
        _history_to(console(), endpoint, sample)


class _Sample:
    """Which sample data to write."""

    def __init__(self, days: int, seed: int, until: datetime, calls_per_day: int) -> None:
        self.days = days
        self.seed = seed
        self.until = until
        self.calls_per_day = calls_per_day

    @property
    def since(self) -> datetime:
        """Where the sample data begins."""
        return self.until - timedelta(days=self.days)

    @property
    def text(self) -> str:
        """What it is, for messages."""
        return f"{counted(self.days, 'day')} of sample data, seed {self.seed}"


def _run_crew(out: Console, ledger: str | None) -> Performance:
    """Run the crew and print what it wrote."""
    from crewmeter_cost.demo.command import perform

    out.print("[bold]A real CrewAI flow, against a fake OpenAI on this machine.[/]")
    out.print(_ABOUT)
    with out.status("importing CrewAI and running the flow …"):
        played = perform(ledger)
    out.print("The crew wrote:", style="bold")
    out.print(
        f"{played.brief}\n",
        style="italic",
        markup=False,
    )
    return played


def _crew(out: Console, where: str) -> None:
    """Run the crew and print its bill.

    The exit code is 1 where the fake provider billed something else.
    """
    from crewmeter_cost.cli.demo_summary import agrees, money, next_steps
    from crewmeter_cost.cli.show import print_tree
    from crewmeter_cost.ledger.read.run_tree import run_tree
    from crewmeter_cost.ledger.read.runs import find_run
    from crewmeter_cost.ledger.store import Ledger

    # A ledger that cannot be written is reported now, not after the crew has run.
    Ledger.open(where).close()
    played = _run_crew(out, where)
    with Ledger.open(where, read_only=True) as ledger:
        found = find_run(ledger, "last")
        groups = ["agent", "model"]
        bill = money(
            out,
            ledger,
            "Where the money went",
            groups,
            since=played.began,
            until=None,
        )
        out.print("\n[bold]Where the time went[/]")
        print_tree(run_tree(ledger, found))
    out.print()
    agreed = agrees(out, bill, played.billing_log)
    out.print()
    flag = f" --ledger {where}"
    next_steps(
        out,
        [
            (f"crewmeter show last{flag}", "this run again, as a tree"),
            (f"crewmeter report --by model{flag}", "the same sums by any of a dozen groups"),
            ("crewmeter demo --days 30", "a month of sample data to look around in"),
            ("crewmeter run your_app.py", "your own app, without changing a line"),
        ],
    )
    if not agreed:
        raise typer.Exit(1)


def _crew_to(out: Console, endpoint: str) -> None:
    """Run the crew and send its spans to an endpoint.

    Exit 1 where it does not take them.
    """
    from crewmeter_cost.cli.demo_summary import billed_text

    played = _run_crew(out, None)
    out.print(f"The fake provider's billing log: {billed_text(played.billing_log)}.")
    if not played.delivered:
        raise CrewMeterError(
            f"{endpoint} did not take the spans",
            hint="check the endpoint with `crewmeter doctor`, or give --ledger demo.db",
            exit_code=1,
        )
    out.print(f"Its spans went to {endpoint}; reports and boards are there.", markup=False)


def _history(out: Console, where: str, sample: _Sample) -> None:
    """Write days of sample data into a ledger, then print where the money went."""
    from crewmeter_cost.cli.demo_summary import money, next_steps, spend_by_day
    from crewmeter_cost.demo.history.load import load_history
    from crewmeter_cost.ledger.store import Ledger

    with Ledger.open(where) as ledger:

        def write(progress: Callable[[float], None]) -> int:
            loaded = load_history(
                ledger,
                days=sample.days,
                seed=sample.seed,
                until=sample.until,
                calls_per_day=sample.calls_per_day,
                progress=progress,
            )
            return loaded.new_calls

        written = counted(_with_progress(out, sample, write), "new call")
        out.print(
            f"{sample.text}: {written} in {where}\n",
            soft_wrap=True,
        )
        since = sample.since
        until = sample.until
        money(
            out,
            ledger,
            "Where the money went",
            ["model"],
            since=since,
            until=until,
        )
        out.print()
        money(
            out,
            ledger,
            "Who spent it",
            ["team", "crew"],
            since=since,
            until=until,
        )
        out.print()
        month = max(
            since,
            until - timedelta(days=30),
        )
        spend_by_day(out, ledger, since=month, until=until)
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


def _history_to(out: Console, endpoint: str, sample: _Sample) -> None:
    """Send days of sample data to an endpoint."""
    from crewmeter_cost.demo.otlp_export import send_history

    def send(progress: Callable[[float], None]) -> int:
        return send_history(
            days=sample.days,
            seed=sample.seed,
            until=sample.until,
            calls_per_day=sample.calls_per_day,
            progress=progress,
        )

    sent = counted(_with_progress(out, sample, send), "span")
    out.print(
        f"{sample.text}: {sent} sent to {endpoint}",
        markup=False,
        soft_wrap=True,
    )


def _with_progress(
    out: Console, sample: _Sample, work: Callable[[Callable[[float], None]], int]
) -> int:
    """Do the work with a progress bar.

    `work` reports the share that is done.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("writing {task.fields[days]} of sample data"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as progress:
        bar = progress.add_task(
            "",
            total=1.0,
            days=counted(sample.days, "day"),
        )
        return work(lambda done: progress.update(bar, completed=done))
