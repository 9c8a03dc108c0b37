"""What a budget is, and how one is read from a short form or a mapping."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crewmeter_cost.budgets.period import PERIODS
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.money import PICO
from crewmeter_cost.number_text import exact_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "SCOPES",
    "SHORT_FORM",
    "Budget",
    "OnUnknown",
    "parse_budget",
    "refuse_contradictions",
    "split_scope",
]

SCOPES = ("everything", "crew", "flow", "agent", "model", "user", "team", "session", "tag")
"""What a budget can limit. All but ``everything`` take a value, as in ``tag:env=prod``."""

OnUnknown = Literal["allow", "block"]
"""What a hard budget does where the spend can't be known."""

_KEYS = {"name", "amount", "scope", "hard", "on_unknown", "timezone", "webhook"}
_NUMBER = r"[-+]?[0-9.][-+0-9.,eE_]*"
_UNIT = r"\s*(?P<currency>[A-Za-z$]{0,3})\s*(?:/|per)\s*(?P<period>[A-Za-z]+)\s*"
SHORT_FORM = re.compile(rf"\s*(?P<number>{_NUMBER}){_UNIT}")
"""``5 USD/day``."""
_SHORT_FORM_AT_END = re.compile(rf"(?:^|\s)(?P<number>{_NUMBER}){_UNIT}$")
_EXAMPLE = 'write it as "5 USD/day"'
_HIGHEST = Decimal(9_000_000)
"""USD. int64 holds 9.2 million dollars in pico-dollars."""


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of money per period for a scope.

    `amount_pusd` is integer pico-USD. A hard budget stops calls, a soft one only gives notice.
    `on_unknown` says what a hard budget does where the spend can't be known (ledger down, model
    without a price).
    """

    amount_pusd: int
    period: str
    scope: str = "everything"
    value: str | None = None
    hard: bool = True
    on_unknown: str = "allow"
    timezone: str = "UTC"
    webhook: str | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """Return its name, or what it says: ``everything: 5 USD/day``."""
        return self.name or f"{self.scope_text} {self.amount_text}"

    @property
    def scope_text(self) -> str:
        """Return the scope as a person writes it: ``team:growth``."""
        if self.value is None:
            return self.scope
        return f"{self.scope}:{self.value}"

    @property
    def amount_text(self) -> str:
        """Return the short form of the amount: ``0.002 USD/day``."""
        number = format(
            Decimal(self.amount_pusd).scaleb(-12).normalize(),
            "f",
        )
        return f"{number} USD/{self.period}"

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone its days, weeks and months are counted in."""
        return ZoneInfo(self.timezone)


def parse_budget(source: str | Mapping[str, object] | Budget, *, where: str = "budget") -> Budget:
    """Return a `Budget` from a short form or a mapping.

    A short form is ``"0.002 USD/day"`` or ``"team:growth 500 USD/month"``. A mapping has the keys
    of the budgets file. Raises `CrewMeterError` naming `where` and what is wrong.
    """
    if isinstance(source, Budget):
        return source
    if isinstance(source, str):
        source = _as_mapping(source)
    unknown = sorted(set(source) - _KEYS)
    if unknown:
        raise CrewMeterError(
            f"{where}: unknown key {unknown[0]!r}", hint=f"a budget has {', '.join(sorted(_KEYS))}"
        )
    amount_pusd, period = _amount(
        source.get("amount"),
        where=where,
    )
    scope, value = _scope(
        source.get("scope", "everything"),
        where=where,
    )
    hard = source.get("hard", True)
    if not isinstance(hard, bool):
        raise CrewMeterError(f"{where}: hard is {hard!r}", hint="use true or false")
    return Budget(
        amount_pusd=amount_pusd,
        period=period,
        scope=scope,
        value=value,
        hard=hard,
        on_unknown=_on_unknown(source.get("on_unknown", "allow"), where=where),
        timezone=_timezone(source, where=where),
        webhook=_text(source, "webhook", where=where),
        name=_text(source, "name", where=where) or "",
    )


def refuse_contradictions(budgets: Iterable[Budget], *, where: str) -> None:
    """Refuse two budgets of one name, or of one scope, period and severity.

    Raises `CrewMeterError`.
    """
    seen: dict[tuple[str, str | None, str, bool], Budget] = {}
    names: set[str] = set()
    for budget in budgets:
        key = (budget.scope, budget.value, budget.period, budget.hard)
        other = seen.setdefault(key, budget)
        if other is not budget:
            raise CrewMeterError(
                f"{where}: {other.label!r} and {budget.label!r} contradict: "
                "the same scope and period with two amounts",
                hint="keep one, or make one of them soft (hard = false)",
            )
        if budget.name and budget.name in names:
            raise CrewMeterError(
                f"{where}: two budgets are named {budget.name!r}", hint="rename one"
            )
        names.add(budget.name)


def split_scope(text: str) -> tuple[str, str]:
    """Split ``"team:growth 500 USD/month"`` into scope and amount.

    The value of a scope may hold spaces. The scope is empty where none is written.
    """
    match = _SHORT_FORM_AT_END.search(text)
    if match is None:
        return "", text.strip()
    start = match.start("number")
    return text[:start].strip(), text[start:].strip()


def _as_mapping(text: str) -> dict[str, object]:
    scope, amount = split_scope(text)
    if not scope:
        return {"amount": amount}
    return {"amount": amount, "scope": scope}


def _text(source: Mapping[str, object], key: str, *, where: str) -> str | None:
    value = source.get(key)
    if value is None or isinstance(value, str):
        return value
    raise CrewMeterError(f"{where}: {key} is {value!r}, not text", hint=f'write {key} = "…"')


def _on_unknown(value: object, *, where: str) -> OnUnknown:
    if value in ("allow", "block"):
        return value
    raise CrewMeterError(
        f"{where}: on_unknown is {value!r}",
        hint='use "allow" (default, with a warning) or "block"',
    )


def _timezone(source: Mapping[str, object], *, where: str) -> str:
    zone = _text(source, "timezone", where=where) or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CrewMeterError(
            f"{where}: no time zone {zone!r}", hint="use an IANA name such as Europe/Berlin"
        ) from error
    return zone


def _amount(value: object, *, where: str) -> tuple[int, str]:
    """Return (integer pico-USD, period) of ``5 USD/day``."""
    match = SHORT_FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise CrewMeterError(f"{where}: {value!r} is not an amount per period", hint=_EXAMPLE)
    period = match["period"].lower()
    if period not in PERIODS:
        raise CrewMeterError(
            f"{where}: no period {match['period']!r}", hint=f"one of {', '.join(PERIODS)}"
        )
    currency = (match["currency"] or "USD").upper()
    if currency not in ("USD", "$"):
        raise CrewMeterError(
            f"{where}: budgets are in USD, not {currency}", hint="convert the amount to USD"
        )
    number = exact_decimal(
        match["number"],
        name=f"{where}: the amount",
    )
    pico = number * PICO
    if not 0 < number <= _HIGHEST or pico != pico.to_integral_value():
        raise CrewMeterError(
            f"{where}: {match['number']} USD is not an amount to budget",
            hint=f"more than zero, at most {_HIGHEST:,} USD, no finer than a pico-dollar",
        )
    return int(pico), period


def _scope(value: object, *, where: str) -> tuple[str, str | None]:
    """Return (scope, value) of ``team:growth``."""
    kind, _, name = str(value).partition(":")
    kind = kind.strip().lower()
    name = name.strip()
    if kind not in SCOPES:
        raise CrewMeterError(
            f"{where}: no scope {str(value)!r}",
            hint=f"one of {', '.join(SCOPES)}, as in team:growth or tag:env=prod",
        )
    if kind == "everything":
        return kind, None
    is_complete = bool(name)
    if kind == "tag":
        key, _, tag_value = name.partition("=")
        is_complete = bool(key and tag_value)
    if not is_complete:
        form = "tag:KEY=VALUE" if kind == "tag" else f"{kind}:NAME"
        raise CrewMeterError(f"{where}: scope {str(value)!r} names no {kind}", hint=f"write {form}")
    return kind, name
