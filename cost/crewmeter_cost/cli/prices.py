"""``crewmeter prices``.

Show a model's prices, update the book, check its age, coverage and sources. No network.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    window_text,
)
from crewmeter_cost.cli.output import print_csv, print_json, print_table
from crewmeter_cost.cli.prices_update import update_prices
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.invoice_reconciliation import coverage
from crewmeter_cost.finance.invoice_reconciliation.charges import Charged, charged
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.read.unknown_usage import UnknownUsage, unknown_usage
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import nanoseconds
from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.search import Disagreement, Library
from crewmeter_cost.pricing.effective_dates import CONDITIONS, date_ns
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.pricing.catalogue.search import Listing
    from crewmeter_cost.pricing.effective_dates import Period
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["register"]

_COMMON = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
_NS = 1_000_000_000
_LISTED = ("source", "provider", "model", "matched_by", "from", "hours", "tier", "prices")
_USED = ("calls", "first_call", "last_call")
"""With ``--ledger``: how many calls were charged at a price list, and when.

Nothing for those of a catalogue.
"""
Window = tuple[datetime | None, datetime | None]

ChargedOption = Annotated[
    str | None,
    typer.Option("--ledger", help="Also the prices that this ledger's calls were charged at."),
]
InForceOption = Annotated[
    str | None,
    typer.Option("--since", help="Leave out prices that ended before: 2026-11-01, 30d, now."),
]
BegunOption = Annotated[
    str | None, typer.Option("--until", help="Leave out prices that begin later.")
]


def register(app: typer.Typer, help: str) -> None:
    """Add the group of commands to the command line."""
    prices = typer.Typer(no_args_is_help=True, help=help)
    app.add_typer(prices, name="prices", help=help)

    @prices.command(
        "show",
        help="Every price a model has had, by source and provider; USD per million tokens, fees "
        "per one.",
    )
    def show(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
        provider: Annotated[
            str | None,
            typer.Option("--provider", help="Only this provider; also finds names by rule."),
        ] = None,
        ledger: ChargedOption = None,
        since: InForceOption = None,
        until: BegunOption = None,
        format: FormatOption = Format.TABLE,
        tz: ZoneOption = None,
    ) -> None:
        _show(model, canonical_provider(provider), ledger, window(since, until), format)

    @prices.command(
        "update", help="Take newer prices from the installed genai-prices, or from a file."
    )
    def update(
        file: Annotated[
            Path | None,
            typer.Option(
                "--file", help="A catalogue made by crewmeter, or data.json of genai-prices."
            ),
        ] = None,
    ) -> None:
        update_prices(file)

    @prices.command(
        "check",
        help="Age, coverage of the models called (between --since and --until), where sources "
        "disagree.",
    )
    def check(
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        max_age: Annotated[
            int | None,
            typer.Option("--max-age", min=1, help="Fail where the newest price is older (days)."),
        ] = None,
        format: FormatOption = Format.TABLE,
        tz: ZoneOption = None,
    ) -> None:
        _check(ledger, window(since, until), max_age, format)


def _text(price: Price) -> str:
    if isinstance(price, str):
        return price
    return str(price[0]) + "".join(f", {dearer} over {_size(start)}" for start, dearer in price[1:])


def _size(tokens: int) -> str:
    return f"{tokens // 1000}k" if tokens % 1000 == 0 else f"{tokens:,}"


def _show(
    model: str, provider: str | None, ledger: str | None, span: Window, format: Format
) -> None:
    listings = Library().listings(model, provider)
    used: list[Charged] = []
    if ledger is not None:
        with Ledger.open(ledger, read_only=True) as book:
            used = charged(book, model, provider, since=span[0], until=span[1])
    if not listings and not used:
        where = f" at {provider}" if provider else ""
        raise CrewMeterError(
            f"no catalogue lists {model!r}{where}",
            hint="check the spelling, or add it to your prices file",
            exit_code=1,
        )
    rows = [row for listing in listings for row in _listed(listing, span)]
    if format is Format.TABLE:
        columns = [("provider", "left"), ("when", "left"), ("prices", "left"), ("source", "left")]
        print_table(
            f"{model}: USD per million tokens, fees per one",
            columns,
            [_cells(row) for row in rows if row["prices"]],
        )
        if used:
            cells = [
                (
                    each.provider,
                    f"{each.first_call[:10]} to {each.last_call[:10]}",
                    _priced(each),
                    each.source,
                )
                for each in used
            ]
            print_table(f"Charged in this ledger, {window_text(*span)}", columns, cells)
        elif ledger is not None:
            sys.stdout.write(f"nothing was charged for it in this ledger, {window_text(*span)}\n")
        return
    if ledger is not None:
        rows = [{**row, **dict.fromkeys(_USED)} for row in rows] + [_used(each) for each in used]
    if format is Format.JSON:
        print_json(rows)
    else:
        fields = (*_LISTED, *(_USED if ledger is not None else ()))
        print_csv(
            fields,
            (
                {
                    **row,
                    "matched_by": " ".join(row["matched_by"]),
                    "prices": json.dumps(row["prices"]),
                }
                for row in rows
            ),
        )


def _listed(listing: Listing, span: Window) -> Iterator[dict[str, Any]]:
    """Return one source's price lists in force at some time of the window."""
    periods = listing.entry.periods
    for index, period in enumerate(periods):
        if _in_force(index, periods, span):
            prices = {
                unit: _text(price)  # type: ignore[arg-type]  # str or list
                for unit, price in period.items()
                if unit not in CONDITIONS
            }
            entry = listing.entry
            given: tuple[object, ...] = (
                entry.source,
                entry.provider,
                entry.model,
                list(listing.rules),
                *map(period.get, ("from", "hours", "tier")),
                prices,
            )
            yield dict(zip(_LISTED, given, strict=True))


def _in_force(index: int, periods: Sequence[Period], span: Window) -> bool:
    """Return whether a price list applies at some time of the window."""
    since, until = (None if moment is None else nanoseconds(moment) for moment in span)

    def begins(period: Period) -> int:
        return date_ns(str(period["from"])) if "from" in period else 0

    period = periods[index]
    if until is not None and begins(period) >= until:
        return False
    following = (
        each
        for each in periods[index + 1 :]
        if each.get("tier") == period.get("tier") and "hours" not in each
    )
    ends = [begins(each) for each in following if "from" in each]
    return since is None or "hours" in period or not ends or min(ends) > since


def _used(each: Charged) -> dict[str, Any]:
    prices = {unit: _text(price) for unit, price in each.prices.items()}
    given: tuple[object, ...] = (
        f"ledger ({each.source})",
        each.provider,
        each.model,
        [],
        None,
        None,
        None,
        prices,
    )
    return {
        **dict(zip(_LISTED, given, strict=True)),
        **dict(zip(_USED, (each.calls, each.first_call, each.last_call), strict=True)),
    }


def _priced(each: Charged) -> str:
    return f"{_units(_used(each)['prices'])} ({counted(each.calls, 'call')})"


def _cells(row: dict[str, Any]) -> list[str]:
    when = " ".join(
        part for part in (row["from"] and f"from {row['from']}", row["hours"], row["tier"]) if part
    )
    return [row["provider"], when or "always", _units(row["prices"]), row["source"]]


def _units(prices: dict[str, str]) -> str:
    order = (*_COMMON, *(unit for unit in prices if unit not in _COMMON))
    return "; ".join(f"{unit} {prices[unit]}" for unit in order if unit in prices)


def _check(ledger: str | None, span: Window, max_age: int | None, format: Format) -> None:
    PriceBook.load()  # raises where the user's own file is not understood
    library = Library()
    today = datetime.now(UTC)
    newest = library.newest_price(today.date())
    age = (today.date() - newest).days if newest else None
    covered = coverage.of_ledger(ledger, since=span[0], until=span[1])
    unknown_parts: list[UnknownUsage] = []
    if covered:
        with Ledger.open(ledger, read_only=True) as book:
            unknown_parts = unknown_usage(book, since=span[0], until=span[1])
    disagreements = list(library.disagreements(int(today.timestamp()) * _NS))
    requested = {(row.provider, row.model) for row in covered or ()}
    relevant = (
        disagreements
        if covered is None
        else [each for each in disagreements if (each.provider, each.model) in requested]
    )
    listed = [_disagreement(each) for each in relevant]
    document = {
        "book": {
            "source": "genai-prices",
            "version": library.genai.version,
            "newest_price": newest and newest.isoformat(),
            "age_days": age,
            "file": library.genai.origin,
        },
        "fallback": {"source": "litellm", "version": library.litellm.version},
        "ledger": None if covered is None else [row._asdict() for row in covered],
        "disagreements": listed,
        "unknown_usage": [part._asdict() for part in unknown_parts],
    }
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(coverage.Covered._fields, (row._asdict() for row in covered or ()))
    else:
        sys.stdout.write(
            f"book: genai-prices {library.genai.version}, {_origin(library.genai.origin)}\n"
        )
        sys.stdout.write(
            f"newest price: {newest}, {counted(age, 'day')} ago\n"
            if age is not None
            else "newest price: none is dated\n"
        )
        _print_check(covered, listed, len(disagreements))
        if unknown_parts:
            rows = [[part.provider, part.path, f"{part.calls:,}"] for part in unknown_parts]
            columns = [("provider", "left"), ("path", "left"), ("calls", "right")]
            print_table(
                "Usage that nobody knows: these calls cost at least the sum given", columns, rows
            )
    old = max_age is not None and age is not None and age > max_age
    unknown = sum(row.today is None for row in covered or ())
    if old:
        sys.stderr.write(
            f"check failed: the newest price is {age} days old (--max-age {max_age}); run "
            "`crewmeter prices update`\n"
        )
    if unknown:
        sys.stderr.write(
            f"check failed: no price is known for {counted(unknown, 'model')} of this ledger\n"
        )
    if old or unknown:
        raise typer.Exit(1)


def _origin(path: str) -> str:
    """Where the book lies, in words: its path matters only where it is the user's own."""
    return (
        "shipped with crewmeter"
        if Path(path).parent == catalogue_files.SHIPPED
        else f"your own:\n  {path}"
    )


def _disagreement(each: Disagreement) -> dict[str, str]:
    return {
        "provider": each.provider,
        "model": each.model,
        "unit": each.unit,
        "genai_prices": _text(each.genai),
        "litellm": _text(each.litellm),
    }


def _print_check(
    covered: list[coverage.Covered] | None, disagreements: list[dict[str, str]], all_of_them: int
) -> None:
    if covered is None:
        sys.stdout.write(
            f"no ledger yet; the sources disagree on {all_of_them} prices (--format json lists "
            "them)\n"
        )
        return
    columns = [
        ("provider", "left"),
        ("model", "left"),
        ("calls", "right"),
        ("unpriced", "right"),
        ("priced today by", "right"),
    ]
    rows = [
        [row.provider, row.model, f"{row.calls:,}", f"{row.unpriced:,}", row.today or "NOTHING"]
        for row in covered
    ]
    if not covered:
        sys.stdout.write("no model was called in this time\n")
        return
    print_table("Models called", columns, rows)
    for row in covered:
        if row.today is None:
            sys.stdout.write(f"{row.model}: {row.reason}\n")
    if disagreements:
        columns = [
            ("provider", "left"),
            ("model", "left"),
            ("unit", "left"),
            ("genai-prices (used)", "right"),
            ("litellm", "right"),
        ]
        print_table(
            "Where the sources disagree on them",
            columns,
            [list(each.values()) for each in disagreements],
        )
    else:
        sys.stdout.write("the sources agree on all of them\n")
