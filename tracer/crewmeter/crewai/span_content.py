"""Content of events, put on spans where the user wants it captured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.messages import messages_text

if TYPE_CHECKING:
    from crewmeter.redaction import Content
    from crewmeter.spans.span import OpenSpan

__all__ = ["SpanContent"]

_ROLES = {semconv.INPUT_MESSAGES: "user", semconv.OUTPUT_MESSAGES: "assistant"}
"""Attribute of messages → who says one that does not tell."""


class SpanContent:
    """What adds prompts, answers and error texts to spans, scrubbed and cut to size."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.enabled = content.enabled

    def add(self, node: OpenSpan, name: str, value: object) -> None:
        """Add ``value`` as the attribute ``name``, if content is captured."""
        if not self.enabled:
            return
        role = _ROLES.get(name)
        if role is not None and self._content.as_messages:
            text = messages_text(value, role, self._content)
        else:
            text = self._content.text(value)
        if text is not None:
            node.attributes[name] = text

    def add_error(self, node: OpenSpan, event: Any, error_type: str) -> None:
        """Add the type of an error, and its text if content is captured."""
        node.error_type = error_type
        error = getattr(event, "error", None) or getattr(event, "failure", "")
        node.message = self._content.text(str(error))
