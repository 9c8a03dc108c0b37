"""The pipeline's guarantees, each driven through real collectors.

Nothing billed is lost, nothing private leaves.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from unittest.mock import patch

import pytest
from support.collector_parts import (
    Collector,
    Sink,
    TraceBackend,
    post,
    value_of,
    wait_until,
)
from support.collector_traffic import run
from support.golden_spans import golden_nodes
from support.paths import ROOT
from support.ports import free_ports
from support.prometheus_server import prometheus_server, query

from crewmeter import semconv
from crewmeter.export.metrics import ClientMetrics
from crewmeter.export.readable_span import readable
from crewmeter.semconv.generations import Emitted
from crewmeter.settings import TracerSettings

pytestmark = pytest.mark.services


def send(collector: Collector, runs: int, calls: int = 5, **more: object) -> set[str]:
    """Post `runs` runs to a collector as an app does and return the billed ids.

    The ids of the billed calls.
    """
    billed: set[str] = set()
    for _ in range(runs):
        body, ids = run(calls, **more)
        assert post(f"{collector.http}/v1/traces", body) == 200
        billed |= ids
    return billed


def test_agent_and_gateway_deliver_every_call_and_the_key(agent: Collector, ledger_end: Sink):
    """Every billed call arrives through agent and gateway, with the ledger's key.

    Every billed call arrives, with the ledger's key.
    """
    billed = send(agent, 20)
    wait_until(lambda: ledger_end.calls == billed, what="every call at the ledger")
    assert set(ledger_end.keys) == {"Bearer a-key-for-tests"}


def test_sampling_traces_leaves_the_ledger_whole(
    collectors, ledger_end: Sink, trace_end: TraceBackend
):
    """At 1 % trace sampling the ledger still gets 100 % of the calls."""
    gateway = collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=ledger_end.url,
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
        CREWMETER_TRACE_PERCENT="1",
        CREWMETER_DECISION_WAIT="2s",
        CREWMETER_DECISION_WAIT_AFTER_ROOT="1s",
    )
    billed = send(gateway, 300, calls=2)
    failing = send(gateway, 3, calls=1, error=True)
    wait_until(lambda: ledger_end.calls == billed | failing, what="100 % at the ledger")
    wait_until(
        lambda: failing <= {span.span_id.hex() for span in trace_end.spans},
        what="traces with errors are sampled",
    )
    traces = {span.trace_id for span in trace_end.spans}
    assert len(traces) - 3 <= 20, f"{len(traces)} of 303 traces sampled at 1 %"


def test_spans_the_head_sampler_dropped_go_to_the_ledger_only(
    gateway: Collector, ledger_end: Sink, trace_end: TraceBackend
):
    """What the app's own sampler dropped is billed and stays out of the trace back end."""
    dropped = send(gateway, 3, extra={semconv.SAMPLED_OUT: True})
    sampled = send(gateway, 3)
    wait_until(lambda: ledger_end.calls == dropped | sampled)
    wait_until(lambda: sampled <= {span.span_id.hex() for span in trace_end.spans})
    assert not dropped & {span.span_id.hex() for span in trace_end.spans}


def test_only_genai_spans_reach_the_ledger(
    gateway: Collector, ledger_end: Sink, trace_end: TraceBackend
):
    """Database and web spans go to the trace back end, never to the ledger.

    The ledger gets calls and steps.
    """
    billed = send(gateway, 2, others=4)
    wait_until(lambda: ledger_end.calls == billed)
    wait_until(lambda: sum(span.name == "SELECT" for span in trace_end.spans) == 8)
    assert not [span.name for span in ledger_end.spans if span.name == "SELECT"]
    assert sum(value_of(span, semconv.KIND) == semconv.KIND_CREW for span in ledger_end.spans) == 2


def test_ledger_down_and_collectors_killed_meanwhile_loses_nothing(
    collectors, trace_end: TraceBackend
):
    """Calls survive a sidecar that is away and collectors killed with -9.

    Each call is there, and none was only in memory.
    """
    [port] = free_ports(1)
    gateway = collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=f"http://127.0.0.1:{port}",
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
    )
    agent = collectors("agent", CREWMETER_GATEWAY=gateway.http)
    billed = send(agent, 20)
    wait_until(
        lambda: gateway.metric("otelcol_exporter_queue_size", exporter="otlp_http/ledger") > 0,
        what="spans wait at the gateway",
    )
    gateway.kill()
    billed |= send(agent, 20)
    agent.kill()
    agent.start()
    billed |= send(agent, 20)
    gateway.start()
    ledger = Sink(port)
    try:
        wait_until(
            lambda: ledger.calls == billed, seconds=60, what="every call after everything is back"
        )
    finally:
        ledger.close()


def test_a_ledger_that_refuses_for_a_while_gets_everything_later(
    gateway: Collector, ledger_end: Sink
):
    """503 from the sidecar (its disk is full, its database restarts) is waited out."""
    ledger_end.status = 503
    billed = send(gateway, 10)
    wait_until(lambda: ledger_end.refused > 0)
    ledger_end.status = 200
    wait_until(lambda: ledger_end.calls == billed, seconds=30)


def test_a_dead_trace_back_end_does_not_stop_the_ledger(collectors, ledger_end: Sink):
    """Tempo down is no reason to lose or delay money."""
    [nobody] = free_ports(1)
    gateway = collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=ledger_end.url,
        CREWMETER_TRACES_ENDPOINT=f"127.0.0.1:{nobody}",
        CREWMETER_TRACE_PERCENT="100",
        CREWMETER_DECISION_WAIT="1s",
        CREWMETER_DECISION_WAIT_AFTER_ROOT="1s",
    )
    billed = send(gateway, 50)
    wait_until(lambda: ledger_end.calls == billed, seconds=10)
    time.sleep(2.5)  # the decisions fall, the exporter to the dead end fails
    billed |= send(gateway, 50)
    wait_until(lambda: ledger_end.calls == billed, seconds=10)


CANARY = "canary-7f3a9c"
CONTENT = dict.fromkeys(
    (
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.TOOL_ARGUMENTS,
        semconv.TOOL_RESULT,
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
        "gen_ai.prompt",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.content",
        "gen_ai.content.prompt",
        "gen_ai.retrieval.query.text",
        "input.value",
        "output.value",
        "llm.input_messages.0.message.content",
        "llm.output_messages.0.message.content",
        "llm.prompts",
        "llm.prompt_template.template",
        "llm.invocation_parameters",
        "llm.tools.0.tool.json_schema",
        "llm.request.functions.0.arguments",
        "tool.parameters",
        "tool_call.function.arguments",
        "message.content",
        "retrieval.documents.0.document.content",
        "document.content",
        "reranker.query",
        "embedding.embeddings.0.embedding.text",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "request_data",
        "response_data",
        "all_messages_events",
        "final_result",
        "crew_agents",
        "crew_tasks",
        "crew_inputs",
        "formatted_description",
        "task_output",
        "http.request.body",
        "http.request.header.x-note",
        "db.statement",
        "db.query.text",
    ),
    f"{CANARY} prompt text",
)
SECRETS = {
    "server.url": "https://user:Sup3rS3cretPw@gateway.internal/v1",
    "gen_ai.request.extra": "key sk-proj-Abcdefghijklmnop0123456789 was used",
    "metadata.note": "Bearer Zm9vYmFyYmF6cXV4Zm9vYmFy",
    "llm.headers.x_api_key": "plain-value-under-a-telling-name",
    "crewmeter.tag.aws": "AKIAABCDEFGHIJKLMNOP",
    "crewmeter.tag.google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "crewmeter.tag.jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLWhlcmU",
}
LEAKS = [
    CANARY,
    "Sup3rS3cretPw",
    "sk-proj-Abcdef",
    "Zm9vYmFyYmF6",
    "plain-value-under",
    "AKIAABCDEFGH",
    "AIzaSyA12345",
    "eyJzdWIi",
]


OWN_CONTENT = dict.fromkeys(
    (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.TOOL_ARGUMENTS, semconv.TOOL_RESULT),
    f"{CANARY} text",
)


@pytest.mark.parametrize(
    ("scope", "content"),
    [("opentelemetry.instrumentation.openai", CONTENT), (semconv.SCOPE, OWN_CONTENT)],
    ids=["foreign", "own"],
)
def test_content_and_secrets_reach_neither_end(
    scope, content, agent: Collector, ledger_end: Sink, trace_end: TraceBackend
):
    """Prompts, answers, arguments and keys stop at the first collector.

    Every name that instrumentors use is tried.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from support.collector_traffic import pair

    body, billed = run(2, extra=content | SECRETS, scope=scope)
    request = ExportTraceServiceRequest.FromString(body)
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.status.code, span.status.message = (
            2,
            f"400 the prompt was: {CANARY} and the key sk-proj-Abcdefghijklmnop0123456789",
        )
        event = span.events.add(name="exception")
        event.attributes.extend(
            [
                pair("exception.message", CANARY),
                pair("exception.stacktrace", CANARY),
                pair("exception.type", "BadRequest"),
            ]
        )
    request.resource_spans[0].scope_spans[0].spans[
        0
    ].name = "chat sk-proj-Abcdefghijklmnop0123456789"
    request.resource_spans[0].resource.attributes.append(
        pair("process.command_args", "--key sk-proj-Abcdefghijklmnop0123456789")
    )
    assert post(f"{agent.http}/v1/traces", request.SerializeToString()) == 200
    wait_until(lambda: ledger_end.calls == billed)
    wait_until(lambda: len(trace_end.spans) == 3)
    for where, bodies in (("ledger", ledger_end.bodies), ("traces", trace_end.bodies)):
        sent = b"".join(bodies).decode("utf-8", "replace")
        assert [leak for leak in LEAKS if leak in sent] == [], f"leaked to {where}"
    queue = b"".join(file.read_bytes() for file in agent.log.parent.glob("queue/*"))
    assert CANARY.encode() not in queue, "content waits on disk"
    assert CANARY not in agent.log.read_text()


def test_billing_facts_survive_protection(gateway: Collector, ledger_end: Sink):
    """Names that look a little like secrets stay.

    A masked model name would be a call without a price.

    A masked model name would be a call without a price.
    """
    names = {
        semconv.REQUEST_MODEL: "accounts/fireworks/models/deepseek-v3p1-terminus-20260921",
        semconv.AGENT_NAME: "task-planner-for-finance-and-risk-desk",
        semconv.PROVIDER: "fireworks",
        "crewmeter.tag.cost_center": "xai-team-2026",
        semconv.REPORTED_COST_USD: "0.000450",
    }
    body, billed = run(1, extra=names)
    assert post(f"{gateway.http}/v1/traces", body) == 200
    wait_until(lambda: ledger_end.calls == billed)
    [call] = [span for span in ledger_end.spans if span.span_id.hex() in billed]
    assert {key: value_of(call, key) for key in names} == names
    assert value_of(call, semconv.INPUT_TOKENS) == 1000
    assert value_of(call, semconv.RUN_ID)


def test_json_clients_work(gateway: Collector, ledger_end: Sink):
    """OTLP/JSON, which browsers and hand-written clients send."""
    now = time.time_ns()
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(now - 10**9),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
    }
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "by hand"}, "spans": [span]}]}]}
    ).encode()
    assert post(f"{gateway.http}/v1/traces", body, content_type="application/json") == 200
    wait_until(lambda: ledger_end.calls == {"eee19b7ec3c1b174"})


def test_a_wrong_key_is_visible_in_metric_and_log(gateway: Collector, ledger_end: Sink):
    """401 from the sidecar is counted and logged with the exporter's name."""
    ledger_end.status = 401
    send(gateway, 1)
    wait_until(
        lambda: (
            gateway.metric("otelcol_exporter_send_failed_spans", exporter="otlp_http/ledger") >= 6
        )
    )
    log = gateway.log.read_text()
    assert "401" in log
    assert "otlp_http/ledger" in log


def test_an_empty_key_stops_the_start(binary, tmp_path):
    """A gateway without the ledger's key does not start and says why.

    Instead of dropping batch after batch.
    """
    with pytest.raises(AssertionError, match="no bearer token provided"):
        Collector(binary, tmp_path / "g", "gateway", CREWMETER_TOKEN="").start()


def test_two_gateways_each_see_whole_traces(collectors, ledger_end: Sink):
    """Agents with two gateways send all spans of a trace to one of them, and use both."""
    second = Sink()
    try:
        agent = collectors(
            "agent",
            "agent-two-gateways",
            CREWMETER_GATEWAY_A=ledger_end.url,
            CREWMETER_GATEWAY_B=second.url,
        )
        billed = send(agent, 60)
        wait_until(lambda: ledger_end.calls | second.calls == billed)
        ours, theirs = ({span.trace_id for span in end.spans} for end in (ledger_end, second))
        assert not ours & theirs
        assert len(ours) >= 10 <= len(theirs)
    finally:
        second.close()


def test_the_collector_shows_its_own_loss_metrics(
    agent: Collector, gateway: Collector, ledger_end: Sink
):
    """The names the alert rules watch exist, and count what was sent."""
    billed = send(agent, 2)
    wait_until(lambda: ledger_end.calls == billed)
    wait_until(
        lambda: gateway.metric("otelcol_exporter_sent_spans", exporter="otlp_http/ledger") == 12
    )
    assert (
        gateway.metric("otelcol_exporter_queue_capacity", exporter="otlp_http/ledger") == 5_000_000
    )
    assert agent.metric("otelcol_exporter_sent_spans", exporter="otlp_http/gateway") == 12


@pytest.fixture
def app_meters(agent: Collector):
    """A meter provider as an app has it: golden spans in both generations, to the agent."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{agent.http}/v1/metrics"), export_interval_millis=60_000
    )
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield meters
    meters.shutdown()


def record_golden(meters) -> None:
    """Record the golden spans on an app's meter provider, and export."""
    from opentelemetry.sdk.resources import Resource

    with patch("opentelemetry.metrics.get_meter_provider", return_value=meters):
        metrics = ClientMetrics(TracerSettings(), Resource.get_empty)
        for node in golden_nodes():
            readable(node, Resource.get_empty(), Emitted())
            metrics.record(node)
    meters.force_flush()


def scraped(gateway: Collector) -> str:
    """What the gateway shows to Prometheus."""
    with urllib.request.urlopen(gateway.app_metrics, timeout=5) as answer:
        return answer.read().decode()


def test_app_metrics_come_out_for_prometheus(app_meters, gateway: Collector):
    """The app's metrics of both generations can be scraped after agent and gateway.

    Each under the name and unit that Prometheus makes of it, with the labels of the conventions.
    """
    record_golden(app_meters)
    last = "gen_ai_invoke_workflow_duration_seconds_count"
    wait_until(lambda: last in scraped(gateway), what="the app's metrics at the gateway")
    lines = scraped(gateway).splitlines()
    names = {line.partition("{")[0] for line in lines if line[:1] != "#"}
    old = {
        "gen_ai_client_operation_duration_seconds_count",
        "gen_ai_client_token_usage_sum",
        "gen_ai_client_operation_time_to_first_chunk_seconds_bucket",
    }
    new = {
        "gen_ai_client_inference_duration_seconds_count",
        "gen_ai_client_inference_time_to_first_chunk_seconds_bucket",
        "gen_ai_client_inference_usage_input_tokens_total",
        "gen_ai_client_inference_usage_output_tokens_total",
        "gen_ai_client_inference_usage_cache_read_input_tokens_total",
        "gen_ai_client_inference_usage_reasoning_output_tokens_total",
        "gen_ai_client_inference_operation_input_tokens_sum",
        "gen_ai_invoke_agent_duration_seconds_count",
        "gen_ai_invoke_agent_inference_calls_sum",
        "gen_ai_invoke_agent_tool_calls_sum",
        "gen_ai_execute_tool_duration_seconds_count",
        "mcp_client_operation_duration_seconds_count",
        last,
    }
    assert old <= names, old - names
    assert new <= names, new - names
    assert 'gen_ai_token_modality="audio"' in scraped(gateway)


QUERIES = [
    expression
    for row in re.findall(
        r"^\| (?!chart|---).*gen_ai_.*$",
        (ROOT / "docs/dashboards.md").read_text("utf-8"),
        re.MULTILINE,
    )
    for expression in re.findall(r"`([^`]+)`", row)
]


def test_the_documented_queries_of_both_generations_run(app_meters, gateway: Collector, tmp_path):
    """A real Prometheus that scrapes the gateway answers each query of docs/dashboards.md."""
    assert len(QUERIES) == 12
    record_golden(app_meters)
    last = "gen_ai_invoke_workflow_duration_seconds_count"
    wait_until(lambda: last in scraped(gateway), what="the app's metrics at the gateway")
    port = int(gateway.app_metrics.rpartition(":")[2].partition("/")[0])
    with prometheus_server(tmp_path, scrape=port) as base:
        wait_until(lambda: query(base, last), what="the first scrape")
        record_golden(app_meters)
        twice = "gen_ai_client_operation_duration_seconds_count > 1"
        wait_until(lambda: query(base, twice), what="the second scrape")
        for expression in QUERIES:
            wait_until(lambda: query(base, expression), seconds=20, what=expression)  # noqa: B023
