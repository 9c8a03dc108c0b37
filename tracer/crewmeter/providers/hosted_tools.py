"""Tools that a chat provider runs itself, whose fees no usage object counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_list, as_map

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Json
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["HOSTED_TOOL_MARKS", "note_hosted_tools"]

HOSTED_TOOL_MARKS = (b'"executed_tools"', b'"$web_search"', b'"annotations":[{', b'"citations":["')
"""What the events of a stream have in them that speak of such tools."""
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
    if facts.provider == "x_ai" and answer.get("citations"):
        usage = as_map(answer.get("usage"))
        if usage and not any(usage.get(key) for key in _COUNTED_SOURCES):
            facts.flag_unknown("response.citations")
