"""``crewmeter doctor``.

Does everything hang together here, and if not, what to do.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption
from crewmeter_cost.cli.output import console, print_csv, print_json
from crewmeter_cost.doctor import FAILED, NOTE, OK, Finding, examine
from crewmeter_cost.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["register"]

_MARKS = {OK: ("✓", "green"), NOTE: ("!", "yellow"), FAILED: ("✗", "bold red")}


def register(app: typer.Typer, help: str) -> None:
    """Add the command to `app`."""

    @app.command("doctor", help=help)
    def doctor(
        ledger: LedgerOption = None,
        quick: Annotated[
            bool,
            typer.Option(
                "--quick", help="Don't switch the meter on beside CrewAI, which takes some seconds."
            ),
        ] = False,
        format: FormatOption = Format.TABLE,
    ) -> None:
        findings = examine(
            os.environ,
            ledger=ledger,
            switch_on=not quick,
        )
        made = _show(findings) if format is Format.TABLE else list(findings)
        count = sum(finding.status == FAILED for finding in made)
        if format is Format.JSON:
            print_json(
                {
                    "failed": count,
                    "checks": [asdict(finding) for finding in made],
                }
            )
        elif format is Format.CSV:
            print_csv(
                ["check", "status", "says", "hint"],
                [asdict(finding) for finding in made],
            )
        if count:
            raise typer.Exit(1)


def _show(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it is made, and return them all."""
    out = console()
    made: list[Finding] = []
    for finding in findings:
        mark, style = _MARKS[finding.status]
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=13)
        line.add_column(overflow="fold")
        line.add_row(
            Text(mark, style),
            Text(finding.check, "bold"),
            Text(finding.says),
        )
        if finding.hint:
            line.add_row(
                "",
                "",
                Text.assemble(("→ ", "cyan"), finding.hint),
            )
        out.print(line)
        made.append(finding)
    out.print()
    out.print(Text(_summary(made), style="bold"))
    return made


def _summary(made: Sequence[Finding]) -> str:
    """Return the counts in words: ``8 passed``, ``1 failed, 2 warnings, 5 passed``."""
    failures = sum(finding.status == FAILED for finding in made)
    notes = sum(finding.status == NOTE for finding in made)
    parts = [f"{len(made) - failures - notes} passed"]
    if notes:
        parts.insert(0, counted(notes, "warning"))
    if failures:
        parts.insert(0, f"{failures} failed")
    return ", ".join(parts)
