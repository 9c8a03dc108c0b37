"""``crewmeter prices``: show a model's prices, update the book, check its age, coverage and sources. No network."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crewmeter.providers import canonical_provider
from crewmeter_cost.audit import coverage
from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption
from crewmeter_cost.cli.output import print_csv, print_json, print_table
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing import shelf
from crewmeter_cost.pricing.lookup import Disagreement, Library
from crewmeter_cost.pricing.timeline import CONDITIONS

if TYPE_CHECKING:
    from crewmeter_cost.pricing.rates import Price

__all__ = ["register"]

_COMMON = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
_NS = 1_000_000_000


def register(app: typer.Typer, help: str) -> None:
    """Add the group of commands to the command line."""
    prices = typer.Typer(no_args_is_help=True, help=help)
    app.add_typer(prices, name="prices", help=help)

    @prices.command("show", help="Every price a model has had, by source and provider; USD per million tokens, fees per one.")
    def show(
        model: Annotated[str, typer.Argument(help="The model's name.")],
        provider: Annotated[str | None, typer.Option("--provider", help="Only this provider; also finds names by rule.")] = None,
        format: FormatOption = Format.TABLE,
    ) -> None:
        _show(model, canonical_provider(provider), format)

    @prices.command("update", help="Take newer prices from the installed genai-prices, or from a file.")
    def update(
        file: Annotated[Path | None, typer.Option("--file", help="A catalogue made by crewmeter, or data.json of genai-prices.")] = None,
    ) -> None:
        _update(file)

    @prices.command("check", help="Age, coverage of the ledger's models, and where the sources disagree.")
    def check(
        ledger: LedgerOption = None,
        max_age: Annotated[int | None, typer.Option("--max-age", min=1, help="Fail where the newest price is older (days).")] = None,
        format: FormatOption = Format.TABLE,
    ) -> None:
        _check(ledger, max_age, format)


def _text(price: Price) -> str:
    if isinstance(price, str):
        return price
    return str(price[0]) + "".join(f", {dearer} over {_size(start)}" for start, dearer in price[1:])


def _size(tokens: int) -> str:
    return f"{tokens // 1000}k" if tokens % 1000 == 0 else f"{tokens:,}"


def _show(model: str, provider: str | None, format: Format) -> None:
    listings = Library().listings(model, provider)
    if not listings:
        where = f" at {provider}" if provider else ""
        raise CrewMeterError(f"no catalogue lists {model!r}{where}", hint="check the spelling, or add it to your prices file", exit_code=1)
    rows: list[dict[str, Any]] = []
    for listing in listings:
        for period in listing.entry.periods:
            prices = {unit: _text(price) for unit, price in period.items() if unit not in CONDITIONS}  # type: ignore[arg-type]  # str or list
            rows.append(
                {
                    "source": listing.entry.source, "provider": listing.entry.provider, "model": listing.entry.model,
                    "matched_by": list(listing.rules), "from": period.get("from"), "hours": period.get("hours"), "tier": period.get("tier"),
                    "prices": prices,
                }
            )  # fmt: skip
    if format is Format.JSON:
        print_json(rows)
    elif format is Format.CSV:
        fields = ("source", "provider", "model", "matched_by", "from", "hours", "tier", "prices")
        print_csv(fields, ({**row, "matched_by": " ".join(row["matched_by"]), "prices": json.dumps(row["prices"])} for row in rows))
    else:
        columns = [("provider", "left"), ("when", "left"), ("prices", "left"), ("source", "left")]
        print_table(f"{model}: USD per million tokens, fees per one", columns, [_cells(row) for row in rows if row["prices"]])


def _cells(row: dict[str, Any]) -> list[str]:
    when = " ".join(part for part in (row["from"] and f"from {row['from']}", row["hours"], row["tier"]) if part)
    units = (*_COMMON, *(unit for unit in row["prices"] if unit not in _COMMON))
    prices = "; ".join(f"{unit} {row['prices'][unit]}" for unit in units if unit in row["prices"])
    return [row["provider"], when or "always", prices, row["source"]]


def _update(file: Path | None) -> None:
    from crewmeter_cost.pricing import compile_genai

    shipped = Library().genai
    if file is not None:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise CrewMeterError(f"{file} can't be read: {error.strerror}", hint="check the path") from error
        text = raw.decode("utf-8", "replace") if raw.startswith(b'{"format"') else compile_genai.compile_file(file)
    else:
        version = compile_genai.installed_version()
        if not shelf.is_newer(version, shipped.version):
            hint = "`pip install -U genai-prices` for a newer one, or give --file"
            sys.stdout.write(
                f"the book has the prices of genai-prices {shipped.version}, and {version} is installed: nothing to do\n({hint})\n"
            )
            return
        text = compile_genai.compile_installed()
    path = shelf.keep(text)
    sys.stdout.write(f"{path}: {Library().genai.version}, in use from now on; `crewmeter reprice --dry-run` shows what it changes\n")


def _check(ledger: str | None, max_age: int | None, format: Format) -> None:
    library = Library()
    today = datetime.now(UTC)
    newest = library.newest_price(today.date())
    age = (today.date() - newest).days if newest else None
    covered = coverage.of_ledger(ledger)
    disagreements = list(library.disagreements(int(today.timestamp()) * _NS))
    relevant = disagreements if covered is None else [each for each in disagreements if any(each.model == row.model for row in covered)]
    document = {
        "book": {
            "source": "genai-prices", "version": library.genai.version, "newest_price": newest and newest.isoformat(), "age_days": age,
            "file": library.genai.origin,
        },
        "fallback": {"source": "litellm", "version": library.litellm.version},
        "ledger": None if covered is None else [row._asdict() for row in covered],
        "disagreements": [_disagreement(each) for each in relevant],
    }  # fmt: skip
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(coverage.Covered._fields, (row._asdict() for row in covered or ()))
    else:
        sys.stdout.write(f"book: genai-prices {library.genai.version}, newest price of {newest} ({age} days ago), {library.genai.origin}\n")
        _print_check(covered, document["disagreements"], len(disagreements))  # type: ignore[arg-type]  # the list made above
    old = max_age is not None and age is not None and age > max_age
    if old:
        sys.stderr.write(f"check failed: the newest price is {age} days old (--max-age {max_age}); run `crewmeter prices update`\n")
    if old or any(row.today is None for row in covered or ()):
        raise typer.Exit(1)


def _disagreement(each: Disagreement) -> dict[str, str]:
    return {
        "provider": each.provider,
        "model": each.model,
        "unit": each.unit,
        "genai_prices": _text(each.genai),
        "litellm": _text(each.litellm),
    }


def _print_check(covered: list[coverage.Covered] | None, disagreements: list[dict[str, str]], all_of_them: int) -> None:
    if covered is None:
        sys.stdout.write(f"no ledger yet; the sources disagree on {all_of_them} prices (--format json lists them)\n")
        return
    columns = [("provider", "left"), ("model", "left"), ("calls", "right"), ("unpriced", "right"), ("priced today by", "left")]
    rows = [[row.provider, row.model, f"{row.calls:,}", f"{row.unpriced:,}", row.today or row.reason] for row in covered]
    print_table("Models in this ledger", columns, rows)
    if disagreements:
        columns = [("provider", "left"), ("model", "left"), ("unit", "left"), ("genai-prices (used)", "right"), ("litellm", "right")]
        print_table("Where the sources disagree on them", columns, [list(each.values()) for each in disagreements])
    else:
        sys.stdout.write("the sources agree on all of them\n")
