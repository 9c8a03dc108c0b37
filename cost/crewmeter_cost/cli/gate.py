"""``crewmeter gate``: fail where cost, calls or latency rose further than allowed."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.analysis.cost_gate import (
    GateResult,
    baseline_document,
    check,
    parse_limit,
    read_baseline,
)
from crewmeter_cost.analysis.run_comparison import Side, totals_of
from crewmeter_cost.cli.options import (
    LedgerOption,
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    window,
)
from crewmeter_cost.cli.output import print_json, print_table
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import Filter, Term, parse_filter
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.analysis.run_comparison import Totals

__all__ = ["register"]


_SECONDS = frozenset({"duration", "p50", "p95"})
"""Metrics in seconds."""


class GateFormat(StrEnum):
    """Output forms of a gate."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("gate", help=help)(_gate)


def _gate(
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="FILE|LEDGER",
            help="What to compare with: a file of --write, `pytest --crewmeter-baseline` or "
            "`report --format json`; or a ledger.",
        ),
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--max",
            metavar="LIMIT",
            help="'cost +10%', 'calls +0', 'p95 +20%', 'cost/run 0.05 USD'; repeatable.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Check only this run (an id or `last`).",
        ),
    ] = None,
    where: WhereOption = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Write the totals as a new baseline.",
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary", metavar="FILE", help="Append a Markdown summary, for a pull request."
        ),
    ] = None,
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    format: Annotated[
        GateFormat,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, json or markdown.",
        ),
    ] = GateFormat.TABLE,
    tz: ZoneOption = None,
) -> None:
    if write is None and (baseline is None or not limits):
        raise CrewMeterError(
            "a gate needs --baseline and at least one --max",
            hint="crewmeter gate --baseline main.json --max 'cost +10%' --max 'calls +0'",
        )
    checks = [parse_limit(text) for text in limits or []]
    wanted = parse_filter(where)
    before = None if baseline is None else read_baseline(baseline, wanted)
    totals = _totals(ledger, wanted, run, since, until)
    if write is not None:
        _write(write, totals)
    if before is None or not checks:
        return
    if not totals.calls:
        raise CrewMeterError(
            "the ledger has no call to check",
            hint="run the crew first, or check --where and --since",
        )
    results = check(checks, before, totals.document())
    _print(results, format)
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(_markdown(results))
    if any(result.exceeded for result in results):
        raise typer.Exit(1)


def _totals(
    ledger: str | None, where: Filter, run: str | None, since: str | None, until: str | None
) -> Totals:
    """Return the totals to check."""
    start, end = window(since, until)
    with Ledger.open(ledger, read_only=True) as opened:
        if run is None:
            return totals_of(opened, Side("current", where, start, end))
        side = Side.of_run(
            find_run(
                opened,
                run,
                since=start,
                until=end,
            )
        )
        narrowed = (
            Filter(
                (
                    Term(
                        "run",
                        "=",
                        side.run.run_id,
                    ),
                    *where.terms,
                )
            )
            if side.run
            else where
        )
        return totals_of(
            opened,
            Side(side.label, narrowed, run=side.run),
        )


def _write(path: Path, totals: Totals) -> None:
    """Write a baseline file."""
    text = (
        json.dumps(
            baseline_document(totals.document()),
            indent=2,
        )
        + "\n"
    )
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CrewMeterError(f"{path} cannot be written: {error.strerror}") from error
    sys.stderr.write(f"wrote {path}\n")


def _print(results: list[GateResult], format: GateFormat) -> None:
    exceeded = sum(result.exceeded for result in results)
    if format is GateFormat.JSON:
        print_json(
            {
                "currency": "USD",
                "passed": not exceeded,
                "results": [result.document() for result in results],
            }
        )
    elif format is GateFormat.MARKDOWN:
        sys.stdout.write(_markdown(results))
    else:
        columns = [
            ("limit", "left"),
            ("baseline", "right"),
            ("now", "right"),
        ]
        columns += [("allowed", "right"), ("", "left")]
        print_table(
            "",
            columns,
            [_cells(result) for result in results],
        )
        verdict = f"{exceeded} of {len(results)} limits exceeded" if exceeded else "passed"
        sys.stdout.write(f"{verdict}\n")


def _cells(result: GateResult) -> list[str]:
    """Return a result as cells: its limit, three amounts, and the verdict."""
    document = result.document()
    amounts = []
    for name in ("baseline", "value", "allowed"):
        amount = document[name]
        amounts.append("–" if amount is None else _amount(result.limit.metric, str(amount)))
    verdict = "ok"
    if result.exceeded:
        verdict = f"EXCEEDED {result.reason or ''}".rstrip()
    return [result.limit.text, *amounts, verdict]


def _amount(metric: str, exact: str) -> str:
    """Return an amount as people read it. JSON has it exactly."""
    amount = Decimal(exact)
    if metric == "cost":
        return f"${amount:,.6f}"
    if metric in _SECONDS:
        return f"{amount:,.2f}s"
    return f"{amount:,.2f}".removesuffix(".00")


def _markdown(results: list[GateResult]) -> str:
    """Return the results as a Markdown table."""
    passed = not any(result.exceeded for result in results)
    lines = [f"### crewmeter gate: {'passed' if passed else 'exceeded'}", ""]
    lines += ["| limit | baseline | now | allowed | |", "|---|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(_cells(result))} |" for result in results]
    return "\n".join(lines) + "\n"
