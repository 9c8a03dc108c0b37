"""``crewmeter compare A B``.

Two runs, windows or versions, and what explains the difference.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.analysis.run_comparison import Comparison, Side, compare_sides
from crewmeter_cost.cli.options import (
    LedgerOption,
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    window,
)
from crewmeter_cost.cli.output import (
    COST_LEGEND,
    UNPRICED_LEGEND,
    Amount,
    Cell,
    amount_texts,
    print_json,
    print_table,
    usd,
)
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import NAME_KEYS, Filter, Term, parse_filter
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.analysis.run_comparison import StepPair, Totals

__all__ = ["register"]

_STEPS = 20
"""Steps in a table; JSON has all of them."""


class ComparisonFormat(StrEnum):
    """Output forms of a comparison."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


_AMOUNTS = (
    ("runs", "runs"),
    ("failed_runs", "failed runs"),
    ("calls", "calls"),
    ("failed_calls", "failed calls"),
    ("unpriced_calls", "unpriced calls"),
    ("tool_calls", "tool calls"),
    ("input_tokens", "input tokens"),
    ("cache_read_tokens", "  of these cached"),
    ("output_tokens", "output tokens"),
    ("reasoning_tokens", "  of these reasoning"),
    ("duration_seconds", "run seconds"),
    ("p50_seconds", "p50 seconds a call"),
    ("p95_seconds", "p95 seconds a call"),
)


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("compare", help=help)(_compare)


def _compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A run's id, the start of one, or `last`; a window FROM..TO such as 14d..7d; "
            "or a value of --by.",
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="What to compare with A, in its forms.",
        ),
    ],
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="KEY",
            help="A and B are values of this: tag:version, model, crew, service …",
        ),
    ] = None,
    where: WhereOption = None,
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    format: Annotated[
        ComparisonFormat,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, json, markdown.",
        ),
    ] = ComparisonFormat.TABLE,
    tz: ZoneOption = None,
) -> None:
    wanted = parse_filter(where)
    window(since, until)
    if by is not None and by not in NAME_KEYS and not by.startswith("tag:"):
        raise CrewMeterError(
            f"cannot compare by {by!r}", hint=f"one of {', '.join(NAME_KEYS)}, tag:KEY"
        )
    with Ledger.open(ledger, read_only=True) as opened:
        sides = [
            _side(
                opened,
                text,
                by,
                wanted,
                since,
                until,
            )
            for text in (a, b)
        ]
        made = compare_sides(opened, *sides)
    if format is ComparisonFormat.JSON:
        print_json(made.document())
    elif format is ComparisonFormat.MARKDOWN:
        sys.stdout.write(markdown(made))
    else:
        _print(made)


def _side(
    ledger: Ledger,
    text: str,
    by: str | None,
    where: Filter,
    since: str | None,
    until: str | None,
) -> Side:
    """Return what one of the arguments names."""
    start, end = window(since, until)
    if by is not None:
        named = Filter((*where.terms, Term(by, "=", text)))
        return Side(
            f"{by}={text}",
            named,
            start,
            end,
        )
    if ".." in text:
        first, _, last = text.partition("..")
        start, end = window(
            first or since,
            last or until,
        )
        return Side(text, where, start, end)
    if where.terms:
        raise CrewMeterError(
            "--where selects calls of windows and versions, not of one run",
            hint="give windows such as 14d..7d, or --by KEY",
        )
    return Side.of_run(
        find_run(
            ledger,
            text,
            since=start,
            until=end,
        )
    )


def explanation(step: StepPair, comparison: Comparison) -> str:
    """Return one line that says what a step contributes to the difference."""
    parts = [f"{' › '.join(step.path)}:"]
    if step.count_change:
        parts.append(f"{step.b.count:,} times instead of {step.a.count:,},")
    if step.cost_change or not step.count_change:
        parts.append(signed_usd(step.cost_change))
        total = comparison.cost_change
        if total:
            share = f"{step.cost_change / total:.0%}".replace("-", "−")
            parts.append(f"({share} of the difference)")
    else:
        parts.append(f"{_with_sign(step.seconds_change, 1)} s")
    return " ".join(parts)


def signed_usd(pusd: int | None) -> str:
    """Return a difference in USD with its sign."""
    if pusd is None:
        return "–"
    if pusd == 0:
        return "no change"
    return f"{'−' if pusd < 0 else '+'}{usd(abs(pusd))}"


def _signed(pusd: int | None) -> Cell:
    """Return a difference for a column of money."""
    if pusd == 0:
        return "no change"
    return Amount(pusd, signed=True)


def _total(totals: Totals) -> Amount:
    """Return a side's cost, with a star where it is not exact."""
    mark = "*" if totals.unpriced_calls or totals.inexact_calls else ""
    return Amount(totals.cost_pusd, mark)


def _legend(made: Comparison) -> str:
    """Return what a star means, nothing where there is none."""
    sides = (made.totals_a, made.totals_b)
    if any(side.inexact_calls for side in sides):
        return COST_LEGEND
    return UNPRICED_LEGEND if any(side.unpriced_calls for side in sides) else ""


def _lines(made: Comparison) -> list[list[str]]:
    """Return the totals as rows: what, A, B, difference, in per cent."""
    a = made.totals_a
    b = made.totals_b
    costs = amount_texts([_total(a), _total(b), _signed(made.cost_change)])
    relative = _percent(a.cost_pusd, b.cost_pusd)
    rows = [["cost", *(text.strip() for text in costs), relative]]
    left = a.document()
    right = b.document()
    for name, label in _AMOUNTS:
        before = left[name]
        after = right[name]
        rows.append(
            [
                label,
                _amount(before),
                _amount(after),
                _change(before, after),
            ]
        )
        rows[-1].append(_percent(before, after))
    return rows


def _amount(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}"


def _change(before: object, after: object) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return "–"
    if isinstance(before, float) or isinstance(after, float):
        return _with_sign(after - before, 2)
    return _with_sign(after - before)


def _with_sign(change: Decimal | float, decimals: int = 0) -> str:
    """Return a difference with its sign, the same minus as differences of money have."""
    return f"{change:+,.{decimals}f}".replace("-", "−")


def _percent(before: object, after: object) -> str:
    """Return a relative difference, a dash where there is nothing to compare with."""
    if not isinstance(before, int | float) or not isinstance(after, int | float) or not before:
        return "–"
    return f"{_with_sign((Decimal(after) / Decimal(before) - 1) * 100)} %"


def _print(made: Comparison) -> None:
    sys.stdout.write(f"A: {made.a.label}\nB: {made.b.label}\n")
    for step in made.explanations:
        sys.stdout.write(f"• {explanation(step, made)}\n")
    headings = [
        ("", "name"),
        ("A", "right"),
        ("B", "right"),
        ("B − A", "right"),
        ("change", "right"),
    ]
    print_table("", headings, _lines(made), drop=("change", "B − A"))
    legend = _legend(made)
    if legend:
        sys.stdout.write(f"{legend}\n")
    changed = [step for step in made.steps if step.cost_change or step.count_change]
    if not changed:
        sys.stdout.write("no step differs in count or cost\n")
        return
    columns = [
        ("step", "left"),
        ("A", "right"),
        ("B", "right"),
        ("cost", "right"),
        ("s", "right"),
    ]
    cells = [_step_cells(step) for step in changed[:_STEPS]]
    print_table("Steps that differ, largest difference first", columns, cells)
    if len(changed) > _STEPS:
        sys.stdout.write(f"and {len(changed) - _STEPS} more (--format json has all)\n")


def _step_cells(step: StepPair) -> list[Cell]:
    return [
        " › ".join(step.path),
        f"{step.a.count:,}",
        f"{step.b.count:,}",
        _signed(step.cost_change),
        _with_sign(step.seconds_change, 1),
    ]


def markdown(made: Comparison) -> str:
    """Return the comparison as Markdown, for a pull request."""
    lines = [
        f"**A:** {_plain(made.a.label)}  ",
        f"**B:** {_plain(made.b.label)}",
        "",
    ]
    lines += [f"- {_plain(explanation(step, made))}" for step in made.explanations]
    lines += ["", "| | A | B | B − A | |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in _lines(made)]
    legend = _legend(made)
    if legend:
        lines += ["", _plain(legend)]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text in which no character of a name acts as Markdown or HTML."""
    escaped = text.replace("\\", "\\\\")
    for character in "|*_`[]<>#":
        escaped = escaped.replace(character, "\\" + character)
    return " ".join(escaped.split())
