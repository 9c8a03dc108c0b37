"""The short way to read answers in OpenAI's chat protocol that are plain.

Plain is one choice with text alone, the usual keys, and a usage of plain counts. Most calls get
such an answer, and the app's thread pays for reading it. See decision 0016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_text
from crewmeter.usage.plain_usage import PlainForm, plain_counts, plain_reader

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Json, PlainAnswer

__all__ = ["SEARCH_MODELS", "read_plain_answer", "read_plain_usage"]

SEARCH_MODELS = "-search-api"
"""Chat models that search for every answer. The search-preview ones are priced per request."""
_PLAIN_FORM = PlainForm(
    input="prompt_tokens",
    output="completion_tokens",
    total="total_tokens",
    input_details="prompt_tokens_details",
    cached="cached_tokens",
    output_details="completion_tokens_details",
    reasoning="reasoning_tokens",
)
read_plain_usage = plain_reader(_PLAIN_FORM)
_plain_counts = plain_counts(_PLAIN_FORM)
_RESPONSE_KEYS = frozenset(
    [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "service_tier",
        "system_fingerprint",
        "prompt_filter_results",
    ]
)
_MESSAGE_KEYS = frozenset(
    ["role", "content", "refusal", "reasoning_content", "annotations", "tool_calls"]
)


def read_plain_answer(answer: Json, request_model: str | None) -> PlainAnswer | None:
    """Return what an answer says, None where it says more than a plain one.

    The whole reading, `openai_chat.read_chat` and what calls it, gives the same.
    """
    usage = answer.get("usage")
    choices = answer.get("choices")
    if type(usage) is not dict or type(choices) is not list or len(choices) != 1:
        return None
    choice = choices[0]
    if type(choice) is not dict or "usage" in choice or not _is_plain(choice.get("message")):
        return None
    if not answer.keys() <= _RESPONSE_KEYS:
        return None
    if request_model is not None and SEARCH_MODELS in request_model:
        return None
    counts = _plain_counts(usage)
    if counts is None:
        return None
    return (
        as_text(answer.get("id")),
        as_text(answer.get("model")),
        as_text(answer.get("service_tier")),
        as_text(choice.get("finish_reason")),
        counts,
    )


def _is_plain(message: object) -> bool:
    """Return True where a message is text alone, so that nothing ran at the provider."""
    if type(message) is not dict or not message.keys() <= _MESSAGE_KEYS:
        return False
    return not message.get("annotations") and not message.get("tool_calls")
