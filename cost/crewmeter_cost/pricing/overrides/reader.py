"""The reader of the user's price file (``$CREWMETER_PRICES``).

Every mistake is refused with its file, line, key and the way out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from crewmeter.providers.hosts import canonical_provider
from crewmeter_cost.config_file import Document, FileKind, KeyPath, read_document
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.number_text import exact_decimal
from crewmeter_cost.pricing.exchange_rates import ISO_4217
from crewmeter_cost.pricing.overrides.schema import SELF_HOSTED, Money, Overrides, Rule
from crewmeter_cost.pricing.overrides.section_keys import RULE_KEYS, SECTIONS, UNITS, is_size
from crewmeter_cost.pricing.unit_prices import GPU_HOUR, Price, plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["read_overrides"]

_NS = 1_000_000_000
_PRICE_FILE = FileKind("price file", "CREWMETER_PRICES", "docs/pricing.md")


def read_overrides(path: Path) -> Overrides:
    """Return the overrides in a file.

    Raises `CrewMeterError` for anything in it that is not understood.
    """
    return _Reader(read_document(path, _PRICE_FILE)).read()


class _Reader:
    """One file being read, with what its entries share."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = document.data
        self._fx: dict[str, Money] = {}
        self._default: str | None = None

    def read(self) -> Overrides:
        """Return everything in the file, checked."""
        self._known(self._data, SECTIONS, ())
        self._fx = {
            self._code(code, ("fx", code)): self._dated(code, steps)
            for code, steps in self._table("fx").items()
        }
        if "currency" in self._data:
            self._default = self._text(self._data, "currency", ())
            self._currency(self._default, ("currency",))
        rules = [
            self._rule(kind, entry, (kind, index))
            for kind in RULE_KEYS
            for index, entry in enumerate(self._entries(kind))
        ]
        return Overrides(
            self._pairs("aliases"),
            self._hosts(),
            tuple(self._without_overlap(rules)),
            self._reported(),
        )

    def _fail(self, at: KeyPath, problem: str, hint: str) -> Exception:
        return self._document.error(at, problem, hint=hint)

    def _known(self, table: Mapping[str, Any], allowed: Iterable[str], at: KeyPath) -> None:
        allowed = tuple(allowed)
        for key in table:
            if key not in allowed:
                near = get_close_matches(str(key), allowed, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(allowed)}"
                raise self._fail((*at, key), "unknown key", hint)

    def _table(self, section: str) -> Mapping[str, Any]:
        value = self._data.get(section, {})
        if not isinstance(value, Mapping):
            raise self._fail(
                (section,), "is not a table", f"write it as [{section}] with one key = value a line"
            )
        return value

    def _entries(self, section: str) -> list[Mapping[str, Any]]:
        value = self._data.get(section, [])
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            raise self._fail(
                (section,), "is not a list of entries", f"start each entry with [[{section}]]"
            )
        return value

    def _pairs(self, section: str) -> dict[str, str]:
        pairs = {}
        for key, value in self._table(section).items():
            if not all(
                isinstance(name, str) and name.strip() and name.isprintable()
                for name in (key, value)
            ):
                raise self._fail(
                    (section, str(key)),
                    f"{value!r} is no name",
                    'write "your name" = "the name it stands for"',
                )
            pairs[key.strip().lower()] = value.strip()
        return pairs

    def _hosts(self) -> dict[str, str]:
        hosts = {}
        for host, provider in self._pairs("hosts").items():
            if "/" in host:
                raise self._fail(
                    ("hosts", host),
                    "is no host name",
                    "write the host alone, without https:// and path",
                )
            own = provider.replace("_", "-").lower() == SELF_HOSTED
            hosts[host.partition(":")[0]] = (
                SELF_HOSTED if own else canonical_provider(provider) or provider
            )
        return hosts

    def _reported(self) -> frozenset[str]:
        """Return the providers whose own figures are booked."""
        booked = set()
        for name, choice in self._pairs("reported").items():
            if choice not in ("book", "compare"):
                hint = 'write "book" (their figure is the charge) or "compare" (ours is)'
                raise self._fail(("reported", name), f"{choice!r} is no choice", hint)
            if choice == "book":
                booked.add(canonical_provider(name) or name)
        return frozenset(booked)

    def _text(self, table: Mapping[str, Any], key: str, at: KeyPath) -> str:
        value = table[key]
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self._fail((*at, key), f"{value!r} is no text", f'write {key} = "…"')
        return value.strip()

    def _number(self, value: object, at: KeyPath) -> Decimal:
        if isinstance(value, str):
            with contextlib.suppress(CrewMeterError):
                value = exact_decimal(value)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, Decimal))
            or not Decimal(value).is_finite()
        ):
            raise self._fail(at, f"{value!r} is no number", 'write 2.5 or "2.5"')
        if value < 0:
            raise self._fail(
                at, f"{value} is negative", "a rate is zero or more; for money off use [[discount]]"
            )
        # Finite, hence an int.
        if value > 10**9 or abs(Decimal(value).as_tuple().exponent) > 30:  # type: ignore[arg-type]
            raise self._fail(
                at,
                f"{value} is out of range",
                "prices are per million tokens, or per one request, search or GPU hour",
            )
        return Decimal(value)

    def _code(self, code: str, at: KeyPath) -> str:
        if code not in ISO_4217:
            raise self._fail(at, f"{code!r} is no currency", "use its ISO 4217 code, such as EUR")
        return code

    def _dated(self, code: str, steps: object) -> Money:
        if (
            not isinstance(steps, list)
            or not steps
            or not all(isinstance(step, Mapping) for step in steps)
        ):
            raise self._fail(
                ("fx", code),
                "is no list of dated rates",
                f'write {code} = [{{from = "2026-01-01", usd = 1.08}}]',
            )
        rates = {}
        for index, step in enumerate(steps):
            at: KeyPath = ("fx", code, index)
            self._known(step, ("from", "usd"), at)
            if "usd" not in step or "from" not in step:
                raise self._fail(
                    at,
                    "needs both from and usd",
                    'write {from = "2026-01-01", usd = 1.08}: USD for one unit, from that day',
                )
            usd, start = (
                self._number(step["usd"], (*at, "usd")),
                self._moment(step["from"], (*at, "from")),
            )
            if not usd or start in rates:
                problem = "usd is 0" if not usd else "two rates start on one day"
                raise self._fail(at, problem, "each date has one rate above 0")
            rates[start] = usd
        return Money(tuple(sorted(rates.items())))

    def _currency(self, code: str | None, at: KeyPath) -> Money | None:
        if code is None or code == "USD":
            return None
        if self._code(code, at) not in self._fx:
            raise self._fail(
                at,
                f"no exchange rate for {code}",
                f'add [fx] with {code} = [{{from = "2026-01-01", usd = 1.08}}]',
            )
        return self._fx[code]

    def _moment(self, value: object, at: KeyPath) -> int:
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if not isinstance(value, datetime):
            raise self._fail(
                at, f"{value!r} is no date", "write 2026-11-01 (midnight UTC) or 2026-11-01T12:00Z"
            )
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()) * _NS

    def _rule(self, kind: str, entry: Mapping[str, Any], at: KeyPath) -> Rule:
        self._known(entry, RULE_KEYS[kind], at)
        start, end = (
            self._moment(entry[key], (*at, key)) if key in entry else None
            for key in ("from", "until")
        )
        if start is not None and end is not None and end <= start:
            raise self._fail(
                (*at, "until"),
                "is not after from",
                "until is the first day the entry no longer applies",
            )
        provider = (
            canonical_provider(self._text(entry, "provider", at)) if "provider" in entry else None
        )
        code = self._text(entry, "currency", at) if "currency" in entry else self._default
        rule = Rule(
            kind,
            provider,
            self._models(kind, entry, at),
            start,
            end,
            currency=self._currency(code, (*at, "currency")),
        )
        match kind:
            case "price":
                return self._priced(rule, entry, at)
            case "discount":
                return self._discounted(rule, entry, at)
            case "self_hosted":
                return self._hosted(rule, entry, at)
        if provider is None and rule.models == ("*",):
            raise self._fail(
                at, "would make every model of every provider free", "name a provider or a model"
            )
        return rule

    def _models(self, kind: str, entry: Mapping[str, Any], at: KeyPath) -> tuple[str, ...]:
        if "model" in entry and "models" in entry:
            raise self._fail((*at, "models"), "stands beside model", "keep one of the two")
        names = entry.get("models", [entry["model"]] if "model" in entry else [])
        if not isinstance(names, list) or not all(
            isinstance(name, str) and name.strip() and name.isprintable() for name in names
        ):
            raise self._fail(
                (*at, "models" if "models" in entry else "model"),
                "is no model name",
                'write model = "gpt-4o" or models = ["…"]',
            )
        if not names and (kind == "price" or ("provider" not in entry and "host" not in entry)):
            raise self._fail(
                at,
                "names no model",
                'add model = "…"' + ("" if kind == "price" else ' or provider = "…"'),
            )
        return tuple(name.strip().lower() for name in names) or ("*",)

    def _priced(self, rule: Rule, entry: Mapping[str, Any], at: KeyPath) -> Rule:
        prices: dict[str, Price] = {
            unit: plain(self._number(entry[unit], (*at, unit))) for unit in UNITS if unit in entry
        }
        if not prices:
            raise self._fail(
                at,
                "has no price",
                f"give at least one of {', '.join(UNITS[:4])} … (USD per million tokens)",
            )
        steps = entry.get("over", [])
        if not isinstance(steps, list) or not all(
            isinstance(step, Mapping) and is_size(step.get("tokens")) for step in steps
        ):
            raise self._fail(
                (*at, "over"),
                "is no list of sizes",
                "write over = [{tokens = 200000, input = 6, output = 22.5}]",
            )
        for index, step in sorted(enumerate(steps), key=lambda numbered: numbered[1]["tokens"]):
            self._known(step, ("tokens", *UNITS), (*at, "over", index))
            for unit in step.keys() - {"tokens"}:
                if unit not in prices:
                    raise self._fail(
                        (*at, "over", index),
                        f"prices {unit}, which the entry itself lacks",
                        f"add {unit} = … to the entry",
                    )
                base = prices[unit]
                dearer = [
                    step["tokens"],
                    plain(self._number(step[unit], (*at, "over", index, unit))),
                ]
                prices[unit] = [*base, dearer] if isinstance(base, list) else [base, dearer]
        tier = self._text(entry, "tier", at).lower() if "tier" in entry else None
        return Rule(
            "price",
            rule.provider,
            rule.models,
            rule.start_ns,
            rule.end_ns,
            tier,
            prices,
            currency=rule.currency,
        )

    def _discounted(self, rule: Rule, entry: Mapping[str, Any], at: KeyPath) -> Rule:
        percent = self._number(entry["percent"], (*at, "percent")) if "percent" in entry else None
        if percent is None or percent > 100:
            raise self._fail((*at, "percent"), "is not between 0 and 100", "write percent = 12.5")
        return Rule(
            "discount",
            rule.provider,
            rule.models,
            rule.start_ns,
            rule.end_ns,
            factor=1 - percent / 100,
        )

    def _hosted(self, rule: Rule, entry: Mapping[str, Any], at: KeyPath) -> Rule:
        if "price_per_gpu_hour" not in entry:
            raise self._fail(
                at, "has no price_per_gpu_hour", "write price_per_gpu_hour = 2.50 (and gpus = 4)"
            )
        price = self._number(entry["price_per_gpu_hour"], (*at, "price_per_gpu_hour"))
        gpus = self._number(entry.get("gpus", 1), (*at, "gpus"))
        host = self._text(entry, "host", at).lower() if "host" in entry else None
        prices = {GPU_HOUR: plain(price * gpus)}
        return Rule(
            "self_hosted",
            rule.provider,
            rule.models,
            rule.start_ns,
            rule.end_ns,
            prices=prices,
            currency=rule.currency,
            host=host,
        )

    def _without_overlap(self, rules: list[Rule]) -> Iterable[Rule]:
        """Yield the rules, open ends closed by the next entry for the model.

        Two that apply at once are refused.
        """
        counts: dict[str, int] = {}
        latest: dict[tuple[object, ...], list[tuple[Rule, KeyPath]]] = {}
        for rule in rules:
            at: KeyPath = (rule.kind, counts.setdefault(rule.kind, 0))
            counts[rule.kind] += 1
            for model in rule.models:
                subject = (rule.kind, rule.provider, model, rule.tier, rule.host)
                group = latest.setdefault(subject, [])
                group.append((replace(rule, models=(model,)), at))
        for group in latest.values():
            group.sort(key=lambda dated: dated[0].sort_ns)
            for (rule, _), following in pairwise(group):
                yield self._until(rule, *following)
            yield group[-1][0]

    def _until(self, rule: Rule, following: Rule, at: KeyPath) -> Rule:
        begins = following.start_ns
        if (
            begins is None
            or begins == rule.start_ns
            or (rule.end_ns is not None and rule.end_ns > begins)
        ):
            raise self._fail(
                at,
                f"overlaps another entry for {rule.models[0]!r}",
                "give each its own from (and until): one may apply at a time",
            )
        end = begins if rule.end_ns is None else rule.end_ns
        return replace(rule, end_ns=end)
