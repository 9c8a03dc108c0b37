"""``crewmeter show RUN``.

One run as a tree, with time, tokens and cost per node, and where the time went.
"""

from __future__ import annotations

import sys
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
    window,
)
from crewmeter_cost.cli.output import console, cost_cell, print_csv, print_json, without_price
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crewmeter_cost.ledger.read.run_tree import Node, RunTree

__all__ = ["print_tree", "register"]

_BAR = 12
"""Width of the time bar in characters; each shows eight steps."""
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


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("show", help=help)
    def command(
        run: Annotated[
            str,
            typer.Argument(
                metavar="RUN",
                help="A run's id, the start of one, or `last`: the newest (between --since and --until).",
            ),
        ],
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        format: FormatOption = Format.TABLE,
    ) -> None:
        start, end = window(since, until)
        with Ledger.open(ledger, read_only=True) as book:
            tree = run_tree(book, find_run(book, run, since=start, until=end))
        if format is Format.JSON:
            print_json(tree.document())
        elif format is Format.CSV:
            print_csv(
                _CSV,
                ({"depth": len(stem) // 3, **node.document()} for stem, node in _walk(tree.root)),
            )
        else:
            print_tree(tree)


def _walk(root: Node, stem: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with the lines that lead to it, from the top down."""
    waiting = [(stem, "", root)]
    while waiting:
        lines, below, node = waiting.pop()
        yield lines, node
        last = len(node.children) - 1
        for index in range(last, -1, -1):
            branch, further = ("└─ ", "   ") if index == last else ("├─ ", "│  ")
            waiting.append((below + branch, below + further, node.children[index]))


def print_tree(tree: RunTree) -> None:
    """The run as a table: what, when, how long, how many tokens, how much."""
    run, root = tree.run, tree.root
    begin = min((node.started_ns for _, node in _walk(root)), default=run.started_ns)
    end = max((node.started_ns + (node.duration_ns or 0) for _, node in _walk(root)), default=begin)
    rows = [
        (
            _label(lines, node),
            _bar(node, begin, end),
            _STYLE.get(node.status, "blue"),
            _amounts(node),
        )
        for lines, node in _walk(root)
    ]
    headings = ("time", "in", "out", "cost")
    widths = [
        max(len(heading), *(len(row[3][index]) for row in rows))
        for index, heading in enumerate(headings)
    ]
    room = max(24, console().width - sum(widths) - _BAR - 2 * (len(widths) + 1))
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=f"Run {run.run_id}",
        title_justify="left",
    )
    table.add_column("what", no_wrap=True, max_width=room)
    table.add_column("when", no_wrap=True, width=_BAR)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for label, bar, style, amounts in rows:
        label.truncate(room, overflow="ellipsis")
        table.add_row(label, Text(bar, style=style), *amounts)
    console().print(table)
    if root.unpriced_calls:
        sys.stdout.write(without_price(root.unpriced_calls, root.calls) + "\n")


def _label(lines: str, node: Node) -> Text:
    label = Text(lines, style="dim")
    label.append(f"{_MARK.get(node.status, '?')} ", style=_STYLE.get(node.status, "green"))
    label.append(node.kind, style="dim").append(f" {node.name}")
    if node.error_type:
        label.append(f" {node.error_type}", style="red")
    return label


def _bar(node: Node, begin: int, end: int) -> str:
    """Where in the run the node was busy.

    A bar from its start to its end, at least a sliver wide.
    """
    span = max(end - begin, 1)
    low = (node.started_ns - begin) * _BAR * 8 // span
    high = min(
        max((node.started_ns - begin + (node.duration_ns or 0)) * _BAR * 8 // span, low + 1),
        _BAR * 8,
    )
    cells = []
    for cell in range(_BAR):
        filled = min(high, cell * 8 + 8) - max(low, cell * 8)
        if filled <= 0:
            cells.append(" ")
        elif low > cell * 8 and filled < 8:
            cells.append("▐" if filled >= 3 else "▕")  # there are no eighths from the right
        else:
            cells.append(_EIGHTHS[filled])
    return "".join(cells)


def _amounts(node: Node) -> list[str]:
    time = "–" if node.duration_ns is None else f"{node.duration_ns / 1e9:,.2f}s"
    if not node.calls:
        return [time, "", "", ""]
    cost = cost_cell(node.cost_pusd, priced=node.priced_calls, unpriced=node.unpriced_calls)
    return [time, f"{node.input_tokens:,}", f"{node.output_tokens:,}", cost]
