"""The /metrics page.

The contract's names, bounded labels, exemplars, and counts of rows really inserted.
"""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from support.sidecars import request

from crewmeter import semconv
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced
from crewmeter_cost.records import Call, CallContext, Step
from crewmeter_cost.sidecar.metrics.call_metrics import CallMetrics
from crewmeter_cost.sidecar.metrics.definitions import CounterSeries, LabelValues
from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def call(
    number: int = 0,
    *,
    model: str = "gpt-4o-mini",
    crew: str | None = "news",
    usage: TokenUsage | None = None,
    error: bool = False,
) -> Call:
    """A billed call of one second."""
    return Call(
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id=None,
        started_ns=10**18,
        ended_ns=10**18 + 10**9,
        operation="chat",
        provider="openai",
        host=None,
        request_model=model,
        response_model=None,
        response_id=None,
        usage=usage or TokenUsage(input=100, output=10, cache_read=60),
        error=error,
        error_type=None,
        finish_reason=None,
        service_tier=None,
        reported_cost_usd=None,
        time_to_first_token_ns=200_000_000,
        origin="event",
        scope="crewmeter",
        context=CallContext(crew=crew, team="sales", user="ada"),
    )


def step(
    kind: str, name: str, *, error: bool = False, is_run: bool = False, **details: bool
) -> Step:
    """A step of two seconds."""
    return Step(
        "1" * 32,
        "2" * 16,
        None,
        10**18,
        10**18 + 2 * 10**9,
        kind,
        name,
        error,
        None,
        is_run,
        details,
    )


CHARGE = Charge(
    cost_pusd=450_000_000,
    status="priced",
    items=(),
    provider="openai",
    model="gpt-4o-mini",
    source="genai-prices",
    version="v",
)
UNPRICED = Unpriced(status="unknown_model", reason="no price")


def samples(meter: CallMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in meter.collect()
        for sample in family.samples
    }


def value(meter: CallMetrics, name: str, /, **labels: str) -> float | None:
    return samples(meter).get((name, frozenset(labels.items())))


@pytest.fixture
def metrics():
    return SidecarMetrics(queue_capacity=100, queued=lambda: 7, ledger_size=lambda: None)


def test_calls_money_and_tokens_are_counted():
    """One priced call: one call, its exact cost in USD, its tokens by type, its durations."""
    meter = CallMetrics()
    meter.record([(call(), CHARGE)], [])
    assert (
        value(
            meter,
            semconv.PROM_CALLS,
            provider="openai",
            model="gpt-4o-mini",
            crew="news",
            operation="llm",
            status="ok",
        )
        == 1
    )
    assert (
        value(
            meter,
            semconv.PROM_COST,
            provider="openai",
            model="gpt-4o-mini",
            crew="news",
            team="sales",
        )
        == 0.00045
    )
    tokens = {
        kind: value(meter, semconv.PROM_TOKENS, provider="openai", model="gpt-4o-mini", type=kind)
        for kind in ("input", "cache_read", "output")
    }
    assert tokens == {"input": 100, "cache_read": 60, "output": 10}
    assert (
        value(
            meter, semconv.PROM_DURATION + "_sum", operation="llm", name="gpt-4o-mini", status="ok"
        )
        == 1
    )
    assert value(meter, semconv.PROM_TIME_TO_FIRST_TOKEN + "_sum", model="gpt-4o-mini") == 0.2


def test_unpriced_calls_are_counted_but_refused_ones_are_not():
    """A call without a price is an alert.

    A call the provider refused cost nothing and is a failed call only.
    """
    meter = CallMetrics()
    refused = call(usage=TokenUsage(status="missing", flags=("rejected",)), error=True)
    meter.record([(call(), UNPRICED), (refused, UNPRICED)], [])
    assert (
        value(
            meter,
            semconv.PROM_UNPRICED,
            provider="openai",
            model="gpt-4o-mini",
            reason="unknown_model",
        )
        == 1
    )
    assert (
        value(
            meter,
            semconv.PROM_CALLS,
            provider="openai",
            model="gpt-4o-mini",
            crew="news",
            operation="llm",
            status="error",
        )
        == 1
    )


def test_usage_that_nobody_knows_is_counted_by_its_path():
    """Each path has a series of its own; other flags and exact calls have none."""
    meter = CallMetrics()
    flags = ("unknown_usage:dreaming_tokens", "cache_ttl_assumed")
    unknown = [call(1, usage=TokenUsage(1, 1, flags=flags)), call(2)]
    meter.record([(each, UNPRICED) for each in unknown], [])
    found = {
        labels: number
        for (name, labels), number in samples(meter).items()
        if name == semconv.PROM_UNKNOWN_USAGE
    }
    assert found == {frozenset({("provider", "openai"), ("path", "dreaming_tokens")}): 1}


def test_runs_tools_agents_and_tasks_are_counted():
    """Steps feed the run, tool and duration series; an abandoned one has no duration."""
    meter = CallMetrics()
    meter.record(
        [],
        [
            step("crew", "news", is_run=True),
            step("tool", "search", error=True),
            step("agent", "Ada"),
            step("task", "t"),
            step("memory", "m"),
        ],
    )
    meter.record([], [step("crew", "news", is_run=True, abandoned=True)])
    meter.record_run_calls([("news", 12)])
    assert value(meter, semconv.PROM_RUNS, name="news", kind="crew", status="ok") == 1
    assert value(meter, semconv.PROM_RUNS, name="news", kind="crew", status="abandoned") == 1
    assert value(meter, semconv.PROM_TOOL_CALLS, tool="search", status="error") == 1
    for operation, name, status in (
        ("run", "news", "ok"),
        ("tool", "search", "error"),
        ("agent", "Ada", "ok"),
        ("task", "t", "ok"),
    ):
        assert (
            value(
                meter,
                semconv.PROM_DURATION + "_count",
                operation=operation,
                name=name,
                status=status,
            )
            == 1
        )
    assert (
        value(
            meter,
            semconv.PROM_DURATION + "_count",
            operation="run",
            name="news",
            status="abandoned",
        )
        is None
    )
    assert value(meter, semconv.PROM_RUN_CALLS + "_sum", name="news") == 12


def test_a_million_names_stay_a_few_hundred_series():
    """Labels past the bound become "other" and the sums stay exact."""
    meter = CallMetrics()
    meter.record(
        ((call(number, model=f"m{number}", crew=f"c{number}"), CHARGE) for number in range(20_000)),
        [],
    )
    found = samples(meter)
    assert len(found) < 5_000 * 4 + 1_000 * 22 * 2
    models = {dict(labels)["model"] for (name, labels) in found if name == semconv.PROM_CALLS}
    assert len(models) == 201
    assert (
        sum(amount for (name, _), amount in found.items() if name == semconv.PROM_CALLS) == 20_000
    )


def test_the_number_of_series_is_bounded_too():
    """Even where every label is bounded their product is not.

    Past the limit one series takes the rest.
    """
    series = CounterSeries("x_total", "", ("a", "b"), limit=10)
    for number in range(50):
        series.add((f"{number}", "y"), 1)
    values = {tuple(sample.labels.values()): sample.value for sample in series.family().samples}
    assert len(values) == 11
    assert values["other", "other"] == 40
    assert LabelValues(1, absent="none").of("") == "none"


def test_no_label_names_a_user():
    """Money per user is a question for SQL; a series per user would explode."""
    meter = CallMetrics()
    meter.record([(call(), CHARGE)], [step("crew", "news", is_run=True)])
    assert not any(
        "ada" in dict(labels).values() or "user" in dict(labels) for _, labels in samples(meter)
    )


def test_both_formats_parse_and_exemplars_carry_the_trace(metrics):
    """Prometheus' own parsers read the page in both formats.

    OpenMetrics has the trace behind a bucket.
    """
    metrics.meter.record([(call(5), CHARGE)], [])
    body, kind = metrics.page("text/plain")
    assert kind.startswith("text/plain")
    assert semconv.PROM_CALLS in {
        sample.name for family in plain(body.decode()) for sample in family.samples
    }
    body, kind = metrics.page(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    exemplars = [
        sample.exemplar
        for family in openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar
    ]
    assert {exemplar.labels["trace_id"] for exemplar in exemplars} == {f"{5:032x}"}


def test_every_name_of_the_contract_is_on_the_page(sidecar):
    """The boards and alerts are written against these names."""
    steps = {
        "crewmeter.kind": "crew",
        "gen_ai.operation.name": "invoke_workflow",
        "crewmeter.crew.name": "news",
    }
    sidecar.post(request(1, **{"gen_ai.response.time_to_first_chunk": 1}))
    sidecar.post(request(1, **{"gen_ai.request.model": "no-such-model-at-all"}))
    sidecar.post(
        request(spans=[(b"\7" * 16, b"\7" * 8)], **steps, **{"crewmeter.run.id": "07" * 8})
    )
    sidecar.post(
        request(
            1,
            **{
                "crewmeter.kind": "tool",
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "search",
            },
        )
    )
    families = {
        family.name for family in openmetrics(sidecar.get("/metrics", accept=OPENMETRICS).text)
    }
    names = {getattr(semconv, name) for name in dir(semconv) if name.startswith("PROM_")}
    assert {name.removesuffix("_total") for name in names} <= families
    assert sidecar.metric('crewmeter_runs_total{kind="crew",name="news",status="ok"}') == 1
    assert sidecar.metric('crewmeter_run_calls_count{name="news"}') == 1


def test_gauges_say_how_intake_and_ledger_are(sidecar):
    """Queue, capacity, file size, last commit."""
    sidecar.post(request(1))
    assert sidecar.metric("crewmeter_ingest_queue_spans") == 0
    assert sidecar.metric("crewmeter_ingest_queue_capacity_spans") == 32768
    assert sidecar.metric("crewmeter_ledger_size_bytes") > 4096
    assert sidecar.metric("crewmeter_ingest_last_span_timestamp_seconds") > 1_700_000_000
