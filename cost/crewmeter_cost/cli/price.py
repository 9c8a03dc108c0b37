"""``crewmeter price MODEL``: what a usage costs, line by line, or why it has no price. No ledger, no network."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter.providers.hosts import canonical_provider
from crewmeter.usage.token_usage import TokenUsage, read_usage
from crewmeter_cost.cli.options import Format, FormatOption, instant
from crewmeter_cost.cli.output import console, exact_usd, print_csv, print_json, print_table
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.charge import Charge, charge
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from crewmeter_cost.pricing.charge import Outcome

__all__ = ["register"]

_NS = 1_000_000_000
_MOST = 2**40
_EXAMPLE = """write --usage '{"prompt_tokens": 1000, "completion_tokens": 300}'"""


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("price", help=help)
    def command(
        model: Annotated[
            str,
            typer.Argument(
                metavar="MODEL", help="The model, as the client or the provider names it."
            ),
        ],
        provider: Annotated[
            str | None,
            typer.Option(
                "--provider", help="Who bills it; left out, the model's maker is assumed."
            ),
        ] = None,
        host: Annotated[
            str | None,
            typer.Option(
                "--host", help="The host the call went to; a known one decides the provider."
            ),
        ] = None,
        input: Annotated[
            int | None,
            typer.Option("--input", min=0, max=_MOST, help="Input tokens, cached ones included."),
        ] = None,
        cache_read: Annotated[
            int,
            typer.Option("--cache-read", min=0, max=_MOST, help="Of these, read from the cache."),
        ] = 0,
        cache_write: Annotated[
            int,
            typer.Option(
                "--cache-write", min=0, max=_MOST, help="Of these, written for 5 minutes."
            ),
        ] = 0,
        cache_write_1h: Annotated[
            int,
            typer.Option(
                "--cache-write-1h", min=0, max=_MOST, help="Of these, written for an hour."
            ),
        ] = 0,
        output: Annotated[
            int | None,
            typer.Option("--output", min=0, max=_MOST, help="Output tokens, reasoning included."),
        ] = None,
        web_searches: Annotated[
            int,
            typer.Option("--web-searches", min=0, max=_MOST, help="Searches the provider made."),
        ] = 0,
        usage: Annotated[
            str | None,
            typer.Option("--usage", help="A provider's usage as JSON, instead of the counts."),
        ] = None,
        at: Annotated[
            str | None,
            typer.Option("--at", help="When: 2026-11-01, 2026-11-01T12:00Z, 30d. Default: now."),
        ] = None,
        tier: Annotated[
            str | None, typer.Option("--tier", help="Service tier: batch, flex, priority …")
        ] = None,
        operation: Annotated[
            str, typer.Option("--operation", help="chat, embeddings, rerank …")
        ] = "chat",
        format: FormatOption = Format.TABLE,
    ) -> None:
        counts = (input, output, cache_read, cache_write, cache_write_1h, web_searches)
        if usage is None:
            used = _counted(*counts)
        elif any(counts):
            raise CrewMeterError(
                "--usage stands beside single counts",
                hint="give either the provider's JSON or the counts",
            )
        else:
            used = read_usage(_parsed(usage), provider=provider, operation=operation)
        moment = (
            datetime.now(UTC) if at is None else instant(at, option="--at", now=datetime.now(UTC))
        )
        outcome = charge(
            used,
            PriceBook.load(),
            provider=provider,
            model=model,
            host=host,
            at_ns=int(moment.timestamp() * _NS),
            tier=tier,
            operation=operation,
        )
        _print(outcome, asked=(canonical_provider(provider), model), format=format)


def _counted(
    input: int | None, output: int | None, read: int, write: int, write_1h: int, searches: int
) -> TokenUsage:
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
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CrewMeterError(
            f"--usage is not JSON: {error}",
            hint="""write --usage '{"prompt_tokens": 1000, "completion_tokens": 300}'""",
        ) from error
    if raw is not None and not isinstance(raw, dict):
        raise CrewMeterError(
            "--usage is no JSON object",
            hint="""write --usage '{"prompt_tokens": 1000, "completion_tokens": 300}'""",
        )
    return raw


def _print(outcome: Outcome, *, asked: tuple[str | None, str], format: Format) -> None:
    priced = isinstance(outcome, Charge)
    items = [
        {
            "item": line.item,
            "quantity": line.quantity,
            "rate_usd": line.rate_usd,
            "cost_usd": exact_usd(line.cost_pusd),
        }
        for line in (outcome.items if isinstance(outcome, Charge) else ())
    ]
    document = {
        "cost_usd": exact_usd(outcome.cost_pusd) if isinstance(outcome, Charge) else None,
        "cost_status": outcome.status,
        "provider": outcome.provider or asked[0],
        "model": outcome.model or asked[1],
        "items": items,
        "price_source": outcome.source if isinstance(outcome, Charge) else None,
        "price_version": outcome.version if isinstance(outcome, Charge) else None,
    }
    if format is Format.JSON:
        print_json(document)
    elif format is Format.CSV:
        print_csv(("item", "quantity", "rate_usd", "cost_usd"), items)
    elif priced:
        rows = [
            (
                str(line["item"]),
                f"{line['quantity']:,}",
                f"${line['rate_usd']}",
                f"${line['cost_usd']}",
            )
            for line in items
        ]
        columns = [("item", "left"), ("quantity", "right"), ("rate", "right"), ("cost", "right")]
        title = f"{document['model']} at {document['provider']} ({document['price_source']}, {document['cost_status']})"
        print_table(title, columns, rows, footer=("total", "", "", f"${document['cost_usd']}"))
    else:
        console().print(f"no cost ({document['cost_status']})", markup=False)
    if not isinstance(outcome, Charge):
        sys.stderr.write(f"note: {outcome.reason}\n")
    if outcome.flags:
        sys.stderr.write(f"note: {', '.join(outcome.flags)} (see docs/pricing.md)\n")
