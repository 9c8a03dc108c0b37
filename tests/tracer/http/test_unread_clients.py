"""Clients whose calls are recorded and not read: urllib, urllib3, websockets and grpc."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
import requests
import urllib3
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect
from websockets.sync.server import serve

from crewmeter.providers.registry import declare_hosts

MODEL_METHOD = "/xai_api.Chat/GetCompletion"
FREE_METHOD = "/xai_api.Models/ListLanguageModels"
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture
def declared():
    """Loopback is OpenAI's host."""
    undo = declare_hosts({"127.0.0.1": "openai"})
    yield
    undo()


def _urllib(url):
    request = urllib.request.Request(url, BODY, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def _urllib3(url):
    with urllib3.PoolManager() as pool:
        return pool.request("POST", url, body=BODY, timeout=30).data


@pytest.mark.parametrize("send", [_urllib, _urllib3])
def test_a_call_by_a_client_without_a_reader_is_recorded(server, seen, send):
    """Once, with its host and operation, and nothing about its usage."""
    answer = json.loads(send(server.base_url("openai") + "/chat/completions"))
    assert answer["usage"]
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.status_code) == ("chat", 200)
    assert exchange.usage.status == "missing"
    assert "unrouted" in exchange.usage.flags


def test_a_refused_call_by_urllib_is_no_billed_one(server, seen):
    """An error status is an error of the exchange, and flagged as not billed."""
    with pytest.raises(urllib.error.HTTPError):
        _urllib(server.base_url("openai") + "/no/chat/completions")
    (exchange,) = seen.closed
    assert exchange.error_type == "404"
    assert exchange.usage.flags == ("rejected",)


def test_a_request_of_another_library_is_recorded_by_that_alone(server, seen):
    """Requests sends by urllib3 and http.client, and is one exchange that is read."""
    url = server.base_url("openai") + "/chat/completions"
    assert requests.post(url, data=BODY, timeout=30).ok
    (exchange,) = seen.closed
    assert exchange.usage.status == "reported"


def test_other_requests_are_left_alone(server, seen):
    """What is no call to a model opens nothing, and every function is put back."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/traces", b"{}")
    connection.getresponse().read()
    connection.close()
    assert seen.closed == []


@pytest.fixture
def socket_server():
    """A websocket server that closes each connection."""
    with serve(lambda socket: socket.close(), "127.0.0.1", 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/v1/realtime?model=gpt-realtime"
        running.shutdown()
        thread.join(30)


def test_a_realtime_session_is_recorded_without_a_usage(socket_server, declared, seen):
    """A session is one exchange with its model, by either client of websockets."""
    with connect(socket_server):
        pass

    async def session():
        async with connect_async(socket_server):
            pass

    asyncio.run(session())
    found = [(each.provider, each.request_model, each.usage.flags) for each in seen.closed]
    assert found == [("openai", "gpt-realtime", ("unrouted",))] * 2


def test_a_socket_to_somebody_else_is_no_call(socket_server, seen):
    """A websocket to a host that nobody declared is left alone."""
    with connect(socket_server):
        pass
    assert seen.closed == []


class _Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


@pytest.fixture
def grpc_server():
    """A server that answers every method with its request."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(30)


def test_a_call_by_grpc_is_recorded_without_a_usage(grpc_server, declared, seen):
    """A method that runs a model is one exchange, sync or async, and a free one none."""
    with grpc.insecure_channel(grpc_server) as channel:
        assert channel.unary_unary(MODEL_METHOD)(b"x", timeout=30) == b"x"
        assert channel.unary_unary(FREE_METHOD)(b"x", timeout=30) == b"x"
        assert channel.unary_unary(MODEL_METHOD).future(b"x", timeout=30).result() == b"x"

    async def call():
        async with grpc.aio.insecure_channel(grpc_server) as channel:
            return await channel.unary_unary(MODEL_METHOD)(b"x", timeout=30)

    assert asyncio.run(call()) == b"x"
    assert [(each.provider, each.usage.flags) for each in seen.closed] == [
        ("openai", ("unrouted",))
    ] * 3
