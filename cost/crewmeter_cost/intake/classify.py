"""What a span means: a billed call, a step of a run, or nothing of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter_cost.intake import crewmeter_spans
from crewmeter_cost.intake.instrumentors import third_party_spans

if TYPE_CHECKING:
    from crewmeter_cost.records import Call, Span, Step

__all__ = ["aggregate", "read"]


def read(span: Span) -> Call | Step | None:
    """Return the billed call or the step that a span reports, or None.

    Never raises for what a span may hold.
    """
    if span.scope == semconv.SCOPE or semconv.KIND in span.attributes:
        return crewmeter_spans.read(span)
    return third_party_spans.read(span)


def aggregate(span: Span) -> Call | None:
    """Return the use of calls that a foreign span may sum up, or None.

    Never raises for what a span may hold.
    """
    if span.scope == semconv.SCOPE or semconv.KIND in span.attributes:
        return None
    return third_party_spans.aggregate(span)
