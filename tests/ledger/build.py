"""Calls, steps and outcomes for the ledger's tests, each with sensible parts a test may replace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced
from crewmeter_cost.pricing.charge_result import FrozenRates
from crewmeter_cost.records import Call, Place, Step

NOON = 1_780_315_200 * 10**9
"""2026-06-01T12:00:00Z in nanoseconds."""
SECOND = 10**9
HOUR = 3600 * SECOND
RUN = "00000000000000aa"
PLACE = Place(run_id=RUN, run_kind="crew", run_name="research", crew="research", task="write", agent="writer", team="growth", user="ada")


def frozen(version: str) -> FrozenRates:
    return FrozenRates(version, "genai-prices", "openai", "gpt-4o", "{}")


def call(number: int, **changes: Any) -> Call:
    """Call `number`: its span id says which. Two seconds long, 1,000 tokens in (200 cached), 100 out."""
    base = Call(
        trace_id="0" * 31 + "1", span_id=f"{number:016x}", parent_span_id=None, started_ns=NOON + number * SECOND,
        ended_ns=NOON + (number + 2) * SECOND, operation="chat", provider="openai", host="api.openai.com", request_model="gpt-4o",
        response_model="gpt-4o-2024-08-06", response_id=None, usage=TokenUsage(input=1000, output=100, cache_read=200), error=False,
        error_type=None, finish_reason="stop", service_tier=None, reported_cost_usd=None, time_to_first_token_ns=None, origin="event",
        scope="crewmeter", place=PLACE,
    )  # fmt: skip
    return replace(base, **changes)


def step(number: int, kind: str, name: str, **changes: Any) -> Step:
    base = Step(
        trace_id="0" * 31 + "1", span_id=f"{number:016x}", parent_span_id=None, started_ns=NOON, ended_ns=NOON + 60 * SECOND, kind=kind,
        name=name, error=False, error_type=None, is_run=False, place=PLACE,
    )  # fmt: skip
    return replace(base, **changes)


def root(**changes: Any) -> Step:
    """The end of the run that `call`s belong to."""
    return step(0xAA, "crew", "research", is_run=True, **changes)


def priced(pusd: int = 5_000_000_000, **changes: Any) -> Charge:
    return Charge(pusd, "priced", (), "openai", "gpt-4o", "genai-prices", "v1")._replace(**changes)


UNPRICED = Unpriced("unknown_model", "no price for 'gpt-9' at openai", "openai", "gpt-9")


def foreign(number: int, **changes: Any) -> Call:
    """A call that another instrumentor reports."""
    return call(number, **{"scope": "openinference.instrumentation.openai", "origin": "foreign", "place": Place(), **changes})
