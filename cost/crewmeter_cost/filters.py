"""The filter grammar of ``--where``, shared by commands and the JSON API.

A filter is terms with spaces between, all of which must hold:

    model=gpt-5 agent="Senior Writer" status=failed cost>0.5 duration>2m tag:env!=dev

A term is a key, one of ``= != > >= < <=``, and a value. An unquoted value ends where the next term
begins, so ``agent=Senior Writer status=ok`` needs no quotes. Inside quotes a quote is written
twice. A name compared with nothing (``team=``) selects what has no such name. Nothing in a value is
interpreted: it is compared, never run.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AMOUNT_KEYS",
    "CALL_KEYS",
    "KEYS",
    "MODEL_CALL_KEYS",
    "NAME_KEYS",
    "RUN_STATUSES",
    "Filter",
    "Operator",
    "Term",
    "parse_filter",
    "quoted",
]

Operator = Literal["=", "!=", ">", ">=", "<", "<="]

NAME_KEYS = (
    "model",
    "provider",
    "crew",
    "flow",
    "agent",
    "task",
    "tool",
    "user",
    "team",
    "session",
    "service",
    "environment",
)
"""Keys that name who made a call. ``tag:KEY`` is one too."""

CALL_KEYS = ("finish_reason", "cost_status")
"""Keys that name how a call ended and how it was priced."""
MODEL_CALL_KEYS = ("model", "provider", *CALL_KEYS)
"""Keys of what model calls have and tool calls have not."""

_RUN_TEXT_KEYS = ("run", "name", "kind", "status", "error")
AMOUNT_KEYS = (
    "cost",
    "duration",
    "calls",
    "failed_calls",
    "unpriced_calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
)
"""Keys of a run's totals: cost in USD, duration in seconds (or ``90s``, ``2m``, ``1.5h``)."""

RUN_STATUSES: Mapping[str, tuple[str, ...]] = {
    "ok": ("ok",),
    "failed": ("error", "abandoned"),
    "running": ("running",),
    "error": ("error",),
    "abandoned": ("abandoned",),
}
"""Status in a filter, and the stored statuses that it means."""

KEYS = (*NAME_KEYS, *CALL_KEYS, *_RUN_TEXT_KEYS, *AMOUNT_KEYS)
"""Every key but ``tag:KEY``."""

_OPERATOR = r"!=|>=|<=|=|>|<"
_START = re.compile(rf"(?:^|(?<=\s))(tag:[^\s=<>!]+|[A-Za-z_][\w.-]*)\s*({_OPERATOR})\s*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_SECONDS = {"ms": "0.001", "s": "1", "m": "60", "min": "60", "h": "3600", "d": "86400"}
_MAX_TERMS = 50
_MAX_AMOUNT = Decimal(10) ** 15
_MAX_STORED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `amount` is the number of a total.

    Pico-USD, nanoseconds or a count. `also` has further values of a name, any of which will do.
    """

    key: str
    operator: Operator
    value: str
    amount: int = 0
    also: tuple[str, ...] = ()

    @property
    def is_name(self) -> bool:
        """Whether the key names who made a call, or how a call ended."""
        if self.key.startswith("tag:"):
            return True
        return self.key in NAME_KEYS or self.key in CALL_KEYS

    @property
    def values(self) -> tuple[str, ...]:
        """The values of which any will do."""
        return (self.value, *self.also)

    @property
    def text(self) -> str:
        """The term as it is written, which parses to the same term."""
        value = self.value
        if self.key not in AMOUNT_KEYS:
            value = quoted(value)
        return f"{self.key}{self.operator}{value}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Terms that must all hold."""

    terms: tuple[Term, ...] = ()

    @property
    def names(self) -> tuple[Term, ...]:
        """The terms about who made a call."""
        return tuple(term for term in self.terms if term.is_name)

    @property
    def of_run(self) -> tuple[Term, ...]:
        """The terms about a run's identity, outcome and totals."""
        return tuple(term for term in self.terms if not term.is_name)


def parse_filter(texts: str | Iterable[str] | Mapping[str, str] | Filter | None) -> Filter:
    """Return the filter that texts, or a mapping of names to values, describe.

    Raises `CrewMeterError` naming the term that is wrong, with the nearest key there is.
    """
    if isinstance(texts, Filter):
        return texts
    if texts is None:
        return Filter()
    if isinstance(texts, str):
        return Filter(_terms(texts))
    if hasattr(texts, "items"):
        return Filter(tuple(_term(key, "=", value) for key, value in texts.items()))
    return Filter(tuple(term for text in texts for term in _terms(text)))


def quoted(value: str) -> str:
    """Return a value in quotes where the grammar needs them."""
    if re.fullmatch(r"[\w./@+-]+", value):
        return value
    doubled = value.replace('"', '""')
    return f'"{doubled}"'


def _terms(text: str) -> tuple[Term, ...]:
    """Split one text at the starts of its terms."""
    masked = _quotes_masked(text)
    starts = list(_START.finditer(masked))
    if not text.strip():
        return ()
    head = text[: starts[0].start()] if starts else text
    if head.strip():
        raise CrewMeterError(
            f"--where {text!r}: {head.strip()!r} is not KEY=VALUE",
            hint="write terms such as crew=research, cost>0.5 or tag:env=prod",
        )
    if len(starts) > _MAX_TERMS:
        raise CrewMeterError(f"--where has {len(starts)} terms; at most {_MAX_TERMS} are read")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return tuple(
        _term(start[1], start[2], _unquoted(text[start.end() : end].strip()))
        for start, end in zip(starts, ends, strict=True)
    )


def _quotes_masked(text: str) -> str:
    """Return `text` with quoted values overwritten, so that no term starts inside one."""
    pattern = r"(?<=[=<>])\s*(\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*')"
    return re.sub(
        pattern,
        lambda match: "_" * len(match[0]),
        text,
    )


def _unquoted(value: str) -> str:
    """Return a value without the quotes round it, and quotes inside it once."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        quote = value[0]
        return value[1:-1].replace(quote * 2, quote)
    return value


def _term(key: str, operator: str, value: str) -> Term:
    """Check one term."""
    known = key in KEYS or (key.startswith("tag:") and len(key) > len("tag:"))
    if not known:
        raise CrewMeterError(f"cannot filter by {key!r}", hint=_nearest(key))
    sign: Operator = operator  # type: ignore[assignment]
    if key in AMOUNT_KEYS:
        return Term(
            key,
            sign,
            value,
            _amount(key, value),
        )
    if sign not in ("=", "!="):
        raise CrewMeterError(
            f"{key}{operator}{value}: {key} is a name and is compared with = or !=",
            hint=f"ordered comparisons are for {', '.join(AMOUNT_KEYS)}",
        )
    if key == "status" and value not in RUN_STATUSES:
        near = difflib.get_close_matches(value, RUN_STATUSES, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CrewMeterError(
            f"status {value!r} is not known", hint=f"{meant}one of ok, failed, running"
        )
    return Term(key, sign, value)


def _nearest(key: str) -> str:
    """Return the hint for an unknown key."""
    near = difflib.get_close_matches(
        key.lower(),
        KEYS,
        n=1,
        cutoff=0.5,
    )
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}one of {', '.join(KEYS)}, tag:KEY"


def _amount(key: str, value: str) -> int:
    """Return a total as the ledger stores it: pico-USD, nanoseconds or a count."""
    if key == "duration":
        return min(
            int(_seconds(value) * 10**9),
            _MAX_STORED,
        )
    text = value.strip()
    if key == "cost":
        text = text.removesuffix("USD").strip().removeprefix("$")
        return int(_number(key, text) * 10**12)
    number = _number(key, text)
    if number != int(number):
        raise CrewMeterError(f"{key} {value!r} is not a whole number")
    return int(number)


def _seconds(value: str) -> Decimal:
    """Return a duration in seconds.

    A plain number is seconds.
    """
    match = _DURATION.fullmatch(value.strip().lower())
    if match is None:
        raise CrewMeterError(
            f"duration {value!r} is not a time span", hint="write 500ms, 90s, 2m, 1.5h or 1d"
        )
    return _number("duration", match[1]) * Decimal(_SECONDS[match[2] or "s"])


def _number(key: str, text: str) -> Decimal:
    """Return a number that is finite, not negative and not absurdly large."""
    try:
        # Decimal also reads underscores and digits of other scripts, which a person mistyped.
        number = Decimal(text) if re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", text) else None
    except InvalidOperation:
        number = None
    if number is None or number > _MAX_AMOUNT:
        raise CrewMeterError(f"{key} {text!r} is not a number", hint=f"write e.g. {key}>0.5")
    return number
