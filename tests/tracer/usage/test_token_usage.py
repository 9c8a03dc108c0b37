"""Usage survives the trip through span attributes, and no input whatever makes the
readers raise.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewmeter import semconv
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.attributes import usage_attributes, usage_from_attributes
from crewmeter.usage.token_usage import TokenUsage

COUNTS = st.integers(0, 2**30)


@st.composite
def usages(draw):
    """Any usage the readers can make."""
    status = draw(st.sampled_from(["reported", "estimated", "reconciled"]))
    read, five, hour, rest = draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(st.integers(1, 2**30))
    output = draw(COUNTS)
    total = read + five + hour + rest
    return TokenUsage(
        input=total,
        output=output,
        cache_read=read,
        cache_write_5m=five,
        cache_write_1h=hour,
        reasoning=draw(st.integers(0, output)),
        input_audio=draw(st.integers(0, total)),
        output_image=draw(st.integers(0, output)),
        web_searches=draw(st.integers(0, 99)),
        search_units=draw(st.integers(0, 99)),
        status=status,
        flags=draw(
            st.sampled_from([(), ("cache_ttl_assumed",), ("stream_cut", "output_estimated")])
        ),
    )


@given(usages())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_usage_survives_span_attributes(usage):
    """`usage_from_attributes` is the inverse of `usage_attributes`, status and flags included."""
    assert usage_from_attributes(usage_attributes(usage)) == usage


@pytest.mark.parametrize(
    "usage",
    [
        TokenUsage(status="missing", flags=("rejected",)),
        TokenUsage(status="invalid", flags=("bad_count:x",)),
    ],
)
def test_what_is_not_known_stays_unknown(usage):
    """Missing and invalid usage put no token count on the span, and come back as they were."""
    attributes = usage_attributes(usage)
    assert semconv.INPUT_TOKENS not in attributes
    assert semconv.OUTPUT_TOKENS not in attributes
    assert usage_from_attributes(attributes) == usage


@pytest.mark.parametrize("name", [semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED])
def test_both_names_of_cache_writes_are_read(name):
    """The convention renamed cache_creation to cache_write.

    A foreign span with either is read, its TTL assumed.
    """
    usage = usage_from_attributes({semconv.INPUT_TOKENS: 100, semconv.OUTPUT_TOKENS: 5, name: 60})
    assert usage == TokenUsage(100, 5, cache_write_5m=60, flags=("cache_ttl_assumed",))


def test_an_embedding_span_needs_no_output():
    """Instrumentors put only the input on embedding spans.

    On a chat span a lone input is not a usage.
    """
    assert usage_from_attributes(
        {semconv.OPERATION: "embeddings", semconv.INPUT_TOKENS: 9}
    ) == TokenUsage(9, 0)
    assert (
        usage_from_attributes({semconv.OPERATION: "chat", semconv.INPUT_TOKENS: 9}).status
        == "missing"
    )


def test_a_foreign_span_with_parts_beyond_the_whole_is_invalid():
    """CrewAI's own Gemini spans say input 0 with cached tokens."""
    usage = usage_from_attributes(
        {semconv.INPUT_TOKENS: 0, semconv.OUTPUT_TOKENS: 5, semconv.CACHE_READ_TOKENS: 60}
    )
    assert (usage.status, usage.input) == ("invalid", None)


KEYS = st.sampled_from(
    """
        prompt_tokens completion_tokens total_tokens input_tokens output_tokens
    cached_prompt_tokens reasoning_tokens cached_tokens     cache_creation_tokens
    cache_read_input_tokens cache_creation_input_tokens cache_creation cache_write_tokens
    ephemeral_1h_input_tokens     prompt_tokens_details completion_tokens_details
    input_tokens_details output_tokens_details audio_tokens image_tokens     inputTokens
    outputTokens totalTokens cacheReadInputTokens cacheWriteInputTokens cacheDetails ttl
    promptTokenCount candidatesTokenCount thoughtsTokenCount totalTokenCount
    cachedContentTokenCount promptTokensDetails modality tokenCount     prompt_token_count
    candidates_token_count total_token_count billed_units search_units     prompt_eval_count
    eval_count citation_tokens num_search_queries cost
    """.split()  # noqa: SIM905 - a list literal of sixty names would fill two screens
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just("AUDIO"),
)
PARTS = st.dictionaries(KEYS, LEAVES, max_size=4)
VALUES = st.one_of(LEAVES, PARTS, st.lists(st.one_of(LEAVES, PARTS), max_size=2))
QUICK = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # one core may be shared


@given(
    st.dictionaries(KEYS, VALUES, max_size=8),
    st.sampled_from([None, "openai", "azure", "perplexity", "gemini", "voyageai"]),
)
@QUICK
def test_no_usage_whatever_makes_the_reader_raise(raw, provider):
    """Any mapping gives a usage whose buckets are disjoint and not negative, or one that says why
    there is none.
    """
    usage = read_usage(raw, provider=provider)
    if usage.status == "reported":
        assert usage.input is not None
        assert usage.output is not None
        assert usage.input - usage.cache_read - usage.cache_write_5m - usage.cache_write_1h >= 0
        assert (
            min(
                usage.cache_read,
                usage.cache_write_5m,
                usage.cache_write_1h,
                usage.output,
                usage.reasoning,
            )
            >= 0
        )
        assert usage.reasoning <= usage.output
    else:
        assert usage.status in ("missing", "invalid")
        assert usage.input is None
        assert usage.output is None
    assert usage_from_attributes(usage_attributes(usage)) == usage


NAMES = st.sampled_from(
    [value for name, value in vars(semconv).items() if "TOKENS" in name or name.startswith("USAGE")]
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
@QUICK
def test_no_attributes_whatever_make_the_reader_raise(attributes):
    """Attributes come off the network: whatever they hold, a usage comes out."""
    assert usage_from_attributes(attributes).status in (
        "reported",
        "missing",
        "invalid",
        "estimated",
        "reconciled",
    )
