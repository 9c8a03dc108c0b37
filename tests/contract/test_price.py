"""`crewmeter price`: every option, every key."""

from __future__ import annotations

import json

import pytest

USAGE = json.dumps({"prompt_tokens": 1000, "completion_tokens": 300, "cached_prompt_tokens": 400})


@pytest.mark.parametrize(
    ("words", "usd"),
    [
        ("gpt-4o --input 1000 --cache-read 400 --output 300", "0.005"),
        ("gpt-4o --usage", "0.005"),
        ("gpt-4o --provider azure --input 1000 --output 300", "0.0055"),
        (
            "claude-sonnet-4-5 --input 1000 --cache-read 400 --cache-write 500 --output 300",
            "0.006795",
        ),
        (
            "claude-sonnet-4-5 --input 3000 --cache-write 500 --cache-write-1h 700 --output 10",
            "0.011625",
        ),
        ("gpt-5 --input 1000 --cache-read 400 --output 300 --tier flex", "0.0019"),
        ("gpt-5.6 --input 10000 --output 1000 --at 2026-08-20T23:59:59Z", "0.08"),
    ],
)
def test_a_price_is_exact_to_the_line(command, words, usd):
    """The contract's document.

    Its keys in order, decimal strings, and lines that add up to the cost.
    """
    from decimal import Decimal

    when = [] if "--at" in words else ["--at", "2026-11-21T12:00:00Z"]
    said = command(
        "price",
        *words.split(),
        *([USAGE] if words.endswith("--usage") else []),
        *when,
        "--format",
        "json",
    )
    assert said.code == 0, said.err
    made = json.loads(said.out)
    assert list(made) == [
        "cost_usd",
        "cost_status",
        "provider",
        "model",
        "items",
        "price_source",
        "price_version",
    ]
    assert (made["cost_usd"], made["cost_status"]) == (usd, "priced")
    for item in made["items"]:
        assert list(item) == ["item", "quantity", "rate_usd", "cost_usd"]
        assert type(item["rate_usd"]) is type(item["cost_usd"]) is str
        assert item["quantity"] * Decimal(item["rate_usd"]) == Decimal(item["cost_usd"])
    assert sum(Decimal(item["cost_usd"]) for item in made["items"]) == Decimal(usd)
