"""What a finished span adds to which metric of the conventions."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from crewmeter import semconv
from crewmeter.semconv import generations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.util.types import AttributeValue

    from crewmeter.semconv.generations import Emitted, Metric
    from crewmeter.spans.model_call import ModelCall
    from crewmeter.spans.span import OpenSpan

__all__ = ["AgentCounts", "MetricValue", "span_values"]

Attributes = dict[str, "AttributeValue"]

_INFERENCE = frozenset(
    {
        semconv.CHAT,
        semconv.TEXT_COMPLETION,
        semconv.GENERATE_CONTENT,
        semconv.TRANSCRIPTION,
        semconv.SPEECH,
        semconv.OCR,
        semconv.VIDEO,
    }
)
"""Operations in which a model generates something. Others keep the name for any operation."""
_CALL_LABELS = (
    semconv.OPERATION,
    semconv.PROVIDER,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
_TOOL_LABELS = (semconv.TOOL_NAME, semconv.TOOL_TYPE, semconv.AGENT_NAME, semconv.ERROR_TYPE)
_AGENT_LABELS = (semconv.AGENT_NAME, semconv.ERROR_TYPE)
_WORKFLOW_LABELS = (semconv.WORKFLOW_NAME, semconv.ERROR_TYPE)
_MCP_LABELS = (
    semconv.MCP_METHOD,
    semconv.TOOL_NAME,
    semconv.OPERATION,
    semconv.NETWORK_TRANSPORT,
    semconv.ERROR_TYPE,
)
_STEP_DURATIONS: Mapping[str, tuple[Metric, tuple[str, ...]]] = {
    semconv.KIND_AGENT: (generations.AGENT_DURATION, _AGENT_LABELS),
    semconv.KIND_TOOL: (generations.TOOL_DURATION, _TOOL_LABELS),
    semconv.KIND_CREW: (generations.WORKFLOW_DURATION, _WORKFLOW_LABELS),
    semconv.KIND_FLOW: (generations.WORKFLOW_DURATION, _WORKFLOW_LABELS),
    semconv.KIND_MCP: (generations.MCP_DURATION, _MCP_LABELS),
}
_INPUT_PARTS = (
    ("audio", semconv.INPUT_AUDIO_TOKENS),
    ("image", semconv.INPUT_IMAGE_TOKENS),
    ("video", semconv.INPUT_VIDEO_TOKENS),
)
_OUTPUT_PARTS = (
    ("audio", semconv.OUTPUT_AUDIO_TOKENS),
    ("image", semconv.OUTPUT_IMAGE_TOKENS),
    ("video", semconv.OUTPUT_VIDEO_TOKENS),
)
_CACHE_READ_PARTS = (
    ("audio", semconv.CACHE_READ_AUDIO_TOKENS),
    ("image", semconv.CACHE_READ_IMAGE_TOKENS),
)
_SPLIT = {generations.CACHE_READ_USAGE.name: _CACHE_READ_PARTS}
"""Parts of a count, by the name of its counter, whose modality may be known."""
_MOST_AGENTS = 1024
_MOST_INTERVALS = 256
"""Chunks of one call that are recorded at most. Beyond it the weight of the call is cut."""


class MetricValue(NamedTuple):
    """One value to record."""

    metric: Metric
    value: float
    attributes: Attributes


class AgentCounts:
    """Model and tool calls of the agents that are at work.

    A call counts for the innermost agent around it. Only as many agents as may be at work at once
    are counted: one that never ends is forgotten.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[int, list[int]] = OrderedDict()

    def add(self, node: OpenSpan) -> None:
        """Count a finished model or tool call for its agent."""
        is_tool = node.kind == semconv.KIND_TOOL
        if not is_tool and node.kind != semconv.KIND_LLM:
            return
        agent = node.nearest(semconv.KIND_AGENT)
        if agent is None:
            return
        counts = self._counts.setdefault(agent.context.span_id, [0, 0])
        counts[is_tool] += 1
        if len(self._counts) > _MOST_AGENTS:
            self._counts.popitem(last=False)

    def take(self, agent: OpenSpan) -> tuple[int, int]:
        """Return (model calls, tool calls) of an agent that has ended."""
        models, tools = self._counts.pop(agent.context.span_id, (0, 0))
        return models, tools


def span_values(node: OpenSpan, agents: AgentCounts, emitted: Emitted) -> Iterator[MetricValue]:
    """Yield what a finished span adds to the metrics.

    Metrics of a generation that does not go out may be among them.
    """
    if node.readable is None or node.ended_ns is None:
        return
    attributes = node.readable.attributes or {}
    seconds = (node.ended_ns - node.started_ns) / 1e9
    if node.call is not None:
        if emitted.old:
            yield from _old_call_values(node.call, attributes, seconds)
        if emitted.new:
            yield from _new_call_values(node.call, attributes, seconds)
        return
    step = _STEP_DURATIONS.get(node.kind)
    if step is None or not emitted.new:
        return
    metric, names = step
    labels = _labels(attributes, names)
    yield MetricValue(metric, seconds, labels)
    if node.kind == semconv.KIND_AGENT:
        models, tools = agents.take(node)
        counted = _labels(attributes, (semconv.AGENT_NAME,))
        yield MetricValue(generations.AGENT_INFERENCE_CALLS, models, counted)
        yield MetricValue(generations.AGENT_TOOL_CALLS, tools, counted)


def _old_call_values(
    call: ModelCall, attributes: Mapping[str, object], seconds: float
) -> Iterator[MetricValue]:
    labels = _labels(attributes, (*_CALL_LABELS, semconv.ERROR_TYPE))
    yield MetricValue(generations.OPERATION_DURATION, seconds, labels)
    for kind, name in (("input", semconv.INPUT_TOKENS), ("output", semconv.OUTPUT_TOKENS)):
        count = attributes.get(name)
        if isinstance(count, int):
            typed = {**labels, semconv.TOKEN_TYPE: kind}
            yield MetricValue(generations.TOKEN_USAGE, count, typed)
    yield from _chunk_values(
        call,
        attributes,
        labels,
        (generations.FIRST_CHUNK_OLD, generations.OUTPUT_CHUNK_OLD),
        seconds,
    )


def _new_call_values(
    call: ModelCall, attributes: Mapping[str, object], seconds: float
) -> Iterator[MetricValue]:
    operation = attributes.get(semconv.OPERATION)
    labels = _labels(attributes, (*_CALL_LABELS, semconv.OPENAI_SERVICE_TIER))
    timed = {**labels, **_labels(attributes, (semconv.ERROR_TYPE,))}
    cost = attributes.get(semconv.COST_AMOUNT)
    if isinstance(cost, float):
        yield MetricValue(generations.OPERATION_COST, cost, labels)
    if operation == semconv.EMBEDDINGS:
        yield MetricValue(generations.EMBEDDINGS_DURATION, seconds, timed)
        count = attributes.get(semconv.INPUT_TOKENS)
        if isinstance(count, int):
            yield MetricValue(generations.EMBEDDINGS_TOKENS, count, labels)
        return
    if operation not in _INFERENCE:
        return
    yield MetricValue(generations.INFERENCE_DURATION, seconds, timed)
    yield from _token_values(attributes, labels)
    yield from _chunk_values(
        call, attributes, timed, (generations.FIRST_CHUNK, generations.OUTPUT_CHUNK), seconds
    )


def _token_values(attributes: Mapping[str, object], labels: Attributes) -> Iterator[MetricValue]:
    """Yield the tokens of an inference, by modality where the provider tells it.

    One without usage adds 0, so that failures are seen in the counters, too.
    """
    sides = (
        (
            semconv.INPUT_TOKENS,
            _INPUT_PARTS,
            generations.INPUT_USAGE,
            generations.INFERENCE_INPUT,
        ),
        (
            semconv.OUTPUT_TOKENS,
            _OUTPUT_PARTS,
            generations.OUTPUT_USAGE,
            generations.INFERENCE_OUTPUT,
        ),
    )
    for name, parts, counter, histogram in sides:
        count = attributes.get(name)
        if not isinstance(count, int):
            unknown = {**labels, semconv.TOKEN_MODALITY: "unknown"}
            yield MetricValue(counter, 0, unknown)
            continue
        yield from _by_modality(counter, count, parts, attributes, labels)
        yield MetricValue(histogram, count, labels)
    subsets = (
        (_first_of(attributes, semconv.CACHE_READ_TOKENS), generations.CACHE_READ_USAGE),
        (
            _first_of(attributes, semconv.CACHE_WRITE_TOKENS_RENAMED, semconv.CACHE_WRITE_TOKENS),
            generations.CACHE_WRITE_USAGE,
        ),
        (_first_of(attributes, semconv.REASONING_TOKENS), generations.REASONING_USAGE),
    )
    for count, counter in subsets:
        if count:
            split = _SPLIT.get(counter.name, ())
            yield from _by_modality(counter, count, split, attributes, labels)


def _by_modality(
    counter: Metric,
    count: int,
    parts: tuple[tuple[str, str], ...],
    attributes: Mapping[str, object],
    labels: Attributes,
) -> Iterator[MetricValue]:
    rest = count
    for modality, name in parts:
        part = attributes.get(name)
        if isinstance(part, int) and part:
            rest -= part
            yield MetricValue(counter, part, {**labels, semconv.TOKEN_MODALITY: modality})
    if rest > 0 or rest == count:
        modality = "text" if rest != count else "unknown"
        yield MetricValue(counter, max(0, rest), {**labels, semconv.TOKEN_MODALITY: modality})


def _chunk_values(
    call: ModelCall,
    attributes: Mapping[str, object],
    labels: Attributes,
    metrics: tuple[Metric, Metric],
    seconds: float,
) -> Iterator[MetricValue]:
    """Yield the time to the first chunk, and the mean time between later ones.

    To time every chunk would cost the app's thread a call a chunk. The sums are the same.
    """
    first_chunk, output_chunk = metrics
    first = attributes.get(semconv.TIME_TO_FIRST_TOKEN)
    if not isinstance(first, float):
        return
    yield MetricValue(first_chunk, first, labels)
    intervals = call.exchange.chunks - 1 if call.exchange is not None else 0
    if intervals > 0 and seconds >= first:
        mean = (seconds - first) / intervals
        for _ in range(min(intervals, _MOST_INTERVALS)):
            yield MetricValue(output_chunk, mean, labels)


def _first_of(attributes: Mapping[str, object], *names: str) -> int:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int):
            return value
    return 0


def _labels(attributes: Mapping[str, object], names: tuple[str, ...]) -> Attributes:
    return {name: value for name in names if isinstance(value := attributes.get(name), str | int)}
