"""What a budget is, and reading one from what a person wrote: a short form, a mapping, a file, the environment."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crewmeter_cost.budgets.loop_limits import is_loop_form
from crewmeter_cost.budgets.period import PERIODS
from crewmeter_cost.config_file import toml_mistake
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "SCOPES",
    "Budget",
    "parse_budget",
    "read_budgets",
    "read_document",
    "refuse_contradictions",
]

SCOPES = ("everything", "crew", "flow", "agent", "model", "user", "team", "session", "tag")
"""What a budget can be about; all but ``everything`` take a value (``crew:research``, ``tag:env=prod``)."""

_KEYS = {"name", "amount", "scope", "hard", "on_unknown", "timezone", "webhook"}
_SHORT = re.compile(
    r"\s*(?P<number>[-+0-9.,eE_]+)\s*(?P<currency>[A-Za-z$]{0,3})\s*(?:/|per)\s*(?P<period>[A-Za-z]+)\s*"
)
_EXAMPLE = "mend that line; docs/budgets.md has an example"
_MOST = Decimal(9_000_000)
"""USD. int64 holds 9.2 million dollars in pico-dollars; a larger budget is a typing error or needs splitting."""


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of money per period for a scope.

    `amount_pusd` is integer pico-USD. A hard budget stops calls, a soft one only gives notice.
    `on_unknown` says what a hard budget does where the spend can't be known (ledger down, model unpriced).
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
        """Its name, or what it says: ``everything: 5 USD/day``."""
        about = self.scope if self.value is None else f"{self.scope}:{self.value}"
        return self.name or f"{about} {self.amount_text}"

    @property
    def amount_text(self) -> str:
        """The short form: ``0.002 USD/day``."""
        number = format(Decimal(self.amount_pusd).scaleb(-12).normalize(), "f")
        return f"{number} USD/{self.period}"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone its days, weeks and months are counted in."""
        return ZoneInfo(self.timezone)


def parse_budget(source: str | Mapping[str, object] | Budget, *, where: str = "budget") -> Budget:
    """A `Budget` from ``"0.002 USD/day"``, ``"team:growth 500 USD/month"`` or a mapping with the keys of the budgets file.

    Raises `CrewMeterError` naming `where` and the culprit.
    """
    if isinstance(source, Budget):
        return source
    if isinstance(source, str):
        scope_text, amount_text = _split_scope(source)
        return parse_budget(
            {"amount": amount_text, **({"scope": scope_text} if scope_text else {})}, where=where
        )
    unknown = sorted(set(source) - _KEYS)
    if unknown:
        raise CrewMeterError(
            f"{where}: unknown key {unknown[0]!r}", hint=f"a budget has {', '.join(sorted(_KEYS))}"
        )
    amount_pusd, period = _amount(source.get("amount"), where=where)
    scope, value = _scope(source.get("scope", "everything"), where=where)
    on_unknown = source.get("on_unknown", "allow")
    if on_unknown not in ("allow", "block"):
        raise CrewMeterError(
            f"{where}: on_unknown is {on_unknown!r}",
            hint='use "allow" (default, with a warning) or "block"',
        )
    hard = source.get("hard", True)
    if not isinstance(hard, bool):
        raise CrewMeterError(f"{where}: hard is {hard!r}", hint="use true or false")
    zone = _text(source, "timezone", where=where) or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CrewMeterError(
            f"{where}: no time zone {zone!r}", hint="use an IANA name such as Europe/Berlin"
        ) from error
    return Budget(
        amount_pusd=amount_pusd,
        period=period,
        scope=scope,
        value=value,
        hard=hard,
        on_unknown=str(on_unknown),
        timezone=zone,
        webhook=_text(source, "webhook", where=where),
        name=_text(source, "name", where=where) or "",
    )


def read_budgets(text: str, *, where: str = "CREWMETER_BUDGETS") -> tuple[Budget, ...]:
    """The budgets of a file (TOML or YAML, a list under ``budget``) or of short forms separated by ``;``; loop limits aside.

    Raises `CrewMeterError` for a missing or malformed file, and where two budgets contradict each other.
    """
    short = [part for part in text.split(";") if part.strip() and not is_loop_form(part)]
    return read_document(";".join(short), where=where)[0] if short else ()


def read_document(text: str, *, where: str) -> tuple[tuple[Budget, ...], object]:
    """(budgets, the ``loop`` table or None) of a file or of short forms. Raises `CrewMeterError` as `read_budgets` does."""
    loop = None
    if "/" in text and _looks_short(text):
        found = [parse_budget(part, where=where) for part in text.split(";") if part.strip()]
    else:
        budgets, loop = _from_file(Path(text.strip()).expanduser(), where=where)
        found = list(budgets)
    refuse_contradictions(found, where=where)
    return tuple(found), loop


def _looks_short(text: str) -> bool:
    return all(_SHORT.fullmatch(_split_scope(part)[1]) for part in text.split(";") if part.strip())


def _split_scope(text: str) -> tuple[str, str]:
    """``"team:growth 500 USD/month"`` → (``team:growth``, ``500 USD/month``); a scope value may hold spaces."""
    match = re.search(
        r"(?:^|\s)([-+]?[0-9.][-+0-9.,eE_]*\s*[A-Za-z$]{0,3}\s*(?:/|per)\s*[A-Za-z]+)\s*$", text
    )
    if match is None:
        return "", text.strip()
    return text[: match.start(1)].strip(), match[1]


def _from_file(path: Path, *, where: str) -> tuple[Iterable[Budget], object]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CrewMeterError(
            f"{where}: cannot read {str(path)!r} ({getattr(error, 'strerror', None) or 'not UTF-8 text'})",
            hint='give a TOML or YAML file, or a short form such as "5 USD/day"',
        ) from error
    document = _parse(content, path)
    entries = (
        document.get("budget", [] if "loop" in document else None)
        if isinstance(document, dict)
        else None
    )
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CrewMeterError(
            f"{path}: no list of budgets", hint="write [[budget]] tables with amount and scope"
        )
    budgets = [
        parse_budget(entry, where=f"{path}: budget {number}")
        for number, entry in enumerate(entries, 1)
    ]
    return budgets, document.get("loop") if isinstance(document, dict) else None


def _parse(content: str, path: Path) -> object:
    if path.suffix in (".yaml", ".yml"):
        import yaml  # only where someone wrote YAML

        try:
            return yaml.safe_load(content)
        except yaml.YAMLError as error:
            mark, problem = (
                getattr(error, "problem_mark", None),
                getattr(error, "problem", None) or " ".join(str(error).split())[:200],
            )
            context = "" if mark is None else f" line {mark.line + 1}"
            raise CrewMeterError(
                f"{path}{context} is not YAML: {problem}", hint=_EXAMPLE
            ) from error
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        line, problem = toml_mistake(content, error)
        raise CrewMeterError(f"{path} line {line} is not TOML: {problem}", hint=_EXAMPLE) from error


def refuse_contradictions(budgets: list[Budget], *, where: str) -> None:
    """One scope and period has one amount per severity; and names are unique."""
    seen: dict[tuple[str, str | None, str, bool], Budget] = {}
    names: set[str] = set()
    for budget in budgets:
        key = (budget.scope, budget.value, budget.period, budget.hard)
        if (other := seen.setdefault(key, budget)) is not budget:
            raise CrewMeterError(
                f"{where}: {other.label!r} and {budget.label!r} contradict: the same scope and period with two amounts",
                hint="keep one, or make one of them soft (hard = false)",
            )
        if budget.name and budget.name in names:
            raise CrewMeterError(
                f"{where}: two budgets are named {budget.name!r}", hint="rename one"
            )
        names.add(budget.name)


def _text(source: Mapping[str, object], key: str, *, where: str) -> str | None:
    value = source.get(key)
    if value is None or isinstance(value, str):
        return value
    raise CrewMeterError(f"{where}: {key} is {value!r}, not text", hint=f'write {key} = "…"')


def _amount(value: object, *, where: str) -> tuple[int, str]:
    example = 'write it as "5 USD/day"'
    if not isinstance(value, str) or (match := _SHORT.fullmatch(value)) is None:
        raise CrewMeterError(f"{where}: {value!r} is not an amount per period", hint=example)
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
    try:
        number = Decimal(match["number"].replace("_", "").replace(",", ""))
    except InvalidOperation as error:
        raise CrewMeterError(
            f"{where}: {match['number']!r} is not a number", hint=example
        ) from error
    pico = number * PICO
    if not number.is_finite() or number <= 0 or number > _MOST or pico != pico.to_integral_value():
        raise CrewMeterError(
            f"{where}: {match['number']} USD is not an amount to budget",
            hint=f"more than zero, at most {_MOST:,} USD, no finer than a pico-dollar",
        )
    return int(pico), period


def _scope(value: object, *, where: str) -> tuple[str, str | None]:
    kind, _, name = str(value).partition(":")
    kind, name = kind.strip().lower(), name.strip()
    if kind not in SCOPES:
        raise CrewMeterError(
            f"{where}: no scope {str(value)!r}",
            hint=f"one of {', '.join(SCOPES)}, as in team:growth or tag:env=prod",
        )
    if kind == "everything":
        return kind, None
    if not name or (kind == "tag" and not all(name.partition("=")[::2])):
        form = "tag:KEY=VALUE" if kind == "tag" else f"{kind}:NAME"
        raise CrewMeterError(f"{where}: scope {str(value)!r} names no {kind}", hint=f"write {form}")
    return kind, name
