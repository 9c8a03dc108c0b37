"""Limits on how far today's totals may move from a baseline."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewmeter_cost.analysis.run_comparison import Side, totals_of
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.filters import Filter

__all__ = [
    "BASELINE_VERSION",
    "GATE_METRICS",
    "GateResult",
    "Limit",
    "baseline_document",
    "check",
    "parse_limit",
    "read_baseline",
]

BASELINE_VERSION = 1
_FORMAT = "crewmeter-baseline"
_MAX_FILE = 32 * 1024 * 1024
_SQLITE_HEADER = b"SQLite format 3\x00"

GATE_METRICS: Mapping[str, str] = {
    "cost": "cost_usd",
    "calls": "calls",
    "failed_calls": "failed_calls",
    "unpriced_calls": "unpriced_calls",
    "tool_calls": "tool_calls",
    "runs": "runs",
    "failed_runs": "failed_runs",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "duration": "duration_seconds",
    "p50": "p50_seconds",
    "p95": "p95_seconds",
}
"""Names in ``--max``, and the totals they stand for. ``cost/run`` and ``calls/run`` are per run."""

_LIMIT = re.compile(
    r"(?P<metric>[a-z0-9_]+)(?P<per_run>/run)?\s*(?:<=)?\s*"
    r"(?P<sign>[+-])?\s*\$?(?P<amount>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(?P<unit>%|USD|s)?"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest value of a metric: baseline plus amount or share, or a fixed amount."""

    text: str
    metric: str
    per_run: bool
    amount: Decimal
    relative: bool
    """Whether `amount` is added to the baseline's value."""
    percent: bool

    def allowed(self, baseline: Decimal | None) -> Decimal | None:
        """Return the highest value allowed, None where the baseline does not say."""
        if not self.relative:
            return self.amount
        if baseline is None:
            return None
        if self.percent:
            return baseline * (100 + self.amount) / 100
        return baseline + self.amount


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one limit, with a reason where the numbers do not explain it."""

    limit: Limit
    baseline: Decimal | None
    value: Decimal | None
    allowed: Decimal | None
    exceeded: bool
    reason: str | None = None

    def document(self) -> dict[str, object]:
        """Return the result as JSON, with amounts as decimal strings."""
        return {
            "limit": self.limit.text,
            "metric": self.limit.metric,
            "baseline": _text(self.baseline),
            "value": _text(self.value),
            "allowed": _text(self.allowed),
            "exceeded": self.exceeded,
            "reason": self.reason,
        }


def _text(value: Decimal | None) -> str | None:
    if value is None:
        return None
    return f"{value.normalize():f}"


def parse_limit(text: str) -> Limit:
    """Return the limit in a text such as ``cost +10%`` or ``cost 0.05 USD``.

    Others: ``calls +0``, ``p95 +20%``.

    Raises `CrewMeterError` for a limit or a metric that is not known.
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise CrewMeterError(
            f"--max {text!r} is not a limit",
            hint="write 'cost +10%', 'calls +0', 'p95 +20%' or 'cost 0.05 USD'",
        )
    if match["metric"] not in GATE_METRICS:
        near = difflib.get_close_matches(match["metric"], GATE_METRICS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CrewMeterError(
            f"--max {text!r}: {match['metric']!r} is not a metric",
            hint=f"{meant}one of {', '.join(GATE_METRICS)}; with /run after it, per run",
        )
    percent = match["unit"] == "%"
    if percent and not match["sign"]:
        raise CrewMeterError(
            f"--max {text!r}: per cent of what?", hint=f"write '+{match['amount']}%'"
        )
    amount = Decimal(match["amount"])
    return Limit(
        text=text,
        metric=match["metric"],
        per_run=match["per_run"] is not None,
        amount=-amount if match["sign"] == "-" else amount,
        relative=match["sign"] is not None,
        percent=percent,
    )


def baseline_document(
    totals: Mapping[str, object], tests: Mapping[str, Mapping[str, object]] | None = None
) -> dict[str, object]:
    """Return the contents of a baseline file."""
    return {
        "format": _FORMAT,
        "version": BASELINE_VERSION,
        "currency": "USD",
        "totals": dict(totals),
        "tests": {} if tests is None else dict(tests),
    }


def read_baseline(text: str, where: Filter, *, limit_to: Side | None = None) -> dict[str, Any]:
    """Return the totals of a baseline file or ledger.

    A file is the output of `baseline_document` or of ``report --format json``.

    Raises `CrewMeterError` where it cannot be read, is empty, is of another currency, or was
    written by a newer version.
    """
    path = Path(text)
    if "://" in text or (path.is_file() and _starts_as_ledger(path)):
        side = limit_to or Side("baseline", where)
        with Ledger.open(text, read_only=True) as ledger:
            totals: dict[str, Any] = totals_of(ledger, side).document()
    else:
        totals = _totals_in(text, _document_in(path))
    if not totals.get("calls"):
        raise CrewMeterError(
            f"the baseline {text} is empty: it has no call",
            hint="make one with `crewmeter gate --write FILE`, from a ledger that has runs",
        )
    return totals


def _starts_as_ledger(path: Path) -> bool:
    """Return whether a file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER


def _document_in(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise CrewMeterError(f"the baseline {path} is larger than {_MAX_FILE:,} bytes")
        document = json.loads(path.read_text("utf-8-sig") or "null")
    except OSError as error:
        raise CrewMeterError(
            f"the baseline {path} cannot be read: {error.strerror}",
            hint="make one with `crewmeter gate --write FILE`",
        ) from error
    except (ValueError, RecursionError) as error:
        raise CrewMeterError(
            f"the baseline {path} is not JSON, nor a ledger: {error}",
            hint="make one with `crewmeter gate --write FILE`",
        ) from error
    if not document:
        raise CrewMeterError(
            f"the baseline {path} is empty", hint="make one with `crewmeter gate --write FILE`"
        )
    if not isinstance(document, dict):
        raise CrewMeterError(f"the baseline {path} is not a JSON object")
    return document


def _totals_in(text: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return the totals of a baseline document after checking currency and version."""
    currency = document.get("currency")
    if currency != "USD":
        raise CrewMeterError(
            f"the baseline {text} is in {currency or 'an unnamed currency'}, the ledger in USD",
            hint="make a baseline from this ledger with `crewmeter gate --write FILE`",
        )
    version = document.get("version", 0)
    is_report = "total" in document and "group_by" in document
    if not is_report and document.get("format") != _FORMAT:
        raise CrewMeterError(f"the baseline {text} is not a baseline of crewmeter")
    if not isinstance(version, int) or version > BASELINE_VERSION:
        raise CrewMeterError(
            f"the baseline {text} has version {version}, this crewmeter reads "
            f"up to {BASELINE_VERSION}",
            hint="upgrade crewmeter, or make the baseline again",
        )
    totals = document.get("total" if is_report else "totals")
    if not isinstance(totals, dict):
        raise CrewMeterError(f"the baseline {text} has no totals")
    return totals


def check(
    limits: list[Limit], baseline: Mapping[str, Any], current: Mapping[str, Any]
) -> list[GateResult]:
    """Return each limit's result.

    A value that is unknown today counts as exceeded, since a gate must not pass blind.
    """
    return [_checked(limit, baseline, current) for limit in limits]


def _checked(limit: Limit, baseline: Mapping[str, Any], current: Mapping[str, Any]) -> GateResult:
    """Return one limit's result."""
    before = _value(limit, baseline)
    value = _value(limit, current)
    allowed = limit.allowed(before)
    reason = None
    if allowed is None:
        reason = f"the baseline has no {limit.metric}"
    elif value is None:
        reason = f"{limit.metric} is not known"
    elif limit.metric == "cost" and _unpriced(current) > _unpriced(baseline):
        # A sum that leaves calls out is too low, so passing would say nothing.
        reason = f"{_unpriced(current)} calls have no price and are not in the cost"
    exceeded = reason is not None or (value is not None and allowed is not None and value > allowed)
    return GateResult(limit, before, value, allowed, exceeded, reason)


def _unpriced(totals: Mapping[str, Any]) -> int:
    """Return how many calls are not in the cost."""
    count = totals.get("unpriced_calls")
    if isinstance(count, int):
        return count
    return 0


def _value(limit: Limit, totals: Mapping[str, Any]) -> Decimal | None:
    """Return a metric's value in some totals, None where they do not have it."""
    value = _number(totals.get(GATE_METRICS[limit.metric]))
    if not limit.per_run or value is None:
        return value
    runs = _number(totals.get("runs"))
    return value / runs if runs else None


def _number(value: object) -> Decimal | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not re.fullmatch(r"-?\d+(\.\d+)?(e-?\d{1,3})?", str(value)):
        return None
    return Decimal(str(value))
