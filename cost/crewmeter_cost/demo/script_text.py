"""The fake provider's answers to the demo's crew, with token counts and pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.demo.fake_provider import Reply, ToolUse

if TYPE_CHECKING:
    from crewmeter_cost.demo.fake_provider import Prompt

__all__ = ["newsroom_script"]

_BRIEF = (
    "The north sold 1,284 units this week, 16 percent more than the week before. The blue kettle led again."
    " Order more of it before Thursday."
)


def newsroom_script(prompt: Prompt) -> Reply | None:
    """Return the demo's replies by model.

    A tool call and an answer, a streamed brief, a refusal.
    """
    if prompt.model == "gpt-4o-mini" and prompt.tool_results == 0:
        return Reply(
            tool_calls=(ToolUse("read_sales", {"region": "north"}),),
            usage=TokenUsage(input=1240, output=28),
            delay_s=0.22,
        )
    if prompt.model == "gpt-4o-mini":
        text = "North: 1,284 units, up from 1,102; the blue kettle leads."
        return Reply(
            text=text, usage=TokenUsage(input=1391, output=64, cache_read=1152), delay_s=0.31
        )
    if prompt.model == "gpt-4o":
        return Reply(
            text=_BRIEF,
            usage=TokenUsage(input=1720, output=186, cache_read=1024),
            delay_s=0.18,
            chunk_delay_s=0.03,
        )
    return Reply(status=400)
