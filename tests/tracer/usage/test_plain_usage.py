"""The short way to read plain usage gives what the protocol's own reader gives, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewmeter.providers.protocols.openai_chat import OPENAI_CHAT
from crewmeter.providers.protocols.openai_responses import OPENAI_RESPONSES
from crewmeter.providers.unknown_usage import unknown_paths
from crewmeter.usage.draft import BadCount

CHAT = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
RESPONSES = ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
COUNTS = st.one_of(
    st.integers(0, 3000),
    st.integers(-3, 2**41),
    st.sampled_from([None, True, 7.0, "12", {}, []]),
)
PROVIDERS = (None, "openai", "perplexity", "gcp.gemini", "azure.ai.openai", "x_ai")


def details(*names: str) -> st.SearchStrategy[object]:
    """Objects with some of the names, and what else a provider may send there."""
    return st.one_of(
        st.dictionaries(st.sampled_from([*names, "audio_tokens", "unheard_of"]), COUNTS),
        st.sampled_from([None, 3, "x"]),
    )


@st.composite
def usages(draw, keys=CHAT):
    """Usage objects near the plain form, many of them plain."""
    total_in = draw(st.integers(0, 3000))
    total_out = draw(st.integers(0, 3000))
    raw = {
        keys[0]: total_in,
        keys[1]: total_out,
        "total_tokens": total_in + total_out,
        keys[2]: {"cached_tokens": draw(st.integers(0, 3000)), "audio_tokens": 0},
        keys[3]: {"reasoning_tokens": draw(st.integers(0, 3000))},
    }
    for key in draw(st.lists(st.sampled_from([*keys[:2], "total_tokens"]), max_size=1)):
        raw[key] = draw(COUNTS)
    for key, names in ((keys[2], "cached_tokens"), (keys[3], "reasoning_tokens")):
        if draw(st.booleans()):
            raw[key] = draw(details(names))
    if draw(st.booleans()):
        raw.pop(draw(st.sampled_from(sorted(raw))))
    if not draw(st.integers(0, 5)):
        raw[draw(st.sampled_from(["cost", "service_tier", "surprise_tokens"]))] = draw(COUNTS)
    return raw


@pytest.mark.parametrize(("protocol", "keys"), [(OPENAI_CHAT, CHAT), (OPENAI_RESPONSES, RESPONSES)])
def test_the_short_way_gives_what_the_whole_reading_gives(protocol, keys):
    """Whatever is read the short way is the same usage, with nothing unknown in it."""
    (shape,) = protocol.shapes
    seen = {"plain": 0}

    @settings(max_examples=400, deadline=None)
    @given(raw=usages(keys), provider=st.sampled_from(PROVIDERS))
    def compare(raw, provider):
        plain = shape.read_plain(raw)
        if plain is None:
            return
        seen["plain"] += 1
        try:
            whole = shape.read(raw, provider).finish(None)
        except BadCount as bad:
            pytest.fail(f"{raw} has a bad count: {bad}")
        assert plain == whole
        assert unknown_paths(raw, shape.known) == ()

    compare()
    assert seen["plain"] > 5


@pytest.mark.parametrize(
    "change",
    [
        {"total_tokens": 1011},
        {"cost": 0.1},
        {"prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 1}},
        {"prompt_tokens_details": {"cached_tokens": 1001}},
        {"completion_tokens_details": {"reasoning_tokens": 11}},
        {"completion_tokens_details": {"surprise_tokens": 1}},
        {"prompt_tokens": 1000.0},
        {"prompt_tokens": -1},
    ],
)
def test_what_is_not_plain_is_left_to_the_whole_reading(change):
    """A total that differs, a cost, audio, too large a part, a key nobody knows."""
    (shape,) = OPENAI_CHAT.shapes
    raw = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert shape.read_plain(raw).cache_read == 400
    assert shape.read_plain({**raw, **change}) is None
