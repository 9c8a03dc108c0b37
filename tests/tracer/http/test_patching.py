"""The seam itself.

It comes off without a trace, never shows, counts nested clients once, and costs next to nothing
elsewhere.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import weakref

import aiobotocore.client
import aiohttp
import botocore.client
import httpx
import pytest
import requests
from support.canned_http import canned
from support.http_recording import Recorder, call, llm, recording

from crewmeter.http import fault_guard, observation

BODY = json.dumps(
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
).encode()
ASK = b'{"model": "gpt-4o", "messages": []}'
PATH = "/v1/chat/completions"


def functions():
    """Every function the seam replaces."""
    return [
        httpx.Client.__dict__["send"],
        httpx.AsyncClient.__dict__["send"],
        requests.Session.__dict__["send"],
        aiohttp.ClientSession.__dict__["_request"],
        botocore.client.BaseClient.__dict__["_make_api_call"],
        aiobotocore.client.AioBaseClient.__dict__["_make_api_call"],
    ]


def test_uninstalling_puts_the_very_same_functions_back():
    """After uninstall each library holds the same function objects as before."""
    before = functions()
    with recording():
        during = functions()
        assert all(ours is not theirs for ours, theirs in zip(during, before, strict=True))
        assert [f.__name__ for f in during] == [f.__name__ for f in before]
    assert all(after is theirs for after, theirs in zip(functions(), before, strict=True))


def test_a_library_imported_later_is_watched_from_the_next_look(monkeypatch):
    """What is not imported yet at install is patched at the next look."""
    import sys

    monkeypatch.delitem(sys.modules, "requests")
    original = requests.Session.__dict__["send"]
    with recording():
        assert requests.Session.__dict__["send"] is original
        monkeypatch.setitem(sys.modules, "requests", requests)
        observation.look_again()
        assert requests.Session.__dict__["send"] is not original
    assert requests.Session.__dict__["send"] is original


def test_a_wrapper_put_on_ours_survives_our_uninstall():
    """Somebody who wrapped our wrapper keeps theirs.

    Ours under it passes through and sees nothing more.
    """
    original = httpx.Client.__dict__["send"]
    recorder = Recorder()
    uninstall = observation.install(opened=recorder.opened.append, closed=recorder.closed.append)
    ours = httpx.Client.send
    calls = []

    def theirs(self, request, **kwargs):
        calls.append(request.url.path)
        return ours(self, request, **kwargs)

    httpx.Client.send = theirs
    try:
        uninstall()
        assert httpx.Client.send is theirs
        with canned(BODY) as server, httpx.Client() as client:
            assert client.post(server.url + PATH, content=ASK).content == BODY
        assert calls == [PATH]
        assert recorder.opened == []
    finally:
        httpx.Client.send = original


def test_two_installations_each_see_the_exchange_once():
    """Installed twice, each listener hears of each exchange once."""
    with recording() as outer, recording() as inner:
        with canned(BODY) as server, httpx.Client() as client:
            client.post(server.url + PATH, content=ASK)
        assert (len(outer.closed), len(inner.closed)) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_listener_that_raises_is_never_felt(caplog, monkeypatch, stream):
    """Whatever our own code raises, the host's call goes on.

    The log names type and line, at most once a minute.
    """

    def explode(_):
        raise RuntimeError("secret prompt")

    monkeypatch.setattr(fault_guard, "_last_logged_ns", -(10**12))
    uninstall = observation.install(opened=explode, closed=explode)
    try:
        with (
            caplog.at_level(logging.WARNING, "crewmeter"),
            canned(BODY) as server,
            httpx.Client() as client,
        ):
            for _ in range(3):
                with client.stream("POST", server.url + PATH, content=ASK) as response:
                    assert response.read() == BODY
    finally:
        uninstall()
    assert len(caplog.records) == 1
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_an_interrupted_request_raises_as_before_and_ends_its_exchange(seen):
    """A KeyboardInterrupt or cancellation inside a request is the host's.

    The exchange may have been billed.
    """

    class Interrupted(httpx.BaseTransport):
        def handle_request(self, request):
            raise KeyboardInterrupt

    with httpx.Client(transport=Interrupted()) as client, pytest.raises(KeyboardInterrupt):
        client.post("http://x.test" + PATH, content=ASK)
    assert (seen.closed[0].error_type, seen.closed[0].usage.flags) == (
        "KeyboardInterrupt",
        ("may_be_billed",),
    )


def test_a_cancelled_task_ends_its_exchange(seen):
    """A request cancelled by a timeout may have been billed."""

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            await asyncio.sleep(30)

    async def run():
        async with httpx.AsyncClient(transport=Slow()) as client:
            await asyncio.wait_for(client.post("http://x.test" + PATH, content=ASK), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert (seen.closed[0].error_type, seen.closed[0].usage.flags) == (
        "CancelledError",
        ("may_be_billed",),
    )


def test_httpx_over_aiohttp_is_one_exchange(seen):
    """LiteLLM's async httpx client sends through aiohttp: the upper half is the exchange."""
    transport = pytest.importorskip("litellm.llms.custom_httpx.aiohttp_transport")

    async def run(url):
        session = aiohttp.ClientSession()
        async with httpx.AsyncClient(
            transport=transport.LiteLLMAiohttpTransport(client=session)
        ) as client:
            await client.post(url, content=ASK)
        await session.close()

    with canned(BODY) as server:
        asyncio.run(run(server.url + PATH))
    assert len(seen.opened) == len(seen.closed) == 1
    assert seen.closed[0].usage.input == 3


def test_a_redirected_request_is_one_exchange(seen):
    """Requests follows a redirect by sending again; it is still one call to the model."""
    with (
        canned(BODY) as there,
        canned(status=307, location=there.url + PATH) as here,
        requests.Session() as session,
    ):
        assert session.post(here.url + PATH, data=ASK).content == BODY
    assert len(seen.closed) == 1


def test_a_model_called_by_an_interceptor_is_an_exchange_of_its_own(seen):
    """CrewAI's interceptors run inside a request; a guard model they ask is billed too."""
    with canned(BODY) as server, httpx.Client() as guard:

        def ask_guard(_request):
            guard.post(server.url + PATH, content=ASK)

        with httpx.Client(event_hooks={"request": [ask_guard]}) as client:
            client.post(server.url + PATH, content=ASK)
    assert len(seen.closed) == 2


def test_an_interceptor_sees_and_is_seen(server, seen):
    """CrewAI's transport interceptors work as before with the seam on."""
    from crewai.llms.hooks import BaseInterceptor

    class Marks(BaseInterceptor[httpx.Request, httpx.Response]):
        def on_outbound(self, message):
            message.headers["x-mark"] = "1"
            return message

        def on_inbound(self, message):
            return message

    call(llm("openai", server, interceptor=Marks()), "hello", way="sync")
    assert len(seen.paid) == len(server.billing_log.billed) == 1


@pytest.mark.filterwarnings("ignore:Exception ignored")  # the socket nobody closes is the point
def test_an_answer_left_unread_holds_nothing_and_is_announced_later(seen):
    """A streamed answer nobody reads is freed as ever; its end is announced at the next look."""
    with canned(b"data: {}\n\n", content_type="text/event-stream") as server:
        session = requests.Session()
        response = session.post(server.url + PATH, data=ASK, stream=True)
        chunks = response.iter_content(10)
        next(chunks)
        alive = weakref.ref(response)
        del chunks, response
        gc.collect()
        assert alive() is None
        observation.announce_late()
        session.close()
    assert len(seen.closed) == 1
    assert seen.closed[0].usage.status in ("estimated", "missing")


def test_the_response_is_left_as_it_was(seen):
    """Once its body has ended a response has no attribute of ours."""
    with (
        canned(b"data: [DONE]\n\n", content_type="text/event-stream") as server,
        httpx.Client() as client,
    ):
        with client.stream("POST", server.url + PATH, content=ASK) as response:
            assert b"".join(response.iter_bytes()) == b"data: [DONE]\n\n"
        assert not {"iter_bytes", "aiter_bytes", "close", "aclose"} & set(vars(response))


def test_nothing_of_a_prompt_or_key_is_retained(seen):
    """An exchange holds names and numbers.

    No field of it has a word of the prompt, the answer or the key.
    """
    body = {
        "id": "c",
        "choices": [{"message": {"content": "canary-answer"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "canary-prompt"}]}
    with (
        canned(json.dumps(body).encode()) as server,
        httpx.Client(headers={"authorization": "Bearer canary-key"}) as client,
    ):
        client.post(server.url + PATH, json=ask)
    (exchange,) = seen.closed
    assert "canary" not in repr(
        [getattr(exchange, name) for name in observation.HttpExchange.__slots__]
    )


def test_exchanges_on_many_threads_stay_apart(seen):
    """Thirty-two threads at once: each exchange has its own answer."""
    with canned(BODY) as server, httpx.Client(timeout=60) as client:
        threads = [
            threading.Thread(target=lambda: client.post(server.url + PATH, content=ASK))
            for _ in range(32)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen.opened) == len(seen.closed) == 32
    assert all(exchange.usage.input == 3 for exchange in seen.closed)
