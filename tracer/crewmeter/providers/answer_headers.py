"""What the headers of an answer say of its price."""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

from crewmeter.providers.reported_cost import reported_cost
from crewmeter.providers.unknown_usage import unknown_names

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Headers
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["are_plain_headers", "read_answer_headers"]

_GATEWAY_COST = "x-litellm-response-cost"
_CACHES = ("helicone-cache", "x-portkey-cache-status", "cf-aig-cache-status")
"""Headers of gateways with a cache: ``HIT`` where no provider has made the answer."""
_PROVISIONED = "azure-openai-deployment-utilization"
"""Header of an answer by a deployment whose throughput is paid by the hour
(learn.microsoft.com, "Provisioned throughput").
"""
_KNOWN_HEADERS = frozenset(
    {
        _GATEWAY_COST,
        "x-litellm-response-cost-original",
        "x-litellm-response-cost-margin-amount",
        "x-litellm-response-cost-margin-percent",
        "x-litellm-response-cost-discount-amount",
        "x-litellm-key-spend",
        "x-gemini-service-tier",
        "x-amzn-bedrock-input-token-count",
        "x-amzn-bedrock-output-token-count",
        "x-amzn-bedrock-cache-read-input-token-count",
        "x-amzn-bedrock-cache-write-input-token-count",
        "x-amzn-bedrock-service-tier",
        "num_tokens",  # Cohere repeats what its body says
        "fireworks-prompt-tokens",
        "fireworks-cached-prompt-tokens",
    }
)
_IS_LIMIT = re.compile(r"limit|remaining|reset|policy|csrf|processing|speedtest|id$")
"""Headers that speak of limits, ids and times, and of nothing used."""


_NOTHING: tuple[bool, tuple[str, ...], tuple[str, ...]] = (False, (), ())
_lower_name = itemgetter(1)
"""The name in an entry of httpx's list: as sent, in lower case, and the value."""


def read_answer_headers(facts: ResponseFacts, headers: Headers, *, is_known_host: bool) -> None:
    """Take what the headers say of the price, and flag those that read like a bill's."""
    if facts.protocol.read_headers is not None:
        facts.protocol.read_headers(facts, headers)
    states_cost, special, unknown = _of_note(_names(headers))
    if states_cost and not is_known_host:
        # A LiteLLM gateway states its own figure. A provider's host never speaks for one.
        cost = headers.get(_GATEWAY_COST)
        facts.reported_cost_usd = reported_cost({"cost": cost})
    for name in special:
        if name == _PROVISIONED:
            facts.set_price_tier("provisioned")
        elif headers.get(name, "").upper().endswith("HIT"):
            facts.flag("not_sent")
    for path in unknown:
        facts.flag_unknown(path)


def are_plain_headers(headers: Headers) -> bool:
    """Return True where the headers say nothing of the price."""
    entries = getattr(headers, "_list", None)
    if type(entries) is not list:
        return _of_note(tuple(headers)) == _NOTHING
    return _of_note(tuple(map(_lower_name, entries))) == _NOTHING


def _names(headers: Headers) -> tuple[str | bytes, ...]:
    # httpx's own list is much quicker than its mapping.
    entries = getattr(headers, "_list", None)
    if type(entries) is list:
        return tuple(map(_lower_name, entries))
    return tuple(headers)


@lru_cache(maxsize=256)
def _of_note(
    names: tuple[str | bytes, ...],
) -> tuple[bool, tuple[str, ...], tuple[str, ...]]:
    """Return whether a cost is stated, headers with a meaning, and paths to flag.

    One provider's answers have the same headers.
    """
    texts = frozenset(map(_as_text, names))
    unknown = [
        f"header.{name}"
        for name in unknown_names(texts, _KNOWN_HEADERS)
        if not _IS_LIMIT.search(name)
    ]
    special = tuple(name for name in (*_CACHES, _PROVISIONED) if name in texts)
    return _GATEWAY_COST in texts, special, tuple(unknown)


def _as_text(name: str | bytes) -> str:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return text.lower()
