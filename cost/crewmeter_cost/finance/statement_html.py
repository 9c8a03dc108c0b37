"""A statement as one self-contained HTML file, ready to print.

It has no script and no external address, and every name is escaped.

The two bar charts are drawn as plain SVG rectangles: a printed page needs no chart library.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING

from crewmeter_cost.formatting import COST_LEGEND, UNPRICED_LEGEND, counted, signed_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from crewmeter_cost.finance.statement import Account, Statement
    from crewmeter_cost.finance.statement_context import StatementContext

__all__ = ["render"]

_AXIS = 56
"""Width of the column of amounts left of a chart, in SVG units."""
_DAY_WIDTH = 20

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --faint: #66727f; --line: #d8dee4;
        --bar: #0072b2; --ground: #ffffff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9aa7b4; --line: #313b46;
                                              --bar: #56b4e9; --ground: #10161d } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
       margin: 2rem auto; max-width: 62rem; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin: 0; string-set: title content() }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
p { margin: .3rem 0; color: var(--faint) }
table { border-collapse: collapse; width: 100%; margin: .6rem 0;
        font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
th { color: var(--faint); font-weight: 600 } tfoot td { font-weight: 700; border-bottom: 0 }
svg { width: 100%; height: auto; display: block } rect { fill: var(--bar) }
line { stroke: var(--line) } text { fill: var(--faint); font-size: 10px }
.note { border-left: 3px solid #d55e00; padding-left: .8rem; color: var(--ink) }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem }
@media print { :root { --ink: #000; --faint: #444; --line: #bbb; --bar: #0072b2; --ground: #fff }
               section { break-before: page; break-inside: avoid }
               body { margin: 0; max-width: none; padding: 0; font-size: 10pt }
               th, td { padding: .2rem .35rem } }
@page { size: A4; margin: 18mm 16mm;
        @bottom-left { content: string(title); font: 8pt sans-serif; color: #444 }
        @bottom-right { content: counter(page) " / " counter(pages);
                        font: 8pt sans-serif; color: #444 } }
"""


def render(statement: Statement, context: StatementContext) -> str:
    """Return the whole document as text.

    Amounts have two decimals, the ledger has them all.
    """
    title = statement.title
    payers = [account for account in statement.everyone if account.name or account.total_pusd]
    parts = [
        _header(statement, context),
        _unpriced_note(statement, context),
        _inexact_note(statement),
        _summary(statement, context, payers),
        _outlook(context),
        *(_section(account, statement, context) for account in payers),
    ]
    body = "\n".join(part for part in parts if part)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _header(statement: Statement, context: StatementContext) -> str:
    """Return the title, the period, who it is for, and when it was drawn up."""
    lines = [f"Period: {statement.period(context.drawn_up)}"]
    if context.organisation:
        lines.insert(0, context.organisation)
    lines.append(f"Drawn up: {context.drawn_up:%Y-%m-%d %H:%M} UTC")
    lines.append(f"By {statement.by}. Spend on language models, UTC days, in USD.")
    text = "<br>".join(escape(line) for line in lines)
    return f"<h1>{escape(statement.title)}</h1><p>{text}</p>"


def _unpriced_note(statement: Statement, context: StatementContext) -> str:
    """Return how much is not included in the amounts, and what to do about it."""
    if not statement.unpriced_calls:
        return ""
    share = context.unpriced_tokens / statement.tokens if statement.tokens else 0.0
    calls = counted(statement.unpriced_calls, "call")
    text = (
        f"Not included in the amounts: {calls} ({share:.1%} of all tokens), because no price is "
        "known for their models. Ask whoever runs crewmeter to add the prices; the amounts are "
        "then corrected for this period, too."
    )
    return f'<p class="note">{escape(text)}</p>'


def _inexact_note(statement: Statement) -> str:
    """Return how many calls have no exact cost, and what to do about it."""
    if not statement.inexact_calls:
        return ""
    have = "has" if statement.inexact_calls == 1 else "have"
    text = (
        f"Not exact: {counted(statement.inexact_calls, 'call')} {have} a bound or an estimate for "
        "a cost, because part of the usage or of the price is unknown. They are included in the "
        "amounts marked with *. Ask whoever runs crewmeter what is unknown."
    )
    return f'<p class="note">{escape(text)}</p>'


def _summary(statement: Statement, context: StatementContext, payers: Sequence[Account]) -> str:
    """Return the table of payers, with a sum in every column."""
    shared = statement.rule != "none"
    headings = [statement.by, "calls", "failed", "without price", "input tokens", "output tokens"]
    if shared:
        headings += ["direct", "shared"]
    headings += ["USD", "against last month", "budget a month"]
    rows = [_summary_row(account, context, shared=shared) for account in payers]
    counts = ("calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens")
    sums = [f"{sum(getattr(account, name) for account in payers):,}" for name in counts]
    if shared:
        sums += [
            _usd(sum(account.direct_pusd for account in payers)),
            _usd(sum(account.shared_pusd for account in payers)),
        ]
    exact = not statement.unpriced_calls and not statement.inexact_calls
    before = sum(context.previous.values())
    total = statement.total_pusd
    change = 100 * (total - before) / before if before else None
    budget = sum(context.budgets.get(account.name, 0) for account in payers)
    sums += [
        _starred(total, exact=exact),
        _percent(change),
        _usd(budget) if budget else "–",
    ]
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in ["Total", *sums])
    legend = ""
    if not exact:
        meaning = COST_LEGEND if statement.inexact_calls else UNPRICED_LEGEND
        legend = f"<p>{escape(meaning)}</p>"
    rule = ""
    if shared:
        how = escape(f"Cost without a {statement.by} is shared out: {statement.rule}.")
        rule = f"<p>{how}</p>"
    return (
        _table(
            headings,
            rows,
            f"<tfoot><tr>{cells}</tr></tfoot>",
        )
        + legend
        + rule
    )


def _summary_row(account: Account, context: StatementContext, *, shared: bool) -> list[str]:
    cells = [
        _name(account),
        f"{account.calls:,}",
        f"{account.failed_calls:,}",
        f"{account.unpriced_calls:,}",
        f"{account.input_tokens:,}",
        f"{account.output_tokens:,}",
    ]
    if shared:
        cells += [
            _usd(account.direct_pusd),
            _usd(account.shared_pusd),
        ]
    cells.append("no price known" if account.unknown else _due(account))
    budget = context.budgets.get(account.name)
    cells.append(
        _percent(
            context.change(
                account.name,
                account.total_pusd,
            )
        )
    )
    cells.append("–" if budget is None else _usd(budget))
    return cells


def _outlook(context: StatementContext) -> str:
    """Return where the month is heading, where it is not over."""
    ahead = context.forecast
    if ahead is None or not ahead.days_of_history:
        return ""
    return (
        f"<p>Forecast for the whole month: {_usd(ahead.expected_pusd)} USD "
        f"(80 % interval {_usd(ahead.low_pusd)} to {_usd(ahead.high_pusd)}).</p>"
    )


def _section(account: Account, statement: Statement, context: StatementContext) -> str:
    """Return one payer's page: spend, budget, a chart a day, and what it went on."""
    lists = "".join(
        f"<div>{_breakdown(what, amounts)}</div>" for what, amounts in account.detail_pusd.items()
    )
    facts = []
    change = context.change(account.name, account.total_pusd)
    if change is not None:
        facts.append(f"{_percent(change)} against the same days of last month")
    budget = context.budgets.get(account.name)
    if budget:
        share = 100 * account.total_pusd / budget
        facts.append(f"{share:,.0f} % of the budget of {_usd(budget)} USD a month")
    beside = f"<p>{escape('; '.join(facts))}</p>" if facts else ""
    return (
        f"<section><h2>{escape(_name(account))}: {_due(account)} USD</h2>{beside}"
        f'{_chart(account.daily_pusd, statement)}<div class="columns">{lists}</div></section>'
    )


def _breakdown(what: str, amounts: Mapping[str, int]) -> str:
    ranked = sorted(
        amounts.items(),
        key=lambda item: (-item[1], item[0]),
    )
    return _table(
        [what, "USD"],
        [[name, _usd(pusd)] for name, pusd in ranked if pusd],
    )


def _chart(daily: Mapping[date, int], statement: Statement) -> str:
    """Return a bar a day with both axes, empty where nothing was spent."""
    first = statement.since.date()
    last = (statement.until - timedelta(microseconds=1)).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    most = max(daily.get(day, 0) for day in days)
    if not most:
        return ""
    width = _AXIS + len(days) * _DAY_WIDTH
    bars = "".join(
        _bar(
            n,
            day,
            daily.get(day, 0),
            most,
        )
        for n, day in enumerate(days)
    )
    every = max(
        5,
        -(-len(days) // 12),
    )
    labels = "".join(
        f'<text x="{_AXIS + n * _DAY_WIDTH + 10}" y="116" text-anchor="middle">'
        f"{_day_text(day, statement)}</text>"
        for n, day in enumerate(days)
        if n % every == 0 or day == last
    )
    label = f"Spend per day, at most {_usd(most)} USD"
    return (
        f'<svg viewBox="0 0 {width} 120" role="img" aria-label="{label}">'
        f"{_axis(most, width)}{bars}{labels}</svg>"
    )


def _axis(most: int, width: int) -> str:
    """Return the USD axis: lines at nothing, half and the most, each with its amount."""
    lines = []
    for amount, y in ((0, 100), (most // 2, 55), (most, 10)):
        # PDF makers ignore the page's style inside a chart, so colours are attributes too.
        lines.append(f'<line x1="{_AXIS}" x2="{width}" y1="{y}" y2="{y}" stroke="#ccc"/>')
        text = "0" if amount == 0 else _usd(amount)
        lines.append(f'<text x="{_AXIS - 4}" y="{y + 3}" text-anchor="end">{text}</text>')
    lines.append(f'<text x="{_AXIS - 4}" y="116" text-anchor="end">USD</text>')
    return "".join(lines)


def _day_text(day: date, statement: Statement) -> str:
    if statement.month:
        return f"{day.day}"
    return f"{day.day} {day:%b}"


def _bar(number: int, day: date, amount: int, most: int) -> str:
    height = amount * 90 / most
    left = _AXIS + number * _DAY_WIDTH + 2
    return (
        f'<rect fill="#0072b2" x="{left}" y="{100 - height:.1f}" width="16" '
        f'height="{height:.1f}"><title>{day:%b} {day.day}: {_usd(amount)} USD</title></rect>'
    )


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], foot: str = "") -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>"


def _name(account: Account) -> str:
    return account.name or "(unassigned)"


def _percent(change: float | None) -> str:
    if change is None:
        return "–"
    return signed_percent(change)


def _due(account: Account) -> str:
    """Return what a payer is charged, with a star where it is not exact."""
    return _starred(account.total_pusd, exact=account.exact)


def _starred(pusd: int, *, exact: bool) -> str:
    return _usd(pusd) if exact else f"{_usd(pusd)}*"


def _usd(pusd: int) -> str:
    """Return USD with two decimals.

    An amount that would vanish is ``< 0.01``.
    """
    value = Decimal(pusd).scaleb(-12)
    if value and abs(value) < Decimal("0.005"):
        return "< 0.01" if value > 0 else "> −0.01"
    return f"{value:,.2f}"
