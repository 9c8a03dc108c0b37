"""crewmeter's own dialect, and the values every dialect reads."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crewmeter import semconv
from crewmeter.usage.attributes import (
    OWN_COUNTS,
    plain_usage_from_attributes,
    usage_attributes,
    usage_from_attributes,
)
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.errors import CorruptBody, TooLarge, UnknownEncoding
from crewmeter_cost.intake import coerce
from crewmeter_cost.intake.classify import read
from crewmeter_cost.intake.compression import opened
from crewmeter_cost.intake.sdk_spans import span_of
from crewmeter_cost.intake.span_dedup import paired
from crewmeter_cost.records import Call, Span, Step


def span(attributes: dict[str, object], *, scope: str = semconv.SCOPE, **fields: object) -> Span:
    """A finished span of crewmeter's tracer."""
    known = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_span_id": "c" * 16,
        "name": "span",
        "started_ns": 1,
        "ended_ns": 2,
        "error": False,
    }
    return Span(
        **(known | fields),
        attributes=attributes,
        resource={"service.name": "svc", "deployment.environment": "prod"},
        scope=scope,
    )


CONTEXT = {
    semconv.RUN_ID: "d" * 16,
    semconv.RUN_KIND: "crew",
    semconv.RUN_NAME: "news",
    semconv.CREW: "news",
    semconv.TASK: "write",
    semconv.AGENT_NAME: "Ada",
    semconv.USER: "u1",
    semconv.TEAM: "t1",
    semconv.SESSION: "s1",
    semconv.TAG_PREFIX + "env": "prod",
    semconv.TAG_PREFIX + "a": 1,
}


def test_a_billed_span_is_a_call_with_everything_on_it():
    """The ledger never needs a parent: price and context stand on the span itself."""
    call = read(
        span(
            CONTEXT
            | {
                semconv.OPERATION: "chat",
                semconv.PROVIDER: "openai",
                semconv.SERVER_ADDRESS: "api.openai.com",
                semconv.REQUEST_MODEL: "gpt-5",
                semconv.RESPONSE_MODEL: "gpt-5-2026",
                semconv.RESPONSE_ID: "r1",
                semconv.FINISH_REASONS: ("length",),
                semconv.INPUT_TOKENS: 10,
                semconv.OUTPUT_TOKENS: 2,
                semconv.TIME_TO_FIRST_TOKEN: 0.25,
                semconv.REPORTED_COST_USD: "0.001",
                semconv.CALL_ORIGIN: "wire",
                semconv.KIND: semconv.KIND_LLM,
            }
        )
    )
    assert isinstance(call, Call)
    assert (
        call.provider,
        call.host,
        call.request_model,
        call.response_model,
        call.response_id,
    ) == (
        "openai",
        "api.openai.com",
        "gpt-5",
        "gpt-5-2026",
        "r1",
    )
    assert (
        call.finish_reason,
        call.time_to_first_token_ns,
        call.reported_cost_usd,
        call.origin,
    ) == (
        "length",
        250_000_000,
        "0.001",
        "wire",
    )
    assert call.usage == TokenUsage(input=10, output=2)
    assert call.context.tags == (("a", "1"), ("env", "prod"))
    assert (
        call.context.run_id,
        call.context.crew,
        call.context.user,
        call.context.service,
        call.context.environment,
    ) == (
        "d" * 16,
        "news",
        "u1",
        "svc",
        "prod",
    )


@pytest.mark.parametrize(
    ("kind", "attributes", "name"),
    [
        ("crew", {semconv.CREW: "news"}, "news"),
        ("flow", {semconv.FLOW: "pipeline"}, "pipeline"),
        ("task", {semconv.TASK: "write"}, "write"),
        ("agent", {semconv.AGENT_NAME: "Ada"}, "Ada"),
        (
            "tool",
            {
                semconv.TOOL_NAME: "search",
                semconv.CACHED_RESULT: True,
                semconv.ATTEMPTS: 2,
                semconv.TOOL_FAILURE: "gave up",
            },
            "search",
        ),
        ("memory", {}, "span"),
    ],
)
def test_other_spans_are_steps_by_kind(kind, attributes, name):
    """Every node of the tree has its kind and its name."""
    step = read(span(attributes | {semconv.KIND: kind}))
    assert isinstance(step, Step)
    assert (step.kind, step.name) == (kind, name)
    if kind == "tool":
        assert step.details == {"cached": True, "attempts": 2, "failure": "gave up"}


def test_the_span_that_is_its_own_run_is_the_root():
    """A run's id is the span id of its root."""
    assert read(span({semconv.KIND: "crew", semconv.RUN_ID: "b" * 16})).is_run
    assert not read(span({semconv.KIND: "crew", semconv.RUN_ID: "d" * 16})).is_run
    assert read(span({"http.method": "GET"}, scope="somebody")) is None
    assert read(span({})) is None


_count = st.none() | st.integers(-3, 2000) | st.sampled_from([2**41, True, 1.5, "12", "x"])


@given(
    st.fixed_dictionaries(
        dict.fromkeys(
            (
                semconv.INPUT_TOKENS,
                semconv.OUTPUT_TOKENS,
                semconv.CACHE_READ_TOKENS,
                semconv.CACHE_WRITE_TOKENS,
                semconv.CACHE_WRITE_1H_TOKENS,
            ),
            _count,
        )
    ),
    st.sampled_from(["chat", "embeddings"]),
)
@example(
    {semconv.INPUT_TOKENS: 0, semconv.OUTPUT_TOKENS: 0, semconv.CACHE_WRITE_1H_TOKENS: 1}, "chat"
)
@settings(max_examples=300, deadline=None)
def test_the_quick_reader_agrees_with_the_tracers(attributes, operation):
    """Sidecar and tracer read the same numbers off a span, or the same doubt."""
    stored = {key: value for key, value in attributes.items() if value is not None} | {
        semconv.OPERATION: operation
    }
    ours, theirs = (
        usage_from_attributes(stored, operation, OWN_COUNTS),
        usage_from_attributes(stored),
    )
    assert plain_usage_from_attributes(stored, operation) == ours
    whole = all(type(value) is int for key, value in stored.items() if key != semconv.OPERATION)
    if whole:
        assert ours.status == theirs.status
        assert (ours.input, ours.output) == (theirs.input, theirs.output)
        if ours.status == "reported":
            assert (ours.cache_read, ours.cache_write_5m, ours.cache_write_1h) == (
                theirs.cache_read,
                theirs.cache_write_5m,
                theirs.cache_write_1h,
            )


def test_what_the_tracer_writes_is_read_back():
    """`usage_attributes` and the dialect are inverse."""
    usage = TokenUsage(
        input=100,
        output=20,
        cache_read=10,
        cache_write_5m=5,
        cache_write_1h=7,
        reasoning=3,
        web_searches=2,
    )
    assert usage_from_attributes(usage_attributes(usage), "chat", OWN_COUNTS) == usage


def test_anthropic_counts_beside_the_input_are_added():
    """Anthropic's input leaves the cache out.

    Where an instrumentor passes that on, the parts are put together.
    """
    attributes = {
        "gen_ai.system": "anthropic",
        semconv.INPUT_TOKENS: 10,
        semconv.OUTPUT_TOKENS: 1,
        semconv.CACHE_READ_TOKENS: 500,
    }
    assert usage_from_attributes(attributes, "chat").input == 510
    assert (
        usage_from_attributes(attributes | {"gen_ai.system": "openai"}, "chat").status == "invalid"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"),
        ("", None),
        (None, None),
        (7, "7"),
        (True, "True"),
        ([1], None),
        ("a\x00b\n", "a b"),
        ("y" * 300, "y" * 255 + "…"),
        ("\ud800", None),
    ],
)
def test_text_is_clean_and_bounded(value, expected):
    """What a database or a terminal would choke on never gets in."""
    assert coerce.text(value) == expected


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.text(), max_size=2)
)
@settings(deadline=None)
def test_values_never_raise(value):
    """Any value is read or is unknown."""
    for reader in (
        coerce.text,
        coerce.first_text,
        coerce.whole,
        coerce.nanoseconds,
        coerce.decimal_text,
    ):
        reader(value)
    amount = coerce.decimal_text(value)
    assert amount is None or Decimal(amount) >= 0


def test_amounts_are_exact_decimals():
    """No float noise, no exponents, no nonsense."""
    assert [
        coerce.decimal_text(value) for value in ("0.10", 1e-05, 3, "nan", -1, "1e99", True, "x")
    ] == [
        "0.10",
        "0.00001",
        "3",
        None,
        None,
        None,
        None,
        None,
    ]
    assert [coerce.whole(value) for value in (3, 3.0, "3", 3.5, "3.5", True, None)] == [
        3,
        3,
        3,
        None,
        None,
        None,
        None,
    ]
    assert [coerce.nanoseconds(value) for value in (0.5, -1, float("inf"), True, 10**9)] == [
        500_000_000,
        None,
        None,
        None,
        None,
    ]


def test_a_body_opens_within_its_limit():
    """Exactly the limit opens, one byte more does not."""
    import gzip

    assert opened(gzip.compress(b"x" * 100), "gzip", limit=100) == b"x" * 100
    for body, encoding in ((gzip.compress(b"x" * 101), "gzip"), (b"x" * 101, "")):
        with pytest.raises(TooLarge):
            opened(body, encoding, limit=100)
    with pytest.raises(CorruptBody):
        opened(b"junk", "zstd", limit=100)
    with pytest.raises(UnknownEncoding):
        opened(b"junk", "br", limit=100)


def test_an_sdk_span_is_read_without_bytes():
    """The embedded ledger reads the SDK's own objects; a span without ids is none."""
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    tracer = TracerProvider().get_tracer("crewmeter")
    with tracer.start_as_current_span("chat m", attributes={semconv.OPERATION: "chat"}) as made:
        pass
    found = span_of(made)
    assert found.trace_id == format(made.get_span_context().trace_id, "032x")
    assert found.parent_span_id is None
    assert read(found).operation == "chat"
    assert span_of(ReadableSpan(name="none")) is None


def test_nested_reports_of_one_embedding_share_an_id():
    """Two instrumentors round one embedding call, which has no id: both reports get one.

    Two calls of one instrumentor do not.
    """
    facts = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "e",
        "gen_ai.usage.input_tokens": 8,
    }
    outer = read(span(facts, scope="one", span_id="1" * 16, parent_span_id="9" * 16))
    inner = read(span(facts, scope="two", span_id="2" * 16, parent_span_id="1" * 16))
    other = read(span(facts, scope="one", span_id="3" * 16, parent_span_id="9" * 16))
    ids = [call.response_id for call in paired([inner, other, outer])]
    assert ids[0] == ids[2] is not None
    assert ids[1] is None


def test_reading_is_quick():
    """A generous bound: the sidecar's numbers need a tenth of it."""
    one = span(
        CONTEXT | {semconv.OPERATION: "chat", semconv.INPUT_TOKENS: 1, semconv.OUTPUT_TOKENS: 1}
    )
    began = time.thread_time()
    for _ in range(2_000):
        read(one)
    assert (time.thread_time() - began) / 2_000 < 150e-6


@pytest.mark.slow
def test_names_of_any_size_and_number_are_not_hoarded():
    """What is remembered to be quick stays small, whatever is sent.

    Long names, many tags, ever new names.
    """
    import tracemalloc

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(3_000):
        tags = {f"{semconv.TAG_PREFIX}{number}-{tag}": "v" * 200 for tag in range(40)}
        context = read(
            span(
                {
                    semconv.KIND: "task",
                    semconv.CREW: "c" * 50_000 + str(number),
                    semconv.USER: str(number),
                }
                | tags
            )
        ).context
        assert len(context.crew) == 256
        assert len(context.tags) == 32
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20 << 20
