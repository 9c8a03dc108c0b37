"""``crewmeter price MODEL``: what a usage costs, line by line, or a model's rates.

No ledger and no network are used.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.cli.options import Format, FormatOption, ZoneOption, instant
from crewmeter_cost.cli.output import exact_texts, exact_usd, print_csv, print_json, print_table
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import cost_status_text, flag_text, provider_text
from crewmeter_cost.pricing.catalogue.nearest_names import nearest_models
from crewmeter_cost.pricing.charge import Charge, charge
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.pricing.rate_table import (
    RateTable,
    charge_document,
    charge_items,
    read_rates,
)
from crewmeter_cost.pricing.unit_prices import SINGLE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["register"]

_CENT = Decimal("0.01")
_NS = 1_000_000_000
_MAX_COUNT = 2**40
_EXAMPLE = """write --usage '{"prompt_tokens": 1000, "completion_tokens": 300}'"""
_ITEM_COLUMNS = ("item", "quantity", "rate_usd", "cost_usd")
_RATE_COLUMNS = ("item", "tier", "above_tokens", "unit", "usd")


def _count_option(name: str, text: str) -> typer.models.OptionInfo:
    """Return an option that takes a count."""
    option: typer.models.OptionInfo = typer.Option(
        name, min=0, max=_MAX_COUNT, metavar="N", help=text
    )
    return option


@dataclass(frozen=True, slots=True)
class _Request:
    """A model, who bills it, when, and on which service tier."""

    model: str
    provider: str | None
    host: str | None
    at_ns: int
    tier: str | None
    operation: str

    @property
    def billed_by(self) -> str | None:
        """The provider's code, where one was given."""
        return canonical_provider(self.provider)


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("price", help=help)(_price)


def _price(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The model, as the client or the provider names it."),
    ],
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider", metavar="NAME", help="Who bills it. Default: the model's maker."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="HOST",
            help="The host the call went to; a known one decides the provider.",
        ),
    ] = None,
    input: Annotated[
        int | None, _count_option("--input", "Input tokens, cached ones included.")
    ] = None,
    cache_read: Annotated[
        int, _count_option("--cache-read", "Input tokens read from the cache.")
    ] = 0,
    cache_write: Annotated[
        int, _count_option("--cache-write", "Input tokens written to the cache for 5 minutes.")
    ] = 0,
    cache_write_1h: Annotated[
        int, _count_option("--cache-write-1h", "Input tokens written to the cache for an hour.")
    ] = 0,
    output: Annotated[
        int | None, _count_option("--output", "Output tokens, reasoning included.")
    ] = None,
    web_searches: Annotated[
        int, _count_option("--web-searches", "Searches that the provider made.")
    ] = 0,
    usage: Annotated[
        str | None,
        typer.Option(
            "--usage", metavar="JSON", help="A provider's usage object, instead of counts."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="When: 2026-11-01, 30d. Default: now."),
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option("--tier", metavar="TIER", help="Service tier: batch, flex, priority."),
    ] = None,
    operation: Annotated[
        str,
        typer.Option("--operation", metavar="NAME", help="chat, embeddings, rerank …"),
    ] = "chat",
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    now = datetime.now(UTC)
    moment = now if at is None else instant(at, option="--at", now=now)
    request = _Request(model, provider, host, int(moment.timestamp() * _NS), tier, operation)
    counts = (input, output, cache_read, cache_write, cache_write_1h, web_searches)
    no_counts = all(count is None or count == 0 for count in counts)
    if usage is None and input is None and output is None and no_counts:
        _rates(request, format)
        return
    if usage is None:
        used = _counted(*counts)
    elif no_counts:
        used = read_usage(_parsed(usage), provider=provider, operation=operation)
    else:
        raise CrewMeterError(
            "--usage stands beside single counts",
            hint="give either the provider's JSON or the counts",
        )
    _charge(request, used, format)


def _counted(
    input: int | None, output: int | None, read: int, write: int, write_1h: int, searches: int
) -> TokenUsage:
    """Return the usage that single counts describe."""
    if input is None and output is None and not searches:
        return TokenUsage(status="missing")
    cached = read + write + write_1h
    whole = cached if input is None else input
    return TokenUsage(
        whole,
        output or 0,
        cache_read=read,
        cache_write_5m=write,
        cache_write_1h=write_1h,
        web_searches=searches,
    )


def _parsed(text: str) -> dict[str, object] | None:
    """Return the JSON object of ``--usage``."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CrewMeterError(f"--usage is not JSON: {error}", hint=_EXAMPLE) from error
    if raw is not None and not isinstance(raw, dict):
        raise CrewMeterError("--usage is no JSON object", hint=_EXAMPLE)
    return raw


def _charge(request: _Request, used: TokenUsage, format: Format) -> None:
    """Print what the usage costs.

    Exit code 0 also where it has no price.
    """
    outcome = charge(
        used,
        PriceBook.load(),
        provider=request.provider,
        model=request.model,
        host=request.host,
        at_ns=request.at_ns,
        tier=request.tier,
        operation=request.operation,
    )
    document = charge_document(
        outcome,
        provider=request.billed_by,
        model=request.model,
    )
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(_ITEM_COLUMNS, charge_items(outcome))
    elif isinstance(outcome, Charge):
        _print_charge(outcome)
    else:
        sys.stdout.write(f"no cost: {cost_status_text(outcome.status)}\n")
    if not isinstance(outcome, Charge):
        sys.stderr.write(f"note: {outcome.reason}\n")
        if outcome.status == "unknown_model":
            _suggest(request)
    _note_flags(outcome.flags)


def _print_charge(outcome: Charge) -> None:
    """Print the lines of a charge.

    Rates per 1M tokens, costs with their points in one column.
    """
    exact = [exact_usd(line.cost_pusd) for line in outcome.items]
    *costs, total = exact_texts([*exact, exact_usd(outcome.cost_pusd)])
    rows = []
    for line, cost in zip(outcome.items, costs, strict=True):
        item = line.item.replace("_", " ")
        quantity = f"{line.quantity:,}"
        rate = _rate_text(line.item, line.rate_usd)
        rows.append((item, quantity, rate, cost))
    columns = [
        ("item", "left"),
        ("quantity", "right"),
        ("rate", "point"),
        ("cost", "point"),
    ]
    status = cost_status_text(outcome.status)
    title = f"{outcome.model} at {provider_text(outcome.provider)} ({outcome.source}, {status})"
    print_table(title, columns, rows, footer=("total", "", "", total))


def _with_same_decimals(prices: Sequence[str | None]) -> list[str]:
    """Return a column of prices per 1M tokens, a dash where there is none.

    Fees below a cent are of another size and stay as they are.
    """
    fees = {price for price in prices if price is not None and Decimal(_bare(price)) < _CENT}
    known = [price for price in prices if price is not None and price not in fees]
    texts = dict(zip(known, exact_texts([_bare(price) for price in known]), strict=True))
    return ["–" if price is None else texts.get(price, price) for price in prices]


def _bare(price: str) -> str:
    """Return a price without its sign and commas."""
    return price.removeprefix("$").replace(",", "")


def _rate_text(item: str, rate_usd: str) -> str:
    """Return a rate with its unit: people compare prices per 1M tokens."""
    if item in SINGLE or item.startswith("gpu"):
        return f"${rate_usd} each"
    per_million = Decimal(rate_usd).scaleb(6).normalize()
    (text,) = exact_texts([f"{per_million:f}"])
    return f"{text} per 1M"


def _note_flags(flags: tuple[str, ...]) -> None:
    """Print what was assumed."""
    if flags:
        sys.stderr.write(f"note: {'; '.join(flag_text(flag) for flag in flags)}\n")


def _suggest(request: _Request) -> None:
    """Print the nearest names there are."""
    near = nearest_models(request.model, request.billed_by)
    if near:
        *others, last = near
        listed = f"{', '.join(others)} or {last}" if others else last
        sys.stderr.write(f"hint:  did you mean {listed}?\n")


def _rates(request: _Request, format: Format) -> None:
    """Print a model's rates.

    Exit code 1 where no price is known.
    """
    table = read_rates(
        PriceBook.load(),
        provider=request.provider,
        model=request.model,
        host=request.host,
        at_ns=request.at_ns,
        tier=request.tier,
    )
    if format is Format.JSON:
        print_json(table.document())
    elif format is Format.CSV:
        print_csv(_RATE_COLUMNS, table.rows())
    elif table.reason is None:
        _print_rates(table)
    if table.reason is not None:
        sys.stderr.write(f"error: {table.reason}\n")
        _suggest(request)
        raise typer.Exit(1)
    _note_flags(table.flags)


def _print_rates(table: RateTable) -> None:
    """Print rates as a table: a line an item and size, a column a tier."""
    tiers = table.tiers()
    cells = table.cells()
    rows = [[label] for label, _ in cells]
    for tier in tiers:
        column = [prices.get(tier) for _, prices in cells]
        for row, text in zip(rows, _with_same_decimals(column), strict=True):
            row.append(text)
    columns = [("USD per 1M tokens", "left"), *((tier, "point") for tier in tiers)]
    title = f"{table.model} at {provider_text(table.provider)} ({table.source})"
    print_table(title, columns, rows)
