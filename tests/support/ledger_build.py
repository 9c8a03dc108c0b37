"""Calls, steps and outcomes for the ledger's tests, each with sensible parts a test may replace."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced
from crewmeter_cost.pricing.charge_result import FrozenRates
from crewmeter_cost.records import Call, CallContext, Step

NOON = 1_780_315_200 * 10**9
"""2026-06-01T12:00:00Z in nanoseconds."""
SECOND = 10**9
HOUR = 3600 * SECOND
RUN = "00000000000000aa"
CONTEXT = CallContext(
    run_id=RUN,
    run_kind="crew",
    run_name="research",
    crew="research",
    task="write",
    agent="writer",
    team="growth",
    user="ada",
)


def frozen(version: str) -> FrozenRates:
    return FrozenRates(version, "genai-prices", "openai", "gpt-4o", "{}")


def call(number: int, **changes: Any) -> Call:
    """Call `number`: its span id says which.

    Two seconds long, 1,000 tokens in (200 cached), 100 out.
    """
    base = Call(
        trace_id="0" * 31 + "1",
        span_id=f"{number:016x}",
        parent_span_id=None,
        started_ns=NOON + number * SECOND,
        ended_ns=NOON + (number + 2) * SECOND,
        operation="chat",
        provider="openai",
        host="api.openai.com",
        request_model="gpt-4o",
        response_model="gpt-4o-2024-08-06",
        response_id=None,
        usage=TokenUsage(input=1000, output=100, cache_read=200),
        error=False,
        error_type=None,
        finish_reason="stop",
        service_tier=None,
        reported_cost_usd=None,
        time_to_first_token_ns=None,
        origin="event",
        scope="crewmeter",
        context=CONTEXT,
    )
    return replace(base, **changes)


def step(number: int, kind: str, name: str, **changes: Any) -> Step:
    base = Step(
        trace_id="0" * 31 + "1",
        span_id=f"{number:016x}",
        parent_span_id=None,
        started_ns=NOON,
        ended_ns=NOON + 60 * SECOND,
        kind=kind,
        name=name,
        error=False,
        error_type=None,
        is_run=False,
        context=CONTEXT,
    )
    return replace(base, **changes)


def root(**changes: Any) -> Step:
    """The end of the run that `call`s belong to."""
    return step(0xAA, "crew", "research", is_run=True, **changes)


def priced(pusd: int = 5_000_000_000, **changes: Any) -> Charge:
    return Charge(pusd, "priced", (), "openai", "gpt-4o", "genai-prices", "v1")._replace(**changes)


UNPRICED = Unpriced("unknown_model", "no price for 'gpt-9' at openai", "openai", "gpt-9")


def foreign(number: int, **changes: Any) -> Call:
    """A call that another instrumentor reports."""
    return call(
        number,
        **{
            "scope": "openinference.instrumentation.openai",
            "origin": "foreign",
            "context": CallContext(),
            **changes,
        },
    )


def some_calls(seed: int, count: int, hours: int = 60):
    """Calls all over `hours` hours from noon, with many combinations of context, outcome and
    missing parts.
    """
    draw = random.Random(seed)
    made = []
    for number in range(count):
        context = CallContext(
            run_id=f"{number // 7:016x}",
            run_kind="crew",
            run_name=f"run{number % 3}",
            crew=draw.choice(["a", "b", None]),
            task=draw.choice(["t1", "t2", None]),
            agent=draw.choice(["x", "y", "z", None]),
            user=draw.choice(["ada", "bob", None]),
            team=draw.choice(["red", "blue", None]),
            session=draw.choice(["s1", "s2"]),
            tool=draw.choice([None, None, "search"]),
            tags=draw.choice([(), (("env", "prod"),), (("env", "dev"), ("tier", "1"))]),
        )
        started = NOON + draw.randrange(hours * HOUR)
        usage = TokenUsage(
            draw.randrange(5000),
            draw.randrange(500),
            cache_read=7,
            cache_write_5m=3,
            cache_write_1h=2,
            reasoning=5,
        )
        if draw.random() < 0.1:
            usage = TokenUsage(status="missing", flags=draw.choice([(), ("rejected",)]))
        error = "rejected" in usage.flags or draw.random() < 0.1
        outcome = (
            UNPRICED
            if usage.input is None or draw.random() < 0.1
            else priced(draw.randrange(10**12))
        )
        made.append(
            (
                call(
                    number,
                    started_ns=started,
                    ended_ns=started + draw.randrange(1, 90 * 10**9),
                    context=context,
                    usage=usage,
                    error=error,
                    request_model=draw.choice(["m1", "m2", None]),
                    response_model="m3",
                    host=None,
                    provider=draw.choice(["openai", "anthropic", None]),
                ),
                outcome,
            )
        )
    return made
