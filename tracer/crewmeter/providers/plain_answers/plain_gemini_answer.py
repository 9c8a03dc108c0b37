"""The short way to read Gemini's answers that are plain.

Plain is one candidate without grounding, the standard tier, and a usage of text alone that adds up.
See decision 0016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_text
from crewmeter.usage.draft import LARGEST_COUNT, Raw
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Headers, Json, PlainAnswer
    from crewmeter.usage.plain_usage import PlainCounts

__all__ = [
    "STANDARD_TIERS",
    "TIER_HEADER",
    "has_plain_headers",
    "read_plain_answer",
    "read_plain_usage",
]

TIER_HEADER = "x-gemini-service-tier"
STANDARD_TIERS = frozenset(
    {
        "ON_DEMAND",
        "STANDARD",
        "DEFAULT",
        "TRAFFIC_TYPE_UNSPECIFIED",
        "SERVICE_TIER_UNSPECIFIED",
        "UNSPECIFIED",
        "",
    }
)
"""Names, in capitals, of the tier that price lists have no name for."""
_USAGE_KEYS = frozenset(
    [
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "promptTokensDetails",
        "candidatesTokensDetails",
        "cacheTokensDetails",
        "trafficType",
        "serviceTier",
    ]
)
_DETAILS = ("promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails")
_DETAIL_KEYS = frozenset(["modality", "tokenCount"])
_RESPONSE_KEYS = frozenset(
    [
        "candidates",
        "usageMetadata",
        "modelVersion",
        "responseId",
        "promptFeedback",
        "createTime",
        "modelStatus",
    ]
)
_CANDIDATE_KEYS = frozenset(
    [
        "content",
        "finishReason",
        "finishMessage",
        "index",
        "avgLogprobs",
        "safetyRatings",
        "citationMetadata",
        "tokenCount",
    ]
)


def has_plain_headers(headers: Headers) -> bool:
    """Return True where the headers name the standard tier, or none."""
    return _is_standard(headers.get(TIER_HEADER))


def read_plain_answer(answer: Json, _: str | None) -> PlainAnswer | None:
    """Return what an answer says, None where it says more than a plain one.

    The whole reading, `gemini.GEMINI.read` and what calls it, gives the same.
    """
    usage = answer.get("usageMetadata")
    candidates = answer.get("candidates")
    if type(usage) is not dict or type(candidates) is not list or len(candidates) != 1:
        return None
    candidate = candidates[0]
    if type(candidate) is not dict or not candidate.keys() <= _CANDIDATE_KEYS:
        return None
    if not answer.keys() <= _RESPONSE_KEYS:
        return None
    counts = _plain_counts(usage)
    if counts is None:
        return None
    return (
        as_text(answer.get("responseId")),
        as_text(answer.get("modelVersion")),
        None,
        as_text(candidate.get("finishReason")),
        counts,
    )


def read_plain_usage(raw: Raw) -> TokenUsage | None:
    """Return what `gemini.read_metadata` gives for a plain usage object, else None."""
    counts = _plain_counts(raw)
    return None if counts is None else TokenUsage(*counts)


def _plain_counts(raw: Raw) -> PlainCounts | None:
    prompt = raw.get("promptTokenCount")
    answer = raw.get("candidatesTokenCount")
    thoughts = raw.get("thoughtsTokenCount", 0)
    cached = raw.get("cachedContentTokenCount", 0)
    total = raw.get("totalTokenCount")
    if type(prompt) is not int or type(answer) is not int or type(total) is not int:
        return None
    if type(thoughts) is not int or type(cached) is not int or not raw.keys() <= _USAGE_KEYS:
        return None
    fits = (
        0 < prompt < LARGEST_COUNT
        and 0 <= answer < LARGEST_COUNT
        and 0 <= thoughts < LARGEST_COUNT
        and 0 <= cached <= prompt
        and total == prompt + answer + thoughts
    )
    if not fits or not _is_standard(raw.get("trafficType")):
        return None
    if not _is_standard(raw.get("serviceTier")):
        return None
    for name in _DETAILS:
        details = raw.get(name)
        if details is not None and not _is_text_alone(details):
            return None
    return prompt, answer + thoughts, cached, 0, 0, thoughts


def _is_standard(tier: object) -> bool:
    if tier is None:
        return True
    return type(tier) is str and tier.upper() in STANDARD_TIERS


def _is_text_alone(details: object) -> bool:
    """Return True for a list of counts by modality with text alone in it."""
    if type(details) is not list:
        return False
    for item in details:
        if type(item) is not dict or item.get("modality") != "TEXT":
            return False
        if not item.keys() <= _DETAIL_KEYS:
            return False
    return True
