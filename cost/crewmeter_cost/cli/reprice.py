"""``crewmeter reprice``.

The history under today's book, before and after by model, and the way back.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    must_exist,
    window,
)
from crewmeter_cost.cli.output import (
    Cell,
    cost_amount,
    print_csv,
    print_json,
    print_table,
)
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.maintenance.reprice import reprice, undo
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import exact_usd
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from crewmeter_cost.ledger.maintenance.reprice import ModelChange, Repriced

__all__ = ["register"]

_COLUMNS = (
    "provider",
    "model",
    "calls",
    "changed_calls",
    "before_usd",
    "after_usd",
    "difference_usd",
    "unpriced_before",
    "unpriced_after",
)


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("reprice", help=help)
    def command(
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what would change.")
        ] = False,
        undo_job: Annotated[
            int | None,
            typer.Option(
                "--undo",
                metavar="ID",
                help="Set back what this repricing changed.",
            ),
        ] = None,
        reason: Annotated[
            str, typer.Option("--reason", help="Stored with the adjustments, for the auditors.")
        ] = "",
        format: FormatOption = Format.TABLE,
        tz: ZoneOption = None,
    ) -> None:
        start, end = window(since, until)
        must_exist(ledger)
        with Ledger.open(ledger, read_only=dry_run) as book:
            if undo_job is not None:
                undone = undo(book, undo_job)
                sys.stdout.write(
                    f"repricing {undone.job} undone: {counted(undone.calls, 'call')} cost again "
                    "as before\n"
                )
                return
            prices = PriceBook.load()
            with Progress(
                disable=not sys.stderr.isatty(),
                transient=True,
            ) as progress:
                task = progress.add_task("repricing", total=None)
                done = reprice(
                    book,
                    prices,
                    since=start,
                    until=end,
                    dry_run=dry_run,
                    reason=reason,
                    progress=lambda rows: progress.advance(task, rows),
                )
        _print(done, format, dry_run)


def _print(done: Repriced, format: Format, dry_run: bool) -> None:
    rows = _rows(done)
    if format is Format.JSON:
        print_json(
            {"repricing": done.job, "dry_run": dry_run, "changed_calls": done.changed, "rows": rows}
        )
    elif format is Format.CSV:
        print_csv(_COLUMNS, rows)
    else:
        _table(done, dry_run)


def _rows(done: Repriced) -> list[dict[str, object]]:
    return [
        {
            "provider": provider,
            "model": model,
            "calls": change.calls,
            "changed_calls": change.changed,
            "before_usd": exact_usd(change.before_pusd),
            "after_usd": exact_usd(change.after_pusd),
            "difference_usd": exact_usd(change.after_pusd - change.before_pusd),
            "unpriced_before": change.unpriced_before,
            "unpriced_after": change.unpriced_after,
        }
        for (provider, model), change in sorted(
            done.by_model.items(), key=lambda entry: (-entry[1].after_pusd, entry[0][1] or "")
        )
    ]


def _table(done: Repriced, dry_run: bool) -> None:
    headings = [
        ("model", "left"),
        *((heading, "right") for heading in ("calls", "changed", "before", "after", "unpriced")),
    ]
    changed = [(key, change) for key, change in done.by_model.items() if change.changed]
    if changed:
        cells = [
            [
                model or "–",
                *_counts(c),
                _cost(c.before_pusd, c, c.unpriced_before),
                _cost(c.after_pusd, c, c.unpriced_after),
                f"{c.unpriced_before:,} → {c.unpriced_after:,}",
            ]
            for (_, model), c in sorted(changed, key=lambda entry: -entry[1].after_pusd)
        ]
        print_table("Models whose calls have another price under today's book", headings, cells)
    total = sum(change.calls for change in done.by_model.values())
    if not changed:
        sys.stdout.write(f"none of {counted(total, 'call')} has another price under today's book\n")
    elif dry_run:
        sys.stdout.write(
            f"{done.changed:,} of {counted(total, 'call')} would change; nothing was written\n"
        )
    else:
        sys.stdout.write(
            f"{done.changed:,} of {counted(total, 'call')} changed; `crewmeter reprice --undo "
            f"{done.job}` sets them back\n"
        )


def _cost(pusd: int, change: ModelChange, unpriced: int) -> Cell:
    return cost_amount(
        pusd,
        priced=change.calls - unpriced,
        unpriced=0,
    )


def _counts(change: ModelChange) -> tuple[str, str]:
    return f"{change.calls:,}", f"{change.changed:,}"
