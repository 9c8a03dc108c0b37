"""``crewmeter show RUN``: one run as a tree of steps."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    window,
)
from crewmeter_cost.cli.output import (
    COST_LEGEND,
    Amount,
    Cell,
    amount_texts,
    console,
    cost_amount,
    print_csv,
    print_json,
    without_price,
)
from crewmeter_cost.cli.show_content import print_content, with_content
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.content.run_content import run_content
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.ledger.read.run_tree import Node, RunTree

__all__ = ["print_tree", "register"]

_BAR = 12
"""Width of the time bar in characters; each shows eight steps."""
_TIMELINE_FROM = 78
"""Columns of a terminal from which there is room for the timeline."""
_TOKENS_FROM = 64
"""Columns of a terminal from which there is room for the tokens."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_CSV = (
    "depth",
    "kind",
    "name",
    "status",
    "error_type",
    "span_id",
    "started_at",
    "duration_seconds",
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
)
_STYLE = {"error": "red", "abandoned": "yellow", "running": "cyan"}
_MARK = {"ok": "✓", "error": "✗", "abandoned": "?", "running": "…"}


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the start of one, or `last`: the newest (between --since and --until).",
    ),
]

ContentOption = Annotated[
    bool,
    typer.Option(
        "--content", help="Prompts, answers and tool arguments too, where they were stored."
    ),
]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("show", help=help)(_show)


def _show(
    run: RunArgument,
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    content: ContentOption = False,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    start, end = window(since, until)
    if content and format is Format.CSV:
        raise CrewMeterError("content does not fit CSV", hint="use --format json, or a table")
    captured: dict[str, dict[str, str]] = {}
    with Ledger.open(ledger, read_only=True) as opened:
        tree = run_tree(
            opened,
            find_run(opened, run, since=start, until=end),
        )
        if content:
            captured = run_content(opened, tree.run.run_id)
    if format is Format.JSON:
        document = tree.document()
        print_json(with_content(document, captured) if content else document)
    elif format is Format.CSV:
        rows = (
            {
                "depth": len(stem) // 3,
                **node.document(),
            }
            for stem, node in _walk(tree.root)
        )
        print_csv(_CSV, rows)
    else:
        print_tree(tree)
        if content:
            print_content([node for _, node in _walk(tree.root)], captured)


def _walk(root: Node, stem: str = "") -> Iterator[tuple[str, Node]]:
    """Yield every node with the lines that lead to it, from the top down."""
    waiting = [(stem, "", root)]
    while waiting:
        lines, below, node = waiting.pop()
        yield lines, node
        last = len(node.children) - 1
        for index in range(last, -1, -1):
            branch, further = ("└─ ", "   ") if index == last else ("├─ ", "│  ")
            waiting.append((below + branch, below + further, node.children[index]))


def print_tree(tree: RunTree) -> None:
    """Print a run as a table: each step, when it was busy, how long, tokens and cost.

    A narrow terminal goes without the timeline, then without the tokens.
    """
    nodes = list(_walk(tree.root))
    begin = min(node.started_ns for _, node in nodes)
    end = max(node.started_ns + (node.duration_ns or 0) for _, node in nodes)
    amounts = _with_costs([_amounts(node) for _, node in nodes])
    headings = ["time", "in", "out", "cost"]
    width = console().width
    with_timeline = width >= _TIMELINE_FROM
    if width < _TOKENS_FROM:
        headings = ["time", "cost"]
        amounts = [
            [
                cells[0],
                cells[3],
            ]
            for cells in amounts
        ]
    widths = [
        max(len(heading), *(len(cells[index]) for cells in amounts))
        for index, heading in enumerate(headings)
    ]
    taken = sum(widths) + 2 * len(widths)
    if with_timeline:
        taken += _BAR + 2
    room = max(12, width - taken)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step", no_wrap=True, max_width=room)
    if with_timeline:
        table.add_column("timeline", no_wrap=True, width=_BAR)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for (lines, node), cells in zip(nodes, amounts, strict=True):
        label = _label(lines, node)
        label.truncate(room, overflow="ellipsis")
        bar = [
            Text(
                _bar(node, begin, end),
                style=_STYLE.get(node.status, "blue"),
            )
        ]
        table.add_row(
            label,
            *(bar if with_timeline else []),
            *cells,
        )
    out = console()
    out.print(
        Text(
            f"Run {tree.run.run_id}",
            style="italic",
        )
    )
    out.print(table)
    _print_legend(tree, amounts)


def _print_legend(tree: RunTree, amounts: Sequence[Sequence[str]]) -> None:
    """Print what the sums leave out, and what a star means where there is one."""
    root = tree.root
    if root.unpriced_calls:
        sys.stdout.write(
            without_price(
                root.unpriced_calls,
                root.calls,
            )
            + "\n"
        )
    if any("*" in cells[-1] for cells in amounts):
        sys.stdout.write(f"{COST_LEGEND}\n")


def _label(lines: str, node: Node) -> Text:
    """Return a step's lines in the tree, its mark, kind, name and error."""
    label = Text(lines, style="dim")
    label.append(
        f"{_MARK.get(node.status, '?')} ",
        style=_STYLE.get(node.status, "green"),
    )
    label.append(node.kind, style="dim").append(f" {node.name}")
    if node.error_type:
        label.append(f" {node.error_type}", style="red")
    return label


def _bar(node: Node, begin: int, end: int) -> str:
    """Return when in the run the node was busy: a bar from its start to its end."""
    span = max(end - begin, 1)
    eighths = _BAR * 8
    start = node.started_ns - begin
    low = start * eighths // span
    # A bar is at least a sliver wide, so that no step is invisible.
    high = min(
        max((start + (node.duration_ns or 0)) * eighths // span, low + 1),
        eighths,
    )
    return "".join(
        _bar_cell(
            cell * 8,
            low,
            high,
        )
        for cell in range(_BAR)
    )


def _bar_cell(first: int, low: int, high: int) -> str:
    """Return the character of a bar for the eight eighths from `first` on."""
    filled = min(high, first + 8) - max(low, first)
    if filled <= 0:
        return " "
    if low > first and filled < 8:
        # There are no characters that are filled by eighths from the right.
        return "▐" if filled >= 3 else "▕"
    return _EIGHTHS[filled]


def _with_costs(rows: list[list[Cell]]) -> list[list[str]]:
    """Return the rows as texts, with the costs' points below each other."""
    costs = amount_texts([row[-1] for row in rows])
    texts = []
    for row, cost in zip(rows, costs, strict=True):
        others = [str(cell) for cell in row[:-1]]
        texts.append([*others, cost])
    return texts


def _amounts(node: Node) -> list[Cell]:
    """Return a step's time, tokens and cost.

    Blanks where it made no call.
    """
    seconds = "–"
    if node.duration_ns is not None:
        seconds = f"{node.duration_ns / 1e9:,.2f}s"
    if not node.calls:
        return [seconds, "", "", ""]
    unpriced = node.unpriced_calls
    cost = cost_amount(
        node.cost_pusd,
        priced=node.priced_calls,
        unpriced=unpriced,
    )
    if node.inexact_calls and isinstance(cost, Amount):
        cost = replace(cost, mark="*")
    return [
        seconds,
        f"{node.input_tokens:,}",
        f"{node.output_tokens:,}",
        cost,
    ]
