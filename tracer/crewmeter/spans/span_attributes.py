"""A finished span's values by their attribute names.

A call's values are a tuple in the order of `CALL_NAMES`, which costs the app's thread less to make
and to write than their names would. Light to import, since the reader of a journal needs it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.usage.attributes import USAGE_NAMES, named_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.util.types import AttributeValue

__all__ = ["CALL_NAMES", "span_attributes"]

CALL_NAMES = (
    semconv.OPERATION,
    semconv.PROVIDER,
    semconv.DECLARED_PROVIDER,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.RESPONSE_ID,
    semconv.SERVICE_TIER,
    semconv.REPORTED_COST_USD,
    semconv.USAGE_SOURCE,
    semconv.CALL_ORIGIN,
    semconv.TIME_TO_FIRST_TOKEN,
    semconv.FINISH_REASONS,
    *USAGE_NAMES,
)
"""Attributes of a call. Its values have one more: a mapping of rare attributes, or None."""


def span_attributes(
    kind: str,
    scope: Mapping[str, AttributeValue],
    own: Mapping[str, AttributeValue],
    call_values: Sequence[Any] | None,
    *,
    error_type: str | None,
    sampled: bool,
) -> dict[str, AttributeValue]:
    """Return all attributes of a finished span: its context, kind, and a call's usage."""
    attributes: dict[str, AttributeValue] = {semconv.KIND: kind}
    attributes.update(scope)
    attributes.update(own)
    if call_values is not None:
        *values, rare = call_values
        attributes.update(named_values(CALL_NAMES, values))
        if rare is not None:
            attributes.update(rare)
    if error_type is not None:
        attributes[semconv.ERROR_TYPE] = error_type
    if not sampled:
        # OTLP's flags do not say it. The collector reads this to drop the span from traces.
        attributes[semconv.SAMPLED_OUT] = True
    return attributes
