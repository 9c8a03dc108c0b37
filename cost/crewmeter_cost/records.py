"""What flows through the money side.

A span as it came in, and the call, step or run it turned out to be.

``intake`` reads `Span`s out of OTLP bytes or SDK objects; ``dialects`` turns each into a `Call`
(billed) or a `Step` (a node of the tree); ``pricing`` adds a `Charge` or `Unpriced`; ``ledger``
writes the batch.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from crewmeter.value_class import value_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["Call", "CallContext", "CapturedContent", "Span", "Step"]


@value_class
class Span:
    """One finished span, whoever made it.

    Ids are lower-case hex, times are nanoseconds since 1970.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    started_ns: int
    ended_ns: int
    error: bool
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    scope: str
    status_message: str = ""
    scope_version: str = ""


@value_class
class CallContext:
    """Where in the crew something happened and on whose account.

    Every field may be unknown.
    """

    run_id: str | None = None
    """Span id of the run's root (16 hex) when our tracer saw it, else the trace id (32 hex)."""
    run_kind: str | None = None
    run_name: str | None = None
    crew: str | None = None
    flow: str | None = None
    task: str | None = None
    agent: str | None = None
    tool: str | None = None
    user: str | None = None
    team: str | None = None
    session: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    """Sorted (key, value) pairs."""
    service: str | None = None
    environment: str | None = None


@value_class
class Call:
    """One billed leaf: an inference, embedding or rerank request."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    started_ns: int
    ended_ns: int
    operation: str
    """`chat`, `embeddings`, … (`semconv.BILLED_OPERATIONS`)."""
    provider: str | None
    """As the client or instrumentor declared it; pricing lets a known host overrule it."""
    host: str | None
    request_model: str | None
    response_model: str | None
    response_id: str | None
    usage: TokenUsage
    error: bool
    error_type: str | None
    finish_reason: str | None
    service_tier: str | None
    reported_cost_usd: str | None
    """Decimal string, from the provider itself."""
    time_to_first_token_ns: int | None
    origin: str
    """``event`` | ``wire`` | ``residual`` | ``foreign`` (another instrumentor) | ``aggregate``.

    An aggregate is a foreign span that may sum up calls made inside it.
    """
    scope: str
    """Instrumentation scope name: which instrumentor reported it."""
    context: CallContext = field(default_factory=CallContext)


@value_class
class Step:
    """One node of a run's tree that is not billed itself.

    The run, a task, an agent, a tool, a memory query …
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    started_ns: int
    ended_ns: int
    kind: str
    """A ``semconv.KIND_*`` value."""
    name: str
    error: bool
    error_type: str | None
    is_run: bool
    """True for the root crew, flow or agent of a run."""
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Small facts worth keeping: cached, attempts, abandoned. Never content."""
    context: CallContext = field(default_factory=CallContext)


@value_class
class CapturedContent:
    """A text that a step captured, scrubbed of keys and cut to size."""

    trace_id: str
    span_id: str
    started_ns: int
    user: str | None
    item: str
    """What it is: one of `intake.captured_content.ITEMS`."""
    text: str
    """Messages are JSON as the GenAI conventions have it, where the sender wrote them so."""
