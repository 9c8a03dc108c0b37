"""The one frame we read ahead in async Bedrock streams.

Bounded, delivered in its turn, and harmless when it doesn't come.
"""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from crewmeter.http.clients.botocore import _afollow_frames
from crewmeter.http.http_call import HttpExchange, HttpObserver
from crewmeter.http.response_body import BodyObserver
from crewmeter.http.stream_parsers import EVENT_STREAM
from crewmeter.providers.protocols.bedrock import BEDROCK

USAGE = {
    "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
    "metrics": {"latencyMs": 1},
}


def _frame(kind, body):
    return SimpleNamespace(headers={":event-type": kind}, payload=json.dumps(body).encode())


async def _answer(pause):
    yield _frame("contentBlockDelta", {"delta": {"text": "hello"}})
    yield _frame("messageStop", {"stopReason": "end_turn"})
    await asyncio.sleep(pause)
    yield _frame("metadata", USAGE)


def _observer():
    closed = []
    observer = HttpObserver(opened=lambda _: None, closed=closed.append)
    exchange = HttpExchange(
        operation="chat",
        protocol=BEDROCK,
        provider="aws.bedrock",
        host=None,
        port=None,
        request_model="m",
    )
    return BodyObserver(observer, exchange, content_type=EVENT_STREAM, request=lambda: b""), closed


def test_a_reader_that_leaves_at_the_stop_still_gives_exact_usage():
    """CrewAI's async client leaves before the usage comes; it is known all the same."""
    body_observer, closed = _observer()

    async def run():
        async for frame in _afollow_frames(_answer(0.05), body_observer):
            if frame.headers[":event-type"] == "messageStop":
                break

    asyncio.run(run())
    assert (closed[0].usage.input, closed[0].usage.output, closed[0].usage.status) == (
        10,
        5,
        "reported",
    )


def test_who_reads_on_gets_every_frame_in_its_turn():
    """The frame looked at ahead is handed on after the stop, once."""
    body_observer, closed = _observer()

    async def run():
        return [
            frame.headers[":event-type"]
            async for frame in _afollow_frames(_answer(0), body_observer)
        ]

    assert asyncio.run(run()) == ["contentBlockDelta", "messageStop", "metadata"]
    assert len(closed) == 1


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_frame_that_does_not_come_holds_the_answer_up_half_a_second_at_most(reads_on):
    """The stop is handed on after the bound; the late usage is still taken by whoever reads on."""
    body_observer, closed = _observer()

    async def run():
        kinds, started, waited = [], time.monotonic(), None
        async for frame in _afollow_frames(_answer(3.0), body_observer):
            kinds.append(frame.headers[":event-type"])
            if kinds[-1] == "messageStop":
                waited = time.monotonic() - started
                if not reads_on:
                    break
        return kinds, waited

    kinds, waited = asyncio.run(run())
    assert waited < 2.5
    if reads_on:
        assert kinds[-1] == "metadata"
        assert closed[0].usage.input == 10
    else:
        assert body_observer.exchange.done
        assert body_observer.exchange.usage.status in ("estimated", "missing")
