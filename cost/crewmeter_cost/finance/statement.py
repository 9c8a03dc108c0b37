"""Statements of a month or window by team, user or crew, adding up to the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.allocation import allocate, weights_for
from crewmeter_cost.ledger.read.unknown_usage import inexact_report
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine

    from crewmeter_cost.ledger.store import Ledger

__all__ = [
    "BY",
    "Account",
    "Statement",
    "build",
    "count_inexact_calls",
    "month_bounds",
    "whole_hours",
]

_rollup = core_tables.rollup_hour
_label = core_tables.label

BY = {"team": ("team", "key"), "user": ("team", "key2"), "crew": ("crew", "key")}
"""What a statement can be by → the roll-up dimension, and which of its keys it is."""

_DETAIL = {
    "team": {"model": ("team_model", "key", "key2"), "crew": ("team_crew", "key", "key2")},
    "crew": {"model": ("crew_model", "key", "key2")},
}
"""By → what each account is broken down by, and the roll-up that knows."""


@dataclass(slots=True)
class Account:
    """One payer's share. Money in integer pico-USD, tokens in tokens."""

    name: str
    direct_pusd: int = 0
    shared_pusd: int = 0
    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    priced_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    inexact_calls: int = 0
    """Priced calls whose cost is a bound or an estimate, see `count_inexact_calls`."""
    inexact_share: bool = False
    """Whether `shared_pusd` holds a part of such calls."""
    daily_pusd: dict[date, int] = field(default_factory=lambda: defaultdict(int))
    detail_pusd: dict[str, dict[str, int]] = field(default_factory=dict)
    """``model`` and ``crew`` → name → pico-USD."""

    @property
    def total_pusd(self) -> int:
        """What is charged: spent directly, and the share of what nobody owns."""
        return self.direct_pusd + self.shared_pusd

    @property
    def unknown(self) -> bool:
        """Return whether the amount due is unknown: unpriced calls and no other cost."""
        return bool(self.unpriced_calls) and not self.priced_calls and not self.total_pusd

    @property
    def exact(self) -> bool:
        """Return whether the amount due lacks no call and holds no bound or estimate."""
        shared_out = bool(self.shared_pusd) and not self.total_pusd
        inexact = bool(self.inexact_calls) or self.inexact_share
        return not self.unpriced_calls and (shared_out or not inexact)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a whole month, or of the hours from `since` to `until`.

    `unassigned` is what carries no team, listed apart where no rule allocates it.
    """

    since: datetime
    until: datetime
    by: str
    rule: str
    accounts: tuple[Account, ...]
    unassigned: Account | None

    @property
    def month(self) -> date | None:
        """The first day of the month that this is of, None for any other window."""
        begins = self.since == self.since.replace(day=1, hour=0)
        if begins and self.until == _following(self.since):
            return self.since.date()
        return None

    @property
    def everyone(self) -> tuple[Account, ...]:
        """Every payer, and what nobody owns where there is such a thing."""
        if self.unassigned is None:
            return self.accounts
        return (*self.accounts, self.unassigned)

    @property
    def title(self) -> str:
        """``Statement for November 2026``, or the window."""
        if self.month is not None:
            return f"Statement for {self.month:%B %Y}"
        return f"Statement for {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} (UTC)"

    def period(self, now: datetime) -> str:
        """Return the days that are covered: ``1 to 26 November 2026 (month to date)``."""
        if self.month is None:
            return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"
        last = (self.until - timedelta(days=1)).date()
        to_date = ""
        if self.since <= now < self.until:
            last = now.astimezone(UTC).date()
            to_date = " (month to date)"
        return f"1 to {last.day} {last:%B %Y}{to_date}"

    @property
    def total_pusd(self) -> int:
        """Every pico-dollar of the window's ledger."""
        return sum(account.total_pusd for account in self.everyone)

    @property
    def unpriced_calls(self) -> int:
        """Calls without a price, which no sum includes."""
        return sum(account.unpriced_calls for account in self.everyone)

    @property
    def inexact_calls(self) -> int:
        """Calls whose cost is a bound or an estimate."""
        return sum(account.inexact_calls for account in self.everyone)

    @property
    def tokens(self) -> int:
        """Input and output tokens of every call."""
        return sum(account.input_tokens + account.output_tokens for account in self.everyone)


def month_bounds(text: str) -> tuple[datetime, datetime]:
    """Return the start of a month such as ``2026-11`` and of the next one (UTC).

    Raises `CrewMeterError`.
    """
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise CrewMeterError(
            f"--month {text!r} is not a month", hint="write it as 2026-11"
        ) from error
    return first, _following(first)


def _following(first: datetime) -> datetime:
    return first.replace(
        year=first.year + first.month // 12, month=first.month % 12 + 1, day=1, hour=0
    )


def whole_hours(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """Return the window widened to whole hours, which statements add up."""
    start = since.replace(minute=0, second=0, microsecond=0)
    hour = until.replace(minute=0, second=0, microsecond=0)
    return start, hour if hour == until else hour + timedelta(hours=1)


def build(
    engine: Engine, *, since: datetime, until: datetime, by: str, rule: str = "none"
) -> Statement:
    """Return the statement of [since, until), whole hours in UTC.

    Raises `CrewMeterError` for an unknown `by` or allocation rule.
    """
    if by not in BY:
        raise CrewMeterError(f"no statement by {by!r}", hint=f"one of {', '.join(BY)}")
    start = int(since.timestamp())
    end = int(until.timestamp())
    dimension, key = BY[by]
    with engine.connect() as connection:
        accounts = _accounts(connection, dimension, key, start, end)
        for what, (from_dimension, owner, other) in _DETAIL.get(by, {}).items():
            _add_detail(
                connection,
                accounts,
                what,
                (from_dimension, owner, other),
                start,
                end,
            )
        names = _names(connection, accounts)
    unassigned = accounts.pop(0, None)
    for label, account in accounts.items():
        account.name = names[label]
    weights = weights_for(
        rule, {account.name: account.direct_pusd for account in accounts.values()}
    )
    if unassigned is not None and weights:
        shares = allocate(unassigned.direct_pusd, weights)
        for account in accounts.values():
            account.shared_pusd = shares[account.name]
        unassigned.shared_pusd = -unassigned.direct_pusd
    ordered = sorted(
        accounts.values(),
        key=lambda account: (-account.total_pusd, account.name),
    )
    return Statement(
        since,
        until,
        by,
        rule,
        tuple(ordered),
        unassigned,
    )


def count_inexact_calls(ledger: Ledger, statement: Statement) -> None:
    """Write into every account how many of its calls have a bound or an estimate.

    Roll-ups do not tell, so the calls are read, all of them: amounts are charged by this paper.
    """
    found = inexact_report(
        ledger,
        by=[statement.by],
        since=statement.since,
        until=statement.until,
    )
    counts = {row.keys[0] or "": row.sums["priced_calls"] for row in found.rows}
    for account in statement.everyone:
        account.inexact_calls = counts.get(account.name, 0)
        account.inexact_share = bool(account.shared_pusd) and bool(counts.get(""))


def _accounts(
    connection: Connection, dimension: str, key: str, start: int, end: int
) -> dict[int, Account]:
    owner = _rollup.c[key]
    day = _rollup.c.hour // 86400
    counted = (
        "calls",
        "failed_calls",
        "unpriced_calls",
        "priced_calls",
        "input_tokens",
        "output_tokens",
    )
    query = (
        select(
            owner,
            day,
            func.sum(_rollup.c.cost_whole_usd),
            func.sum(_rollup.c.cost_pusd),
            *(func.sum(_rollup.c[name]) for name in counted),
        )
        .where(
            (_rollup.c.dimension == DIMENSIONS[dimension].code)
            & (_rollup.c.hour >= start)
            & (_rollup.c.hour < end)
        )
        .group_by(owner, day)
    )
    accounts: dict[int, Account] = {}
    for label, number, whole, pusd, *counts in connection.execute(query):
        account = accounts.setdefault(
            int(label),
            Account(name=""),
        )
        spent = int(whole or 0) * PICO + int(pusd or 0)
        account.direct_pusd += spent
        account.daily_pusd[
            datetime.fromtimestamp(
                int(number) * 86400,
                UTC,
            ).date()
        ] += spent
        for name, count in zip(counted, counts, strict=True):
            setattr(
                account,
                name,
                getattr(account, name) + int(count or 0),
            )
    return accounts


def _add_detail(
    connection: Connection,
    accounts: dict[int, Account],
    what: str,
    source: tuple[str, str, str],
    start: int,
    end: int,
) -> None:
    dimension, owner, other = source
    query = (
        select(
            _rollup.c[owner],
            _label.c.value,
            func.sum(_rollup.c.cost_whole_usd),
            func.sum(_rollup.c.cost_pusd),
        )
        .join(_label, _label.c.id == _rollup.c[other], isouter=True)
        .where(
            (_rollup.c.dimension == DIMENSIONS[dimension].code)
            & (_rollup.c.hour >= start)
            & (_rollup.c.hour < end)
        )
        .group_by(_rollup.c[owner], _label.c.value)
    )
    for label, name, whole, pusd in connection.execute(query):
        if int(label) in accounts:
            accounts[int(label)].detail_pusd.setdefault(what, {})[name or "(none)"] = int(
                whole or 0
            ) * PICO + int(pusd or 0)


def _names(connection: Connection, labels: Iterable[int]) -> dict[int, str]:
    rows = connection.execute(
        select(_label.c.id, _label.c.value).where(_label.c.id.in_(list(labels)))
    )
    return {int(row.id): row.value for row in rows}
