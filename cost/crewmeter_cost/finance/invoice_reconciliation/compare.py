"""The ledger beside an export, by day and model. Pure but for one query."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from crewmeter_cost.finance.invoice_reconciliation.provider_exports import model_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

    from crewmeter_cost.finance.invoice_reconciliation.provider_exports import ProviderExport

__all__ = ["Claim", "ModelComparison", "Sums", "claim_of", "compare", "total_of"]

_DAY = 86_400
_BOOKED = text(
    """
    SELECT time / 86400 AS day, provider, COALESCE(response_model, request_model) AS model,
           COUNT(*) AS requests, SUM(unpriced) AS unpriced, SUM(input_tokens) AS input_tokens,
           SUM(output_tokens) AS output_tokens, SUM(cost_usd) AS cost_usd
    FROM calls WHERE time >= :since AND time < :until GROUP BY 1, 2, 3
    """
)
_AGENTS = text(
    """
    SELECT run_id, request_model AS model, agent,
           SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) AS tokens
    FROM calls WHERE time >= :since AND time < :until
      AND crew IS NOT NULL AND run_id IS NOT NULL AND operation <> 'embeddings'
    GROUP BY 1, 2, 3
    """
)


@dataclass(slots=True)
class Sums:
    """One side's amounts for a day and model, None where the side lacks that amount."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    unpriced: int = 0
    slack_usd: Decimal = Decimal(0)


@dataclass(slots=True)
class ModelComparison:
    """A day and model in the ledger and in the export, where either may be missing."""

    day: str
    model: str
    ledger: Sums = field(default_factory=Sums)
    provider: Sums = field(default_factory=Sums)

    def off(self, tolerance: Decimal) -> bool:
        """Return whether an amount differs beyond `tolerance` (a share) and rounding."""
        measures = ("cost_usd", "input_tokens", "output_tokens", "requests")
        return any(
            self._apart(name, tolerance)
            for name in measures
            if getattr(self.provider, name) is not None
        )

    def _apart(self, name: str, tolerance: Decimal) -> bool:
        ours = Decimal(getattr(self.ledger, name) or 0)
        theirs = Decimal(getattr(self.provider, name))
        slack = self.provider.slack_usd if name == "cost_usd" else Decimal(0)
        return abs(ours - theirs) > tolerance * max(ours, theirs) + slack


@dataclass(frozen=True, slots=True)
class Claim:
    """CrewAI's own `usage_metrics` for the same calls, in tokens.

    They are reconstructed as far as the ledger's rows allow.
    """

    tokens: int
    claimed_tokens: int


def _seconds(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def compare(
    engine: Engine, export: ProviderExport, *, provider: str | None, since: str, until: str
) -> list[ModelComparison]:
    """Return both sides for every day and model, by day and then by size.

    `since` and `until` are days, both included.
    """
    found: dict[tuple[str, str], ModelComparison] = {}
    with engine.connect() as connection:
        rows = connection.execute(
            _BOOKED, {"since": _seconds(since), "until": _seconds(until) + _DAY}
        ).all()
    for row in rows:
        if provider in (None, row.provider) and row.model:
            day = f"{datetime.fromtimestamp(int(row.day) * _DAY, UTC):%Y-%m-%d}"
            entry = found.setdefault(
                (day, model_key(row.model)),
                ModelComparison(day, row.model),
            )
            _add(
                entry.ledger,
                row.requests,
                row.input_tokens,
                row.output_tokens,
                row.cost_usd,
                unpriced=int(row.unpriced or 0),
            )
    for line in export.lines:
        if since <= line.day <= until:
            entry = found.setdefault(
                (line.day, model_key(line.model)), ModelComparison(line.day, line.model)
            )
            _add(
                entry.provider,
                line.requests,
                line.input_tokens,
                line.output_tokens,
                line.cost_usd,
                slack_usd=line.slack_usd,
            )
    return sorted(
        found.values(),
        key=lambda each: (
            each.day,
            -(each.ledger.cost_usd or each.provider.cost_usd or 0),
            each.model,
        ),
    )


def _add(
    sums: Sums,
    requests: int | None,
    input_tokens: int | None,
    output_tokens: int | None,
    cost_usd: float | Decimal | None,
    *,
    unpriced: int = 0,
    slack_usd: Decimal = Decimal(0),
) -> None:
    for name, value in (
        ("requests", requests),
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
    ):
        if value is not None:
            setattr(
                sums,
                name,
                (getattr(sums, name) or 0) + int(value),
            )
    if cost_usd is not None:
        exact = (
            cost_usd
            if isinstance(cost_usd, Decimal)
            else Decimal(repr(float(cost_usd))).quantize(Decimal("1e-12"))
        )
        sums.cost_usd = (sums.cost_usd or Decimal(0)) + exact
    sums.unpriced += unpriced
    sums.slack_usd += slack_usd


def claim_of(engine: Engine, *, since: str, until: str) -> Claim | None:
    """Return what CrewAI would have reported for the crews' calls.

    Each LLM object's running total counts once for every agent that used it.

    The calls of one run with one model are taken for one LLM object. None where no crew's calls
    are in the ledger.
    """
    with engine.connect() as connection:
        rows = connection.execute(
            _AGENTS, {"since": _seconds(since), "until": _seconds(until) + _DAY}
        ).all()
    totals: dict[tuple[str, str], int] = {}
    agents: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        key = (row.run_id, row.model)
        totals[key] = totals.get(key, 0) + int(row.tokens or 0)
        agents.setdefault(key, set()).update([row.agent] if row.agent else [])
    tokens = sum(totals.values())
    if tokens:
        return Claim(
            tokens,
            sum(total * len(agents[key]) for key, total in totals.items()),
        )
    return None


def total_of(comparisons: Iterable[ModelComparison]) -> tuple[Decimal, Decimal]:
    """Both sides' cost over everything compared, in USD."""
    ours = theirs = Decimal(0)
    for each in comparisons:
        ours = ours + (each.ledger.cost_usd or 0)
        theirs = theirs + (each.provider.cost_usd or 0)
    return ours, theirs
