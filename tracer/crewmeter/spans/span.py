"""One span in the making: a node of a run's tree, cheap to open and close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from weakref import ref

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, SpanContext, Tracer
    from opentelemetry.util.types import AttributeValue

    from crewmeter.export.journal import Segment
    from crewmeter.spans.model_call import ModelCall

__all__ = ["CLIENT_KINDS", "MOST_EVENTS", "ROOT_KINDS", "Anchor", "OpenSpan", "RunUsage"]

ROOT_KINDS = frozenset(
    {
        semconv.KIND_CREW,
        semconv.KIND_FLOW,
        semconv.KIND_AGENT,
        semconv.KIND_TRAIN,
        semconv.KIND_TEST,
    }
)
"""Kinds that make a run where no span of ours encloses them.

An agent does so only as ``Agent.kickoff``, see `Recorder.open`.
"""
CLIENT_KINDS = frozenset({semconv.KIND_LLM, semconv.KIND_EMBEDDING, semconv.KIND_MCP})
"""Kinds whose spans are calls to another service (OpenTelemetry's span kind CLIENT)."""

MOST_EVENTS = 128
"""Span events recorded per span, OpenTelemetry's default limit."""


class RunUsage:
    """The usage of a run so far, for its summary line.

    Only the export thread writes it.
    """

    __slots__ = (
        "calls",
        "failed_calls",
        "input_tokens",
        "output_tokens",
        "tool_calls",
        "unknown_calls",
    )

    def __init__(self) -> None:
        self.calls = 0
        self.failed_calls = 0
        self.unknown_calls = 0
        self.tool_calls = 0
        self.input_tokens = 0
        self.output_tokens = 0


class Anchor:
    """The tie between a node and the contexts in which it is current.

    When the last such context is gone, so is the anchor.
    """

    __slots__ = ("__weakref__", "node")

    def __init__(self, node: OpenSpan) -> None:
        self.node = node


class OpenSpan:
    """A started, perhaps finished span.

    It holds strings and numbers only, never a Task, Agent or LLM object.
    """

    __slots__ = (
        "anchor",
        "attributes",
        "attribution",
        "before",
        "call",
        "call_values",
        "children",
        "context",
        "ended_ns",
        "error_type",
        "event_id",
        "events",
        "final_attributes",
        "journal",
        "key",
        "kind",
        "labels",
        "message",
        "name",
        "otel_span",
        "parent",
        "parent_context",
        "readable",
        "run",
        "run_usage",
        "scope",
        "started_ns",
        "thread",
        "tracer",
    )

    def __init__(self, event_id: str, kind: str, name: str, started_ns: int, thread: int) -> None:
        self.event_id = event_id
        self.kind = kind
        self.name = name
        self.started_ns = started_ns
        self.thread = thread
        self.ended_ns: int | None = None
        self.key: str | None = None
        """Call id, tool name or the like, by which an ending event finds its span."""
        self.error_type: str | None = None
        self.message: str | None = None
        """Scrubbed error text, only when content is captured."""
        self.attributes: dict[str, AttributeValue] = {}
        self.scope: Mapping[str, AttributeValue] = {}
        """Attributes every descendant inherits. Shared between nodes, so never changed."""
        self.attribution: Mapping[str, str] | None = None
        self.parent: OpenSpan | None = None
        self.run: OpenSpan | None = None
        self.children: set[OpenSpan] = set()
        self.events: list[tuple[str, Mapping[str, AttributeValue], int]] = []
        """Moments inside the span: name, attributes, unix nanoseconds. At most `MOST_EVENTS`."""
        self.context: SpanContext
        self.parent_context: SpanContext | None = None
        self.otel_span: Span
        """Current while the node is open: the user's provider's span, or one with the ids only."""
        self.before: Context | None = None
        """The OpenTelemetry context to return to."""
        self.anchor: ref[Anchor] | None = None
        self.call: ModelCall | None = None
        self.labels: Mapping[str, str] | None = None
        """On a crew: task id → task name."""
        self.run_usage: RunUsage | None = None
        self.call_values: tuple[Any, ...] | None = None
        """What a finished call says, once the journal or an exporter needs it."""
        self.final_attributes: dict[str, AttributeValue] | None = None
        """All attributes, once it is finished and an exporter needs them."""
        self.readable: ReadableSpan | None = None
        self.journal: Segment | None = None
        """The file of the journal that holds this span until it is in the ledger."""
        self.tracer: Tracer | None = None
        """The user's, where the run's spans go through a provider of the user's."""

    def within(self, other: OpenSpan) -> bool:
        """Return True where this node is ``other`` or one of its descendants."""
        node: OpenSpan | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False

    def nearest(self, kind: str) -> OpenSpan | None:
        """Return the closest node of ``kind`` at or above this one."""
        node: OpenSpan | None = self
        while node is not None and node.kind != kind:
            node = node.parent
        return node
