"""Usage objects changed by chance, and the bill that each can still prove.

The oracles read the documented keys of one provider each. They know nothing of the product.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Usage = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens."""

    input: str
    output: str
    cache_read: str = "0"
    cache_write: str = "0"
    cache_write_1h: str = "0"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a usage object proves."""

    fresh: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0

    def bill(self, rates: Rates) -> int | None:
        """Return pico-USD, or None where a count is below zero or nothing was used."""
        amounts = (
            (self.fresh, rates.input),
            (self.output, rates.output),
            (self.cache_read, rates.cache_read),
            (self.cache_write, rates.cache_write),
            (self.cache_write_1h, rates.cache_write_1h),
        )
        if min(count for count, _ in amounts) < 0 or not any(count for count, _ in amounts):
            return None
        return int(sum(count * Decimal(rate) for count, rate in amounts) * 10**6)


@dataclass(frozen=True, slots=True)
class Shape:
    """One provider's usage object, as recorded."""

    provider: str
    model: str
    rates: Rates
    usage: Usage
    oracle: Callable[[Usage], Counts | None]


def paths(usage: Usage, above: Path = ()) -> Iterator[Path]:
    """Yield the path of every number."""
    for key, value in usage.items():
        if isinstance(value, dict):
            yield from paths(value, (*above, key))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*above, key)


def _parent(usage: Usage, path: Path) -> Usage:
    for key in path[:-1]:
        usage = usage[key]
    return usage


def changed(usage: Usage, change: tuple[str, Path, int]) -> Usage:
    """Return a usage after one change."""
    kind, path, amount = change
    made = copy.deepcopy(usage)
    parent = _parent(made, path)
    if path[-1] not in parent:
        return made
    if kind == "drop":
        del parent[path[-1]]
    elif kind == "rename":
        parent[f"{path[-1]}_v2"] = parent.pop(path[-1])
    elif kind == "zero":
        parent[path[-1]] = 0
    elif kind == "double":
        parent[path[-1]] *= 2
    elif kind == "add":
        parent[f"novel_{amount % 5}_count"] = amount
    return made


def changes(usage: Usage) -> st.SearchStrategy[list[tuple[str, Path, int]]]:
    """Return one to three changes of a usage."""
    kinds = st.sampled_from(["drop", "rename", "zero", "double", "add"])
    one = st.tuples(kinds, st.sampled_from(sorted(paths(usage))), st.integers(1, 10**6))
    return st.lists(one, min_size=1, max_size=3)


def has_unknown(usage: Usage, known: set[Path]) -> bool:
    """Return whether a number other than 0 stands under a key that was not recorded."""
    return any(path not in known and _parent(usage, path)[path[-1]] for path in paths(usage))


def _solved(prompt: int | None, answer: int | None, total: int | None) -> tuple[int, int] | None:
    """Return the input and the output that three counts prove. A total of 0 is none."""
    if prompt is not None and answer is not None:
        return (prompt, answer) if (total or prompt + answer) == prompt + answer else None
    if not total:
        return None
    if prompt is not None:
        return prompt, total - prompt
    return (total - answer, answer) if answer is not None else None


def _openai(usage: Usage, prompt: str, answer: str) -> Counts | None:
    counts = _solved(usage.get(prompt), usage.get(answer), usage.get("total_tokens"))
    cached = usage[f"{prompt}_details"].get("cached_tokens", 0)
    thoughts = usage[f"{answer}_details"].get("reasoning_tokens", 0)
    if counts is None or thoughts > counts[1]:
        return None
    return Counts(counts[0] - cached, counts[1], cached)


def openai_chat(usage: Usage) -> Counts | None:
    """Read ``prompt_tokens`` with the cached ones inside, and ``completion_tokens``."""
    return _openai(usage, "prompt_tokens", "completion_tokens")


def openai_responses(usage: Usage) -> Counts | None:
    """Read ``input_tokens`` with the cached ones inside, and ``output_tokens``."""
    return _openai(usage, "input_tokens", "output_tokens")


def anthropic(usage: Usage) -> Counts | None:
    """Read Anthropic's disjoint counts. The split of the writes must add up to them."""
    fresh = usage.get("input_tokens")
    answer = usage.get("output_tokens")
    split = usage["cache_creation"]
    five = split.get("ephemeral_5m_input_tokens", 0)
    hour = split.get("ephemeral_1h_input_tokens", 0)
    written = usage.get("cache_creation_input_tokens") or five + hour
    if fresh is None or answer is None or written != five + hour:
        return None
    return Counts(fresh, answer, usage.get("cache_read_input_tokens", 0), five, hour)


def gemini(usage: Usage) -> Counts | None:
    """Read ``promptTokenCount`` with the cached ones inside, and thoughts beside candidates.

    The total holds the thoughts, also where they are not counted by themselves.
    """
    answer = usage.get("candidatesTokenCount")
    thoughts = usage.get("thoughtsTokenCount")
    prompt = usage.get("promptTokenCount")
    total = usage.get("totalTokenCount")
    if answer is not None:
        answer += thoughts or 0
    if not thoughts and prompt is not None and total and total > prompt + (answer or 0):
        answer = total - prompt
    counts = _solved(prompt, answer, total)
    if counts is None or counts[1] < (thoughts or 0):
        return None
    cached = usage.get("cachedContentTokenCount", 0)
    return Counts(counts[0] - cached, counts[1], cached)


_BEDROCK_WRITTEN = 500
"""What the recorded details of the writes add up to."""


def bedrock(usage: Usage) -> Counts | None:
    """Read Converse's disjoint counts, of which the total proves a missing one."""
    fresh = usage.get("inputTokens")
    answer = usage.get("outputTokens")
    read = usage.get("cacheReadInputTokens", 0)
    write = usage.get("cacheWriteInputTokens", _BEDROCK_WRITTEN)
    whole = None if fresh is None else fresh + read + write
    counts = _solved(whole, answer, usage.get("totalTokens"))
    if counts is None or write != _BEDROCK_WRITTEN:
        return None
    return Counts(counts[0] - read - write, counts[1], read, write)


SHAPES = {
    "OpenAI chat": Shape(
        "openai",
        "gpt-4o",
        Rates("2.5", "10", "1.25"),
        {
            "prompt_tokens": 1600,
            "completion_tokens": 240,
            "total_tokens": 1840,
            "prompt_tokens_details": {"cached_tokens": 900},
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        openai_chat,
    ),
    "OpenAI Responses": Shape(
        "openai",
        "gpt-5",
        Rates("1.25", "10", "0.125"),
        {
            "input_tokens": 1600,
            "output_tokens": 240,
            "total_tokens": 1840,
            "input_tokens_details": {"cached_tokens": 900},
            "output_tokens_details": {"reasoning_tokens": 100},
        },
        openai_responses,
    ),
    "Anthropic": Shape(
        "anthropic",
        "claude-sonnet-4-5",
        Rates("3", "15", "0.3", "3.75", "6"),
        {
            "input_tokens": 50,
            "output_tokens": 240,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 3000,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 1000,
                "ephemeral_1h_input_tokens": 2000,
            },
        },
        anthropic,
    ),
    "Gemini": Shape(
        "gcp.gemini",
        "gemini-2.5-flash",
        Rates("0.3", "2.5", "0.03"),
        {
            "promptTokenCount": 1600,
            "candidatesTokenCount": 140,
            "thoughtsTokenCount": 100,
            "totalTokenCount": 1840,
            "cachedContentTokenCount": 900,
        },
        gemini,
    ),
    "Vertex AI": Shape(
        "gcp.vertex_ai",
        "gemini-2.5-pro",
        Rates("1.25", "10", "0.125"),
        {
            "promptTokenCount": 1600,
            "candidatesTokenCount": 140,
            "thoughtsTokenCount": 100,
            "totalTokenCount": 1840,
            "cachedContentTokenCount": 900,
        },
        gemini,
    ),
    "Bedrock Converse": Shape(
        "aws.bedrock",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Rates("3.3", "16.5", "0.33", "4.125"),
        {
            "inputTokens": 30,
            "outputTokens": 240,
            "totalTokens": 1770,
            "cacheReadInputTokens": 1000,
            "cacheWriteInputTokens": 500,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 500}],
        },
        bedrock,
    ),
}
for name, provider, model, rates in (
    ("Azure", "azure.ai.openai", "gpt-4o", Rates("2.5", "10", "1.25")),
    ("Groq", "groq", "llama-3.3-70b-versatile", Rates("0.59", "0.79", "0.59")),
    ("Mistral", "mistral_ai", "mistral-large-2411", Rates("2", "6", "2")),
    ("OpenRouter", "openrouter", "openai/gpt-4o", Rates("2.5", "10", "1.25")),
):
    usage = copy.deepcopy(SHAPES["OpenAI chat"].usage)
    if rates.cache_read == rates.input:
        # These have no price for cached tokens, so that any makes the charge a bound.
        usage["prompt_tokens_details"]["cached_tokens"] = 0
    SHAPES[name] = Shape(provider, model, rates, usage, openai_chat)
