"""The ledger as FOCUS 1.2: one row per day, price and payer, with exact sums.

FOCUS is the FinOps Open Cost and Usage Specification.

Each charge's lines are derived again from the rates it froze, so that tokens, unit prices and
costs of every bucket are in rows of their own. Custom columns start with ``x_`` as the
specification asks. Calls without a price cannot be in a bill: they are counted and reported,
never written as 0. Column names, types and allowed values: FOCUS 1.2, section 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.pricing.charge import items_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crewmeter_cost.ledger.read.calls import BilledCall
    from crewmeter_cost.pricing.charge_result import Item

__all__ = ["COLUMNS", "FocusExport", "rows"]

COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
    "x_Agent",
    "x_Calls",
    "x_Crew",
    "x_PriceStatus",
    "x_User",
)
"""Every mandatory column of FOCUS 1.2, the conditional ones that apply to metered SaaS,
and ours.
"""

_PROVIDERS = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "aws.bedrock": "Amazon Web Services",
    "azure.ai.openai": "Microsoft",
    "gcp.gemini": "Google Cloud",
    "gcp.vertex_ai": "Google Cloud",
    "groq": "Groq",
    "mistral_ai": "Mistral AI",
    "deepseek": "DeepSeek",
    "openrouter": "OpenRouter",
    "cohere": "Cohere",
    "x_ai": "xAI",
}
"""What invoices call a provider; the others keep the name the ledger has."""
_UNITS = {
    "web_search": "Requests",
    "request": "Requests",
    "search_unit": "Requests",
    "gpu_millisecond": "Milliseconds",
}
"""Line → unit, where it is not tokens."""
_DAY = timedelta(days=1)


class _Key(NamedTuple):
    """What makes one row: everything but the amounts."""

    day: str
    provider: str
    model: str
    service: str
    item: str
    rate_usd: str
    version: str
    status: str
    crew: str | None
    agent: str | None
    team: str | None
    user: str | None
    tags: str


@dataclass(slots=True)
class _Sum:
    quantity: int = 0
    cost_pusd: int = 0
    calls: int = 0


@dataclass(slots=True)
class FocusExport:
    """What an export holds and what it left out, known once it was read to its end."""

    unpriced_calls: int = 0
    total_pusd: int = 0


def rows(billed: Iterable[BilledCall], export: FocusExport) -> Iterator[str]:
    """Yield CSV lines, header first.

    `billed` comes in order of time, so that one day is held in memory at once.
    """
    yield csv_line(COLUMNS)
    day = ""
    sums: dict[_Key, _Sum] = {}
    for call in billed:
        today = f"{datetime.fromtimestamp(call.started_ns / 1e9, UTC):%Y-%m-%d}"
        if today != day:
            yield from _written(sums)
            day = today
            sums = {}
        if call.cost_pusd is None or call.frozen is None:
            export.unpriced_calls += call.unpriced
            continue
        export.total_pusd += call.cost_pusd
        _add(sums, today, call)
    yield from _written(sums)


def _add(sums: dict[_Key, _Sum], day: str, call: BilledCall) -> None:
    """Add a call's line items to the day's rows.

    A cost that no line item explains (a provider's own figure, a rounding) is a row of its own.
    """
    record = call.record
    frozen = call.frozen
    cost = call.cost_pusd or 0
    if frozen is None:
        return
    items: tuple[Item, ...] = items_of(
        call.usage, frozen, operation=str(record["operation"]), duration_ns=call.duration_ns
    )
    lines = [(item.item, item.quantity, item.rate_usd, item.cost_pusd) for item in items]
    if (rest := cost - sum(item.cost_pusd for item in items)) or not lines:
        lines = (
            [
                (
                    "request",
                    1,
                    format(
                        Decimal(cost).scaleb(-12),
                        "f",
                    ),
                    cost,
                )
            ]
            if rest
            else lines
        )
    tags = (
        json.dumps(
            record["tags"],
            sort_keys=True,
            ensure_ascii=False,
        )
        if record["tags"]
        else ""
    )
    for index, (item, quantity, rate, amount) in enumerate(lines):
        key = _Key(
            day,
            str(record["provider"] or frozen.provider),
            str(record["response_model"] or record["request_model"] or frozen.model),
            str(record["operation"]),
            item,
            rate,
            frozen.hash,
            str(record["cost_status"]),
            _text(record["crew"]),
            _text(record["agent"]),
            _text(record["team"]),
            _text(record["user"]),
            tags,
        )
        entry = sums.setdefault(key, _Sum())
        entry.quantity += quantity
        entry.cost_pusd += amount
        entry.calls += index == 0


def _written(sums: dict[_Key, _Sum]) -> Iterator[str]:
    for key in sorted(sums, key=lambda key: tuple(part or "" for part in key)):
        record = _record(key, sums[key])
        yield csv_line(record[column] for column in COLUMNS)


def _record(key: _Key, amount: _Sum) -> dict[str, object]:
    start = datetime.strptime(key.day, "%Y-%m-%d").replace(tzinfo=UTC)
    month = start.replace(day=1)
    following = month.replace(
        year=month.year + month.month // 12,
        month=month.month % 12 + 1,
    )
    provider = _PROVIDERS.get(key.provider, key.provider)
    unit = _UNITS.get(key.item, "Tokens")
    cost = _decimal(amount.cost_pusd)
    rate = format(Decimal(key.rate_usd), "f")
    sku = f"{key.provider}/{key.model}/{key.item}"
    resource_type = "Crew" if key.crew else None
    account_type = "Team" if key.team else None
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ListCost": cost,
        "ContractedCost": cost,
        "ListUnitPrice": rate,
        "ContractedUnitPrice": rate,
        "BillingAccountId": key.provider,
        "BillingAccountName": provider,
        "BillingAccountType": "Provider account",
        "BillingCurrency": "USD",
        "PricingCurrency": "USD",
        "BillingPeriodStart": _moment(month),
        "BillingPeriodEnd": _moment(following),
        "ChargePeriodStart": _moment(start),
        "ChargePeriodEnd": _moment(start + _DAY),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{key.model} {key.item.replace('_', ' ')} ({key.service})",
        "ConsumedQuantity": amount.quantity,
        "ConsumedUnit": unit,
        "PricingQuantity": amount.quantity,
        "PricingUnit": unit,
        "PricingCategory": "Standard",
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": None,
        "RegionName": None,
        "ResourceId": key.crew,
        "ResourceName": key.crew,
        "ResourceType": resource_type,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": f"{provider} API",
        "SkuId": sku,
        "SkuMeter": key.item,
        "SkuPriceDetails": None,
        "SkuPriceId": f"{sku}@{key.version}",
        "SubAccountId": key.team,
        "SubAccountName": key.team,
        "SubAccountType": account_type,
        "Tags": key.tags or None,
        "x_Agent": key.agent,
        "x_Calls": amount.calls,
        "x_Crew": key.crew,
        "x_PriceStatus": key.status,
        "x_User": key.user,
    }


def _decimal(pusd: int) -> str:
    return format(Decimal(pusd).scaleb(-12), "f")


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value)
