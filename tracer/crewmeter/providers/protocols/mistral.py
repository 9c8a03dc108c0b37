"""Mistral's OCR and moderation.

Its chat speaks OpenAI's protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map
from crewmeter.providers.provider_protocol import Json, ProviderProtocol, Route

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["MISTRAL_CONVERSATIONS", "MISTRAL_MODERATION", "MISTRAL_OCR"]

_MOST_PAGES = 10**6
_KNOWN = frozenset({"pages_processed", "doc_size_bytes"})


def _read_pages(facts: ResponseFacts, answer: Json) -> None:
    """Count the pages. With an annotation, they have a price of their own."""
    usage = as_map(answer.get("usage_info"))
    for name in usage.keys() - _KNOWN:
        if usage[name]:
            facts.flag_unknown(f"usage_info.{name}")
    pages = usage.get("pages_processed")
    if type(pages) is not int or not 0 <= pages <= _MOST_PAGES:
        return
    unit = "page"
    if answer.get("document_annotation"):
        unit = "annotated_page"
    facts.count_units(unit, pages)


def _read_annotated(facts: ResponseFacts, request: Json) -> None:
    if request.get("bbox_annotation_format"):
        facts.flag("unknown_usage:bbox_annotation")


def _read_conversation(facts: ResponseFacts, answer: Json) -> None:
    """Flag a connector that ran and that the usage does not count."""
    ran = [as_map(item).get("type") == "tool.execution" for item in as_list(answer.get("outputs"))]
    if any(ran) and not as_map(answer.get("usage")).get("connectors"):
        facts.flag_unknown("outputs.tool_execution")


MISTRAL_OCR = ProviderProtocol(
    name="mistral_ocr",
    provider="mistral_ai",
    routes=(Route("ocr", semconv.OCR, "/v1/ocr", sure=False),),
    read=_read_pages,
    read_request=_read_annotated,
    response_keys=frozenset({"usage_info", "pages", "document_annotation", "model"}),
)
MISTRAL_CONVERSATIONS = ProviderProtocol(
    name="mistral_conversations",
    provider="mistral_ai",
    routes=(Route("conversations", semconv.CHAT, provider="mistral_ai"),),
    read=_read_conversation,
    response_keys=frozenset({"conversation_id", "object", "outputs", "usage"}),
)
"""Agents that Mistral runs. Its connectors have fees that the usage names and no list has."""
MISTRAL_MODERATION = ProviderProtocol(
    name="mistral_moderation",
    provider="mistral_ai",
    routes=(
        Route("moderations", semconv.MODERATION, sure=False, provider="mistral_ai"),
        Route("classifications", semconv.MODERATION, sure=False, provider="mistral_ai"),
    ),
)
