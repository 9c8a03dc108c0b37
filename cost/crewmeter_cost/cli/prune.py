"""``crewmeter prune``: delete old detail.

The hourly sums stay.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    ZoneOption,
    instant,
    must_exist,
)
from crewmeter_cost.cli.output import print_csv, print_json
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.maintenance.prune import prune, would_prune
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from crewmeter_cost.ledger.maintenance.prune import Pruned

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("prune", help=help)
    def command(
        keep: Annotated[
            str,
            typer.Option(
                "--keep", help="Keep detail younger than this: 90d, 12w, or from a date on."
            ),
        ],
        ledger: LedgerOption = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
        format: FormatOption = Format.TABLE,
        tz: ZoneOption = None,
    ) -> None:
        before = instant(
            keep,
            option="--keep",
            now=datetime.now(UTC),
        )
        must_exist(ledger)
        with Ledger.open(ledger, read_only=dry_run) as book:
            expected = would_prune(book, before, with_content=dry_run)
            if dry_run:
                _print(expected, format, "would be deleted")
                return
            with Progress(
                disable=not sys.stderr.isatty(),
                transient=True,
            ) as progress:
                task = progress.add_task(
                    "pruning", total=expected.calls + expected.steps + expected.runs
                )
                done = prune(
                    book,
                    before,
                    progress=lambda rows: progress.advance(task, rows),
                )
        _print(done, format, "deleted; hourly sums stay")


def _print(pruned: Pruned, format: Format, verb: str) -> None:
    document = {
        "before": moment(nanoseconds(pruned.before) or 0),
        "calls": pruned.calls,
        "steps": pruned.steps,
        "runs": pruned.runs,
        "contents": pruned.contents,
    }
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(list(document), [document])
    else:
        counts = (
            f"{counted(pruned.calls, 'call')}, {counted(pruned.steps, 'step')} and "
            f"{counted(pruned.runs, 'run')}"
        )
        if pruned.contents:
            counts += f", with {counted(pruned.contents, 'captured text')},"
        sys.stdout.write(f"{counts} from before {pruned.before:%Y-%m-%d %H:%M} UTC {verb}\n")
