"""``crewmeter audit FILE``.

The ledger against a provider's own usage or cost export, by day and model.
"""

from __future__ import annotations

import sys
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from crewmeter.providers.hosts import canonical_provider
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    window,
)
from crewmeter_cost.cli.output import print_csv, print_json, print_table
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.invoice_reconciliation.compare import (
    Claim,
    ModelComparison,
    Sums,
    claim_of,
    compare,
    total_of,
)
from crewmeter_cost.finance.invoice_reconciliation.provider_exports import (
    ProviderExport,
    read_export,
)
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]

_FIELDS = ("requests", "input_tokens", "output_tokens", "cost_usd")


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("audit", help=help)
    def command(
        file: Annotated[
            Path,
            typer.Argument(
                metavar="FILE",
                help="OpenAI or Anthropic console export (usage or cost CSV), or a FOCUS CSV.",
            ),
        ],
        provider: Annotated[
            str | None,
            typer.Option(
                "--provider", help="Only this provider's calls; the export's own by default."
            ),
        ] = None,
        tolerance: Annotated[
            float,
            typer.Option(
                "--tolerance",
                min=0,
                max=100,
                help="Per cent that the sides may differ.",
            ),
        ] = 1.0,
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        format: FormatOption = Format.TABLE,
        tz: ZoneOption = None,
    ) -> None:
        export = read_export(file)
        first, last = _days(export, since, until)
        share = Decimal(str(tolerance)) / 100
        with Ledger.open(ledger, read_only=True) as opened:
            seller = canonical_provider(provider) or export.provider
            comparisons = compare(
                opened.engine,
                export,
                provider=seller,
                since=first,
                until=last,
            )
            claim = claim_of(opened.engine, since=first, until=last)
        document = _document(file, export, comparisons, claim, share)
        if format is Format.JSON:
            print_json(document)
        elif format is Format.CSV:
            columns = [
                "day",
                "model",
                *(f"{side}_{name}" for name in _FIELDS for side in ("ledger", "provider")),
                "unpriced_calls",
                "agrees",
            ]
            print_csv(
                columns,
                (_flat(row) for row in document["rows"]),
            )
        else:
            _print(document)
        if not document["agrees"]:
            raise typer.Exit(1)


def _days(export: ProviderExport, since: str | None, until: str | None) -> tuple[str, str]:
    """Return the days to compare: the export's, narrowed by --since and --until."""
    start, end = window(since, until)
    first = min(line.day for line in export.lines)
    last = max(line.day for line in export.lines)
    if start is not None:
        first = max(
            first,
            f"{start.astimezone(UTC):%Y-%m-%d}",
        )
    if end is not None:
        last = min(
            last,
            f"{end.astimezone(UTC) - timedelta(microseconds=1):%Y-%m-%d}",
        )
    if first > last:
        raise CrewMeterError(
            "the export has no day in that window", hint="leave out --since and --until"
        )
    return first, last


def _side(sums: Sums) -> dict[str, Any]:
    cost = (
        None
        if sums.cost_usd is None
        else format(
            sums.cost_usd.normalize(),
            "f",
        )
    )
    return {
        "requests": sums.requests,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": cost,
    }


def _document(
    file: Path,
    export: ProviderExport,
    comparisons: list[ModelComparison],
    claim: Claim | None,
    share: Decimal,
) -> dict[str, Any]:
    ours, theirs = total_of(comparisons)
    rows = [
        {
            "day": each.day,
            "model": each.model,
            "ledger": _side(each.ledger),
            "provider": _side(each.provider),
            "unpriced_calls": each.ledger.unpriced,
            "agrees": not each.off(share),
        }
        for each in comparisons
    ]
    crewai = None
    if claim is not None:
        crewai = {"tokens": claim.tokens, "claimed_tokens": claim.claimed_tokens}
    return {
        "file": str(file),
        "format": export.format,
        "days": [min(each.day for each in comparisons), max(each.day for each in comparisons)]
        if comparisons
        else [],
        "tolerance_percent": float(share * 100),
        "agrees": all(row["agrees"] for row in rows),
        "rows": rows,
        "total": {
            "ledger_cost_usd": format(ours.normalize(), "f"),
            "provider_cost_usd": format(theirs.normalize(), "f"),
        },
        "crewai_usage_metrics": crewai,
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    sides = {
        f"{side}_{name}": row[side][name] for name in _FIELDS for side in ("ledger", "provider")
    }
    return {
        "day": row["day"],
        "model": row["model"],
        **sides,
        "unpriced_calls": row["unpriced_calls"],
        "agrees": row["agrees"],
    }


def _print(document: dict[str, Any]) -> None:
    measures = [
        name
        for name in _FIELDS
        if any(row["provider"][name] is not None for row in document["rows"])
    ]
    columns = [("day", "right"), ("model", "left")]
    columns += [
        (f"{name.replace('_', ' ')}: {side}", "right")
        for name in measures
        for side in ("ledger", "provider")
    ]
    rows = []
    for row in document["rows"]:
        cells = [_cell(row[side][name]) for name in measures for side in ("ledger", "provider")]
        rows.append(
            [
                row["day"],
                row["model"],
                *cells,
                "ok" if row["agrees"] else "DIFFERS",
            ]
        )
    print_table(
        f"{document['file']} ({document['format']}) against the ledger",
        [*columns, ("", "left")],
        rows,
    )
    differing = sum(not row["agrees"] for row in document["rows"])
    unpriced = sum(row["unpriced_calls"] for row in document["rows"])
    verdict = (
        "agree"
        if not differing
        else f"differ in {differing} of {counted(len(document['rows']), 'row')}"
    )
    sys.stdout.write(
        f"ledger and provider {verdict} (within {document['tolerance_percent']:g} %)\n"
    )
    if unpriced:
        sys.stdout.write(
            f"without a price in the ledger: {counted(unpriced, 'call')}; `crewmeter prices "
            "check` says which\n"
        )
    if claim := document["crewai_usage_metrics"]:
        sys.stdout.write(_claimed(claim))


def _claimed(claim: dict[str, int]) -> str:
    times = Decimal(claim["claimed_tokens"]) / claim["tokens"]
    return (
        f"CrewAI's usage_metrics would have claimed {claim['claimed_tokens']:,} tokens for "
        f"the crews' {claim['tokens']:,} ({times:.2f}×)\n"
    )


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return f"${value}"
    return f"{value:,}"
