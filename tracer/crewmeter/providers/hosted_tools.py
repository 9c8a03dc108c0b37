"""What a chat answer may bill beyond its plain counts, such as hosted tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_list, as_map
from crewmeter.usage.draft import Raw, UsageDraft, count

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Json
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = [
    "HOSTED_TOOL_MARKS",
    "flag_second_names",
    "flag_uncounted_tools",
    "note_hosted_tools",
]

_ZHIPU_MARKS = (b'"web_search":[{', b'"web_search": [{')
HOSTED_TOOL_MARKS: dict[str, tuple[bytes, ...]] = {
    "groq": (b'"executed_tools"',),
    "moonshotai": (b'"$web_search"',),
    "openrouter": (b'"annotations":[{', b'"annotations": [{'),
    "x_ai": (b'"citations":["', b'"citations": ["'),
    "zai": _ZHIPU_MARKS,
    "zhipuai": _ZHIPU_MARKS,
}
"""Provider → what the events of its streams have in them that speak of such tools."""
_MOONSHOT_SEARCH = "$web_search"
_COUNTED_SOURCES = ("num_sources_used", "num_server_side_tools_used")


def note_hosted_tools(facts: ResponseFacts, answer: Json, choice: Json) -> None:
    """Flag what ran at the provider and has a fee that the usage does not tell."""
    message = as_map(choice.get("message") or choice.get("delta"))
    if message.get("executed_tools"):
        # Groq bills each search and page, and the time of code (groq.com/pricing).
        facts.flag("tool_fees_not_counted")
    for item in as_list(message.get("tool_calls")):
        function = as_map(as_map(item).get("function"))
        if function.get("name") == _MOONSHOT_SEARCH:
            # Billed per call beside the tokens (platform.moonshot.ai/docs/pricing/tools).
            facts.flag_unknown("tool_calls.web_search")
    if facts.provider == "openrouter" and message.get("annotations"):
        # Its plugins for web pages and files have prices of their own, inside the cost that it
        # reports (openrouter.ai/docs/features/web-search).
        facts.flag_unknown("message.annotations")
    if facts.provider == "x_ai":
        _note_citations(facts, answer)


def _note_citations(facts: ResponseFacts, answer: Json) -> None:
    """Flag sources of xAI's search that the usage, in any event, does not count."""
    if answer.get("citations"):
        facts.is_cited = True
    if not facts.is_cited:
        return
    usage = as_map(answer.get("usage"))
    if usage:
        is_counted = any(usage.get(key) for key in _COUNTED_SOURCES)
    elif facts.has_report("prompt_tokens"):
        is_counted = any(facts.has_report(key) for key in _COUNTED_SOURCES)
    else:
        return
    if not is_counted:
        facts.flag_unknown("response.citations")


def flag_uncounted_tools(draft: UsageDraft, raw: Raw, tools: Raw) -> None:
    """Say that xAI ran more tools than it lists by kind."""
    used = count(raw, "num_server_side_tools_used") or 0
    if used > sum(number for number in tools.values() if type(number) is int):
        draft.flags.append("unknown_usage:num_server_side_tools_used")


def flag_second_names(draft: UsageDraft, raw: Raw, written: int) -> None:
    """Flag Responses' names beside where they do not repeat the others.

    Gateways to Claude leave cached tokens, read and ``written``, out of ``input_tokens``.
    """
    second = count(raw, "input_tokens")
    prompt = count(raw, "prompt_tokens")
    explained = (0, draft.cache_read, draft.cache_read + written)
    if second and prompt and prompt - second not in explained:
        draft.flags.append("unknown_usage:input_tokens")
    second = count(raw, "output_tokens")
    if second and second != (count(raw, "completion_tokens") or second):
        draft.flags.append("unknown_usage:output_tokens")
