"""The ids that models give to the tool calls they request.

CrewAI's tool events do not carry them, its events of model calls do.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from crewmeter.crewai.messages import called_tool

if TYPE_CHECKING:
    from crewmeter.spans.span import OpenSpan

__all__ = ["ToolCallIds"]

_MOST_CALLERS = 256


class ToolCallIds:
    """The requested tool calls of each caller that has not made them yet.

    A caller is the span around both the model call and the tool, as a rule an agent's. Only the
    newest request of a caller counts, and only that many callers.
    """

    def __init__(self) -> None:
        self._requested: OrderedDict[int, list[tuple[str, str]]] = OrderedDict()

    def note(self, call: OpenSpan, response: object) -> None:
        """Remember the tool calls in a model's response, if it is a list of them."""
        if not isinstance(response, list) or call.parent is None:
            return
        named = [found for item in response if (found := called_tool(item)) is not None]
        if named:
            self._requested[call.parent.context.span_id] = named
            if len(self._requested) > _MOST_CALLERS:
                self._requested.popitem(last=False)

    def take(self, tool: OpenSpan, name: str) -> str | None:
        """Return the id of the first requested call of tool ``name``, once."""
        if not self._requested or tool.parent is None:
            return None
        requested = self._requested.get(tool.parent.context.span_id, ())
        for index, (requested_name, call_id) in enumerate(requested):
            if requested_name == name and isinstance(requested, list):
                del requested[index]
                return call_id
        return None
