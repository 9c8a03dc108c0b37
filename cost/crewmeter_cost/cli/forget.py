"""``crewmeter forget --user NAME``: a person's name becomes a pseudonym.

Every sum stays.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption, must_exist
from crewmeter_cost.cli.output import print_csv, print_json
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.maintenance.forget import forget_user
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.ledger.maintenance.forget import Forgotten

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("forget", help=help)(_forget)


def _forget(
    user: Annotated[
        str,
        typer.Option(
            "--user",
            metavar="NAME",
            help="The user, as `report --by user` has it.",
        ),
    ],
    ledger: LedgerOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    must_exist(ledger)
    with Ledger.open(ledger, read_only=dry_run) as opened:
        done = forget_user(opened, user, dry_run=dry_run)
    document = {**asdict(done), "dry_run": dry_run}
    if dry_run:
        document["pseudonym"] = None
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(list(document), [document])
    else:
        _print(done, dry_run=dry_run)
    if not done.file_cleaned:
        sys.stderr.write(
            "note: another process reads the ledger, so its log still holds old pages; "
            "run the command again when it is closed\n"
        )


def _print(done: Forgotten, *, dry_run: bool) -> None:
    parts = [
        counted(done.calls, "call"),
        counted(done.runs, "run"),
        counted(done.tag_sets, "tag set"),
        counted(done.budgets, "budget"),
    ]
    verb = "would get a pseudonym" if dry_run else f"now belong to {done.pseudonym}"
    sys.stdout.write(f"{', '.join(parts)} {verb}; all sums stay\n")
    if done.contents:
        verb = "would be deleted" if dry_run else "deleted"
        sys.stdout.write(f"{counted(done.contents, 'captured text')} {verb}\n")
    sys.stdout.write(
        "not covered: names in run, task or session names, copies in ClickHouse, exports and "
        "backups, and new calls of an app that still sends the name\n"
    )
