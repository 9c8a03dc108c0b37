"""A statement as one self-contained HTML file, ready to print.

No script, no external address, every name escaped.

The two bar charts are drawn as plain SVG rectangles: a printed page needs no chart library.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING

from crewmeter_cost.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from crewmeter_cost.finance.statement import Account, Statement

__all__ = ["render"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --faint: #66727f; --line: #d8dee4; --bar: #0072b2; --ground: #ffffff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9aa7b4; --line: #313b46; --bar: #56b4e9; --ground: #10161d } }
@media print { :root { --ink: #000; --faint: #444; --line: #bbb; --bar: #0072b2; --ground: #fff } section { break-inside: avoid } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
       margin: 2rem auto; max-width: 62rem; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem } p { margin: .3rem 0; color: var(--faint) }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line) } th:first-child, td:first-child { text-align: left }
th { color: var(--faint); font-weight: 600 } tfoot td { font-weight: 700; border-bottom: 0 }
svg { width: 100%; height: auto; display: block } rect { fill: var(--bar) } text { fill: var(--faint); font-size: 10px }
.note { border-left: 3px solid #d55e00; padding-left: .8rem; color: var(--ink) }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem }
"""


def render(statement: Statement) -> str:
    """Return the whole HTML document.

    Tables show cents, the ledger keeps the pico-dollars.
    """
    title = statement.title
    everyone = [
        *statement.accounts,
        *(
            [statement.unassigned]
            if statement.unassigned and statement.unassigned.total_pusd
            else []
        ),
    ]
    parts = [
        f"<h1>{escape(title)}</h1><p>By {escape(statement.by)}. LLM spend from the crewmeter ledger, UTC days, USD.</p>",
        _unpriced_note(statement),
        _summary(statement, everyone),
        *(_section(account, statement) for account in everyone),
    ]
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _unpriced_note(statement: Statement) -> str:
    if not statement.unpriced_calls:
        return ""
    what = f"Without a known price, and so in no sum: {counted(statement.unpriced_calls, 'call')}."
    return f'<p class="note">{what} <code>crewmeter prices check</code> names their models.</p>'


def _summary(statement: Statement, everyone: Iterable[Account]) -> str:
    shared = statement.rule != "none"
    headings = [
        statement.by,
        "calls",
        "failed",
        "input tokens",
        "output tokens",
        *(["direct", "shared"] if shared else []),
        "USD",
    ]
    rows = [
        [
            _name(account),
            f"{account.calls:,}",
            f"{account.failed_calls:,}",
            f"{account.input_tokens:,}",
            f"{account.output_tokens:,}",
            *([_usd(account.direct_pusd), _usd(account.shared_pusd)] if shared else []),
            "unpriced" if account.unknown else _usd(account.total_pusd),
        ]
        for account in everyone
    ]
    rule = (
        f"<p>Cost without a {escape(statement.by)} is shared out: {escape(statement.rule)}.</p>"
        if shared
        else ""
    )
    foot = f'<tfoot><tr><td colspan="{len(headings) - 1}">Total</td><td>{_usd(statement.total_pusd)}</td></tr></tfoot>'
    return _table(headings, rows, foot) + rule


def _section(account: Account, statement: Statement) -> str:
    lists = "".join(
        f"<div>{_breakdown(what, amounts)}</div>" for what, amounts in account.detail_pusd.items()
    )
    return (
        f"<section><h2>{escape(_name(account))}: {_usd(account.total_pusd)} USD</h2>"
        f'{_chart(account.daily_pusd, statement)}<div class="columns">{lists}</div></section>'
    )


def _breakdown(what: str, amounts: Mapping[str, int]) -> str:
    ranked = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    return _table([what, "USD"], [[name, _usd(pusd)] for name, pusd in ranked if pusd])


def _chart(daily: Mapping[date, int], statement: Statement) -> str:
    first, last = statement.since.date(), (statement.until - timedelta(microseconds=1)).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    most = max(daily.get(day, 0) for day in days)
    if not most:
        return ""
    bars = "".join(_bar(n, day, daily.get(day, 0), most) for n, day in enumerate(days))
    every = max(5, -(-len(days) // 12))
    labels = "".join(
        f'<text x="{n * 20 + 10}" y="112" text-anchor="middle">{_spoken(day, statement)}</text>'
        for n, day in enumerate(days)
        if n % every == 0 or day == last
    )
    top = f'<text x="0" y="8">{_usd(most)} USD</text>'
    return f'<svg viewBox="0 0 {len(days) * 20} 116" role="img" aria-label="Spend per day, at most {_usd(most)} USD">{top}{bars}{labels}</svg>'


def _spoken(day: date, statement: Statement) -> str:
    return f"{day.day}" if statement.month else f"{day.day} {day:%b}"


def _bar(number: int, day: date, amount: int, most: int) -> str:
    height = f"{amount * 90 / most:.1f}"
    return (
        f'<rect x="{number * 20 + 2}" y="{100 - amount * 90 / most:.1f}" width="16" height="{height}">'
        f"<title>{day:%b} {day.day}: {_usd(amount)} USD</title></rect>"
    )


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], foot: str = "") -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>"


def _name(account: Account) -> str:
    return account.name or "(unassigned)"


def _usd(pusd: int) -> str:
    """Cents for amounts people pay, four decimals below a dollar."""
    value = Decimal(pusd).scaleb(-12)
    return f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.4f}"
