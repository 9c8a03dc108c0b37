"""Gemini's Interactions API: whole, streamed or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map, as_text
from crewmeter.providers.protocols.gemini import add_modalities, set_tier
from crewmeter.providers.provider_protocol import (
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.usage.draft import Raw, UsageDraft, count, items

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["GEMINI_INTERACTIONS"]

_INPUT_FIELDS = {"AUDIO": "input_audio", "IMAGE": "input_image", "VIDEO": "input_video"}
_OUTPUT_FIELDS = {"AUDIO": "output_audio", "IMAGE": "output_image", "VIDEO": "output_video"}
_CACHE_FIELDS = {"AUDIO": "cache_read_audio", "IMAGE": "cache_read_image"}
_MODALITY_FIELDS = {
    "input_tokens_by_modality": _INPUT_FIELDS,
    "tool_use_tokens_by_modality": _INPUT_FIELDS,
    "output_tokens_by_modality": _OUTPUT_FIELDS,
    "cached_tokens_by_modality": _CACHE_FIELDS,
}
_COUNTS = {
    "total_thought_tokens": "reasoning",
    "total_reasoning_tokens": "reasoning",
    "total_cached_tokens": "cache_read",
}
_PER_MODALITY = keys("modality tokens")
_KEYS = keys(
    "total_input_tokens total_output_tokens total_thought_tokens total_reasoning_tokens "
    "total_cached_tokens total_tool_use_tokens total_tokens service_tier traffic_type",
    input_tokens_by_modality=_PER_MODALITY,
    output_tokens_by_modality=_PER_MODALITY,
    cached_tokens_by_modality=_PER_MODALITY,
    tool_use_tokens_by_modality=_PER_MODALITY,
    grounding_tool_count=keys("type count"),
)
_GROUNDING_UNITS = {"google_maps": "maps_grounding", "retrieval": "storage_search"}
_UNFINISHED = frozenset({"in_progress", "queued"})
_SEARCH_STEPS = frozenset({"google_search_call"})
_MAPS_STEPS = frozenset({"google_maps_call"})
_OTHER_TOOLS = frozenset({"file_search_call", "code_execution_call", "mcp_server_tool_call"})


def _read_counts(raw: Raw, _: str | None) -> UsageDraft:
    """Read the totals. Thoughts and tokens of tool use are beside output and input."""
    draft = UsageDraft()
    draft.take(raw, _COUNTS)
    prompt = count(raw, "total_input_tokens")
    answer = count(raw, "total_output_tokens")
    tools = count(raw, "total_tool_use_tokens") or 0
    if prompt is not None:
        draft.input = prompt + tools
    if answer is not None:
        draft.output = answer + draft.reasoning
    total = count(raw, "total_tokens")
    if total and draft.input is not None:
        _check_total(
            draft,
            answer,
            total - draft.input,
        )
    for name in _MODALITY_FIELDS.keys() & raw.keys():
        add_modalities(
            draft,
            items(raw, name),
            _MODALITY_FIELDS[name],
        )
    _count_grounding(draft, items(raw, "grounding_tool_count"))
    return draft


def _check_total(draft: UsageDraft, answer: int | None, rest: int) -> None:
    """Compare the output with ``rest``, what the total has beyond the input."""
    if draft.output is None:
        draft.output = max(rest, 0)
    elif rest == answer:
        draft.output = rest  # the thoughts are in it
    elif rest != draft.output:
        draft.flags.append("unknown_usage:total_tokens")


def _count_grounding(draft: UsageDraft, tools: list[Raw]) -> None:
    for tool in tools:
        number = count(tool, "count")
        kind = str(tool.get("type"))
        if kind == "google_search":
            draft.web_searches += number or 0
        else:
            unit = _GROUNDING_UNITS.get(kind, "tool_call")
            draft.add_unit(unit, number)


def _unwrap(_: ResponseFacts, answer: Json) -> Json:
    """Return the interaction inside an event of a stream."""
    inner = answer.get("interaction")
    if isinstance(inner, dict):
        return inner
    return answer


def _read(facts: ResponseFacts, answer: Json) -> None:
    status = as_text(answer.get("status"))
    if status:
        facts.is_unfinished = status in _UNFINISHED
        if not facts.is_unfinished:
            facts.set_finish(status)
        if status == "failed":
            facts.fail("failed")
    set_tier(facts, answer.get("service_tier"))
    searches = 0
    for item in as_list(answer.get("outputs")) or as_list(answer.get("steps")):
        kind = as_map(item).get("type")
        searches += kind in _SEARCH_STEPS
        if kind in _MAPS_STEPS:
            facts.count_units("maps_grounding", 1)
        elif kind in _OTHER_TOOLS:
            facts.flag("tool_fees_not_counted")
    facts.count_searches(searches)


def _is_last(event: Json) -> bool:
    return event.get("event_type") in ("interaction.complete", "interaction.completed")


GEMINI_INTERACTIONS = ProviderProtocol(
    name="gemini_interactions",
    provider="gcp.gemini",
    routes=(Route("interactions", semconv.CHAT, sure=False),),
    stream=StreamFormat(
        marks=(b'"usage"', b'"interaction.', b'"status"', b'"error"'),
        text_keys=(b'"text":', b'"arguments":'),
        is_last=_is_last,
        is_whole=_is_last,
        running_totals=True,
    ),
    shapes=(
        UsageShape("total_input_tokens", _read_counts, _KEYS),
        UsageShape("total_output_tokens", _read_counts, _KEYS),
    ),
    read=_read,
    unwrap=_unwrap,
    answers_later=True,
    response_keys=frozenset(
        [
            "id",
            "object",
            "model",
            "agent",
            "status",
            "created",
            "updated",
            "role",
            "outputs",
            "steps",
            "usage",
            "input",
            "tools",
            "previous_interaction_id",
            "store",
            "background",
            "system_instruction",
            "generation_config",
            "response_modalities",
            "response_format",
            "response_mime_type",
            "service_tier",
            "event_type",
            "event_id",
            "interaction",
            "delta",
            "index",
        ]
    ),
)
