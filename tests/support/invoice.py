"""Hold a ledger against the books of the server that did the billing, exchange by exchange.

Costs are worked out here from ``rates.json`` with plain decimals: nothing of the pricing under
test is used.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from support.paths import TESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.demo.fake_provider import BilledExchange, FakeProvider

__all__ = ["Played", "billed_lines", "expected_pusd", "ledger_lines", "window"]

_RATES = json.loads((TESTS / "e2e/rates.json").read_text())
_PUSD_PER_RATE = Decimal(10**6)
"""USD per million tokens × this = pico-USD per token."""


@dataclass(frozen=True)
class Played:
    """One app's run, as ``apps/play.py`` reports it."""

    app: str
    began_ns: int
    ended_ns: int
    error: str | None


def expected_pusd(entry: BilledExchange) -> int | None:
    """What the provider charges for an exchange, integer pico-USD, each item rounded half to even.

    None without a rate.
    """
    rates = _RATES.get(f"{entry.provider} {entry.request_model}")
    if rates is None:
        return None
    usage = entry.usage
    quantities = {
        "input": (usage.input or 0)
        - usage.cache_read
        - usage.cache_write_5m
        - usage.cache_write_1h,
        "cache_read": usage.cache_read,
        "cache_write_5m": usage.cache_write_5m,
        "cache_write_1h": usage.cache_write_1h,
        "output": usage.output or 0,
    }
    items = (
        (Decimal(rates[item]) * _PUSD_PER_RATE * quantity).quantize(Decimal(1), ROUND_HALF_EVEN)
        for item, quantity in quantities.items()
        if quantity
    )
    return int(sum(items))


def billed_lines(entries: Sequence[BilledExchange]) -> Counter[tuple[object, ...]]:
    """What the server billed and reported to its client, as comparable lines."""
    return Counter(
        (
            entry.operation,
            entry.request_model,
            entry.usage.input,
            entry.usage.cache_read,
            entry.usage.cache_write_5m,
            entry.usage.cache_write_1h,
            entry.usage.output,
            entry.usage.reasoning,
            expected_pusd(entry),
        )
        for entry in entries
        if entry.delivered
    )


def ledger_lines(rows: Sequence[dict[str, object]]) -> Counter[tuple[object, ...]]:
    """What the ledger charges exactly, as the same lines.

    Rows whose usage is unknown or estimated are not among them.
    """
    return Counter(
        (
            row["operation"],
            str(row["request_model"]).removeprefix("openai/"),
            row["input_tokens"],
            row["cache_read_tokens"] or 0,
            row["cache_write_5m_tokens"] or 0,
            row["cache_write_1h_tokens"] or 0,
            row["output_tokens"] or 0,
            row["reasoning_tokens"] or 0,
            row["cost_pusd"],
        )
        for row in rows
        if row["usage_status"] == "reported"
    )


def window(
    fake_provider: FakeProvider, rows: Sequence[dict[str, object]], played: Played
) -> tuple[list[BilledExchange], list[dict[str, object]]]:
    """The exchanges billed and the rows written while one app ran."""
    billed = [
        entry
        for entry in fake_provider.billing_log.billed
        if played.began_ns <= entry.at_ns <= played.ended_ns
    ]
    return billed, [
        row for row in rows if played.began_ns <= int(str(row["started_ns"])) <= played.ended_ns
    ]
