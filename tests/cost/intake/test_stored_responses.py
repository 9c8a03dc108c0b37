"""What a stored response may say of the bill, and what a model's own words may not."""

from __future__ import annotations

import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.ledger_build import NOON, SECOND

from crewmeter_cost.intake.otlp_protobuf import from_protobuf
from crewmeter_cost.pipeline import Pipeline

_USAGE = {"input_tokens": 1000, "output_tokens": 300, "total_tokens": 1300}
_WORDS = {"usage": {**_USAGE, "input_tokens_details": {"cached_tokens": 1000}}}
_COUNTS = {"llm.token_count.prompt": 1000, "llm.token_count.completion": 300}


def _charge(book, attributes, **stored):
    """Return the charge of a span as it comes by OTLP, with what it stores as JSON."""
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add().scope_spans.add()
    scoped.scope.name = "openinference.instrumentation.openai"
    span = scoped.spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="chat")
    span.start_time_unix_nano = NOON
    span.end_time_unix_nano = NOON + SECOND
    facts = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.provider": "openai",
        **stored,
    }
    for name, value in facts.items():
        span.attributes.add(key=name).value.string_value = value
    for name, value in attributes.items():
        span.attributes.add(key=name).value.int_value = value
    spans = from_protobuf(request.SerializeToString()).spans
    ((_, charge),) = Pipeline(None, book).price(spans).calls
    return charge


@pytest.mark.parametrize(
    "words",
    [
        json.dumps({"summary": "ok", **_WORDS}),
        json.dumps({"output": "ok", "content": ["ok"], "message": {"text": "ok"}, **_WORDS}),
        f"Here it is: {json.dumps({'choices': [{}], **_WORDS})}",
    ],
)
def test_a_models_words_are_no_usage(book, words):
    """JSON in a model's answer is no bill where counts are missing, and lowers none."""
    assert _charge(book, {}, **{"output.value": words}).status == "usage_missing"
    stored = _charge(book, _COUNTS, **{"output.value": words})
    assert stored.cost_pusd == _charge(book, _COUNTS).cost_pusd


def test_a_text_is_no_response_whatever_its_shape(book):
    """An output that is said to be plain text is read as such."""
    response = json.dumps({"output": [{"type": "message"}], "usage": _USAGE})
    as_text = {"output.value": response, "output.mime_type": "text/plain"}
    assert _charge(book, {}, **{"output.value": response}).status == "priced"
    assert _charge(book, {}, **as_text).status == "usage_missing"


@pytest.mark.parametrize("name", ["output.value", "mlflow.spanOutputs", "response_data"])
@pytest.mark.parametrize("length", [70_000, 300_000])
def test_a_search_after_a_long_answer_is_no_exact_price(book, name, length):
    """A response is searched to its end. One that was cut may have had a search there."""
    message = {"type": "message", "content": "x" * length}
    search = {"type": "web_search_call", "id": "ws_1"}
    for parts, status in (([message], "priced"), ([message, search], "lower_bound")):
        response = json.dumps({"id": "resp_12345678", "output": parts, "usage": _USAGE})
        if len(response) > 262_144:
            status = "lower_bound"
        charge = _charge(book, _COUNTS, **{name: response})
        assert charge.status == status
        assert ("tool_fees_not_counted" in charge.flags) == (status == "lower_bound")


def test_batched_prompts_are_not_billed_as_their_first(book):
    """LangChain's usage of one of several prompts is not the call's."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    one = [{"text": "hi", "message": {"kwargs": {"response_metadata": {"token_usage": usage}}}}]
    for generations, status in (([one], "priced"), ([one, one], "usage_missing")):
        stored = {"output.value": json.dumps({"generations": generations})}
        assert _charge(book, {}, **stored).status == status
