"""A usage is exact only where everything in it was understood: right, or honest, never wrong."""

from __future__ import annotations

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewmeter.providers.registry import SHAPES
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import TokenUsage

# provider → usage as it was recorded, and the keys without which nothing is known
RECORDED: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "openai chat": (
        "openai",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 50},
            "completion_tokens_details": {
                "reasoning_tokens": 120,
                "audio_tokens": 10,
                "accepted_prediction_tokens": 5,
                "rejected_prediction_tokens": 7,
            },
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "openai responses": (
        "openai",
        {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 120},
            "total_tokens": 1300,
        },
        ("input_tokens", "output_tokens"),
    ),
    "openai images": (
        "openai",
        {
            "input_tokens": 50,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens": 1000,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 1000},
            "total_tokens": 1050,
        },
        ("input_tokens", "output_tokens"),
    ),
    "anthropic": (
        "anthropic",
        {
            "input_tokens": 100,
            "cache_creation_input_tokens": 500,
            "cache_read_input_tokens": 400,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
            "output_tokens": 300,
            "service_tier": "standard",
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
            "inference_geo": "global",
            "speed": "standard",
        },
        ("input_tokens", "output_tokens"),
    ),
    "gemini": (
        "gcp.gemini",
        {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 400,
            "candidatesTokenCount": 180,
            "thoughtsTokenCount": 120,
            "toolUsePromptTokenCount": 50,
            "totalTokenCount": 1350,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 900},
                {"modality": "AUDIO", "tokenCount": 100},
            ],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 400}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 180}],
            "trafficType": "ON_DEMAND",
        },
        ("promptTokenCount", "candidatesTokenCount"),
    ),
    "gemini interactions": (
        "gcp.gemini",
        {
            "total_input_tokens": 1000,
            "input_tokens_by_modality": [{"modality": "text", "tokens": 1000}],
            "total_cached_tokens": 400,
            "total_output_tokens": 180,
            "total_thought_tokens": 120,
            "total_tool_use_tokens": 50,
            "total_tokens": 1350,
        },
        ("total_input_tokens", "total_output_tokens"),
    ),
    "bedrock": (
        "aws.bedrock",
        {
            "inputTokens": 100,
            "outputTokens": 300,
            "totalTokens": 1300,
            "cacheReadInputTokens": 400,
            "cacheWriteInputTokens": 500,
            "cacheDetails": [
                {"ttl": "5m", "inputTokens": 200},
                {"ttl": "1h", "inputTokens": 300},
            ],
        },
        ("inputTokens", "outputTokens"),
    ),
    "cohere": (
        "cohere",
        {
            "billed_units": {"input_tokens": 100, "output_tokens": 30},
            "tokens": {"input_tokens": 120, "output_tokens": 32},
        },
        (),
    ),
    "xai": (
        "x_ai",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 180,
            "total_tokens": 1300,
            "prompt_tokens_details": {"text_tokens": 1000, "cached_tokens": 400, "image_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 120},
            "num_sources_used": 3,
            "server_side_tool_usage_details": {"web_search_calls": 2, "x_search_calls": 1},
            "cost_in_usd_ticks": 37756000,
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "deepseek": (
        "deepseek",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_cache_hit_tokens": 400,
            "prompt_cache_miss_tokens": 600,
            "completion_tokens_details": {"reasoning_tokens": 120},
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "groq": (
        "groq",
        {
            "queue_time": 0.01,
            "prompt_tokens": 1000,
            "prompt_time": 0.02,
            "completion_tokens": 300,
            "completion_time": 0.1,
            "total_tokens": 1300,
            "total_time": 0.12,
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "openrouter": (
        "openrouter",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cost": 0.0123,
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0, "video_tokens": 0},
            "cost_details": {
                "upstream_inference_cost": None,
                "upstream_inference_prompt_cost": 0.01,
                "upstream_inference_completions_cost": 0.0023,
            },
            "completion_tokens_details": {"reasoning_tokens": 120, "image_tokens": 0},
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "perplexity": (
        "perplexity",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "search_context_size": "low",
            "citation_tokens": 40,
            "num_search_queries": 2,
            "cost": {"input_tokens_cost": 0.001, "total_cost": 0.009},
        },
        ("prompt_tokens", "completion_tokens"),
    ),
    "ollama": ("ollama", {"prompt_eval_count": 100, "eval_count": 30}, ("eval_count",)),
    "watsonx": (
        "ibm.watsonx.ai",
        {"input_token_count": 100, "generated_token_count": 30},
        ("input_token_count",),
    ),
}
NAMES = sorted(RECORDED)
EXTRAS = (7, 0.25, "fast", {"tokens": 3}, [{"tokens": 3}], True, 2**70, -5)
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def objects(usage: dict[str, object], above: tuple[object, ...] = ()):
    """Yield the path to every JSON object in ``usage``, the whole one first."""
    yield above
    for key, value in usage.items():
        if isinstance(value, dict):
            yield from objects(value, (*above, key))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    yield from objects(item, (*above, key, number))


def counts(usage: dict[str, object]):
    """Yield the path to every number above zero."""
    for path in objects(usage):
        for key, value in at(usage, path).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value:
                yield (*path, key)


def at(usage, path):
    for key in path:
        usage = usage[key]
    return usage


def says_something(value) -> bool:
    """Tell whether a value has anything but zeros in it."""
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return any(says_something(item) for item in inside)
    return bool(value)


def is_exact(usage: TokenUsage) -> bool:
    """Tell whether a charge of this usage would be called exact."""
    doubts = ("unknown_usage:", "cached_not_reported", "cache_ttl_assumed")
    doubtful = any(flag.startswith(doubts) for flag in usage.flags)
    return usage.status == "reported" and not doubtful


def is_same_bill(usage: TokenUsage, other: TokenUsage) -> bool:
    """Tell whether two usages are billed alike; ``reasoning`` is information only."""
    names = [name for name in TokenUsage.__slots__ if name not in ("flags", "reasoning", "status")]
    return all(getattr(usage, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_usage_is_understood(name):
    """What providers send today is exact, all of it."""
    provider, usage, _ = RECORDED[name]
    assert is_exact(read_usage(usage, provider=provider))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extra", EXTRAS, ids=str)
def test_one_extra_key_anywhere_makes_a_usage_inexact(name, extra):
    """A key that no reader knows may cost money, whatever object it stands in and type it has."""
    provider, usage, _ = RECORDED[name]
    for path in objects(usage):
        changed = copy.deepcopy(usage)
        at(changed, path)["brand_new_thing"] = extra
        read = read_usage(changed, provider=provider)
        inside = [str(key) for key in path if isinstance(key, str)]
        expected = "unknown_usage:" + ".".join([*inside, "brand_new_thing"])
        # Inside an object whose meaning is known as a whole, nothing can matter.
        is_opaque = path and path[0] in ("cost", "cost_details", "tokens")
        assert expected in read.flags or is_opaque, path
        if not is_opaque:
            assert not is_exact(read)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nothing", [0, 0.0, None, "", {}, [], {"tokens": 0}, False], ids=str)
def test_an_unknown_key_without_a_value_changes_nothing(name, nothing):
    """Providers announce new counters at zero; nothing was used of them."""
    provider, usage, _ = RECORDED[name]
    changed = {**usage, "brand_new_thing": nothing}
    assert read_usage(changed, provider=provider) == read_usage(usage, provider=provider)


@pytest.mark.parametrize("name", NAMES)
def test_a_renamed_count_is_never_taken_for_zero(name):
    """A provider that renames a key gets an inexact charge, or none."""
    provider, usage, _ = RECORDED[name]
    right = read_usage(usage, provider=provider)
    for path in counts(usage):
        changed = copy.deepcopy(usage)
        holder = at(changed, path[:-1])
        holder["renamed_" + str(path[-1])] = holder.pop(path[-1])
        read = read_usage(changed, provider=provider)
        assert not is_exact(read) or is_same_bill(read, right), path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["dropped", "zero"])
def test_a_count_that_is_missing_is_found_or_said_to_be_missing(name, value):
    """Without one of the two counts the total tells, or the usage is not exact."""
    provider, usage, essential = RECORDED[name]
    right = read_usage(usage, provider=provider)
    for key in essential:
        changed = {other: count for other, count in usage.items() if other != key}
        if value == "zero":
            changed[key] = 0
        read = read_usage(changed, provider=provider)
        may_be_nothing = "total" not in " ".join(usage).lower()  # zero is the provider's own word
        honest = not is_exact(read) or is_same_bill(read, right)
        assert honest or (value == "zero" and may_be_nothing), key


@pytest.mark.parametrize("name", [n for n in NAMES if "total" in " ".join(RECORDED[n][1]).lower()])
def test_a_doubled_count_contradicts_the_total(name):
    """Where there is a total, parts that do not add up to it are not exact."""
    provider, usage, essential = RECORDED[name]
    total = next(
        key
        for key in usage
        if ("total" in key.lower() and "tokens" in key.lower()) or key == "totalTokenCount"
    )
    for key in (*essential, total):
        read = read_usage({**usage, key: usage[key] * 2}, provider=provider)
        assert not is_exact(read), key


def test_a_total_that_adds_cached_tokens_is_not_exact():
    """They stand inside the prompt: a total with them beside it contradicts the counts."""
    provider, usage, _ = RECORDED["openai chat"]
    changed = {**usage, "total_tokens": 1000 + 300 + 400}
    assert "unknown_usage:total_tokens" in read_usage(changed, provider=provider).flags


@st.composite
def mutations(draw):
    """A recorded usage with up to three changes: dropped, renamed, zeroed, doubled, added."""
    name = draw(st.sampled_from(NAMES))
    provider, usage, _ = RECORDED[name]
    changed = copy.deepcopy(usage)
    has_unknown = False
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(objects(changed), key=str)))
        holder = at(changed, path)
        if not holder or not isinstance(holder, dict):
            continue
        key = draw(st.sampled_from(sorted(holder)))
        kind = draw(st.sampled_from(["drop", "rename", "zero", "double", "add"]))
        value = holder[key]
        is_count = isinstance(value, int | float) and not isinstance(value, bool)
        if kind == "drop":
            del holder[key]
        elif kind == "rename":
            holder[f"new_{key}"] = holder.pop(key)
        elif kind == "zero":
            holder[key] = 0
        elif kind == "double" and is_count:
            holder[key] = value * 2
        else:
            holder[draw(st.text(min_size=1, max_size=8)) + "_zz"] = draw(st.integers(1, 10**6))
    for path in objects(changed):
        opaque = path and path[0] in ("cost", "cost_details", "tokens")
        keys = at(changed, path).items()
        has_unknown |= not opaque and any(
            (str(k).startswith("new_") or str(k).endswith("_zz")) and says_something(v)
            for k, v in keys
        )
    return provider, changed, has_unknown


@given(mutations())
@QUICK
def test_a_changed_usage_is_right_or_honest(case):
    """Whatever becomes of a usage: an unknown part is flagged, and totals are never exceeded."""
    provider, changed, has_unknown = case
    read = read_usage(changed, provider=provider)
    if has_unknown:
        assert not is_exact(read)
    if not is_exact(read):
        return
    total = next(
        (changed[k] for k in ("total_tokens", "totalTokenCount", "totalTokens") if changed.get(k)),
        None,
    )
    if total is not None:
        assert (read.input or 0) + (read.output or 0) == total


def test_every_shape_names_its_known_keys():
    """No shape is read without a list of what is known of it."""
    for shape in SHAPES:
        assert shape.requires in shape.known.names
        assert shape.any_of <= shape.known.names
