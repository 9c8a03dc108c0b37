"""Clients whose calls are recorded and not read: urllib, urllib3, websockets and grpc."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import grpc
import grpc.aio
import pytest
import requests
import urllib3
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect
from websockets.sync.server import serve

from crewmeter.http.clients.grpc import patch
from crewmeter.http.http_call import HttpObserver
from crewmeter.providers.registry import declare_hosts

MODEL_METHOD = "/xai_api.Chat/GetCompletion"
STREAM_METHOD = "/google.ai.generativelanguage.v1.GenerativeService/StreamGenerateContent"
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


class _Pipe(http.client.HTTPConnection):
    """A connection to somebody who hangs up while the request is sent."""

    def connect(self):
        self.sock, other = socket.socketpair()
        other.close()


def _refused(url):
    urllib.request.urlopen(urllib.request.Request(url, BODY), timeout=30)


def _refused_behind_a_proxy(url):
    proxy = urllib.request.ProxyHandler({"https": url.removesuffix("/v1/chat/completions")})
    request = urllib.request.Request("https://api.openai.com/v1/chat/completions", BODY)
    urllib.request.build_opener(proxy).open(request, timeout=30)


def _refused_three_times(url):
    with urllib3.PoolManager() as pool:
        pool.request("POST", url, body=BODY, retries=urllib3.Retry(2, backoff_factor=0))


def _hung_up(url):
    connection = _Pipe("127.0.0.1")
    try:
        connection.request("POST", "/v1/chat/completions", BODY)
    finally:
        connection.close()


def _badly_headed(url):
    connection = _Pipe("127.0.0.1")
    try:
        connection.request("POST", "/v1/chat/completions", BODY, {"x": "\n\n"})
    finally:
        connection.close()


def _used_again(url):
    connection = _Pipe("127.0.0.1")
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putrequest("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("send", "flags"),
    [
        (_refused, ["rejected"]),
        (_refused_behind_a_proxy, ["rejected"]),
        (_refused_three_times, ["rejected"] * 3),
        (_hung_up, ["may_be_billed"]),
        (_badly_headed, ["may_be_billed"]),
        (_used_again, ["may_be_billed"] * 2),
    ],
)
def test_a_request_that_comes_to_nothing_ends(declared, seen, send, flags):
    """Each attempt is one exchange with an error, at once, and says whether it may be billed."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listened at
        with pytest.raises(
            (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError)
        ):
            send(f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/chat/completions")
    assert [each.usage.flags for each in seen.closed] == [(flag,) for flag in flags]
    assert all(each.error_type for each in seen.closed)
    assert len(seen.opened) == len(flags)


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
        if details.method == STREAM_METHOD:
            return grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request] * 2))
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


def test_googles_clients_work_by_grpc(grpc_server, declared, seen):
    """google-api-core tells unary methods and streams by their class, sync and async."""
    sync = pytest.importorskip("google.api_core.grpc_helpers")
    from google.api_core import grpc_helpers_async

    with grpc.insecure_channel(grpc_server) as channel:
        assert sync.wrap_errors(channel.unary_unary(MODEL_METHOD))(b"x", timeout=30) == b"x"
        stream = sync.wrap_errors(channel.unary_stream(STREAM_METHOD))
        assert list(stream(b"x", timeout=30)) == [b"x"] * 2

    async def call():
        async with grpc.aio.insecure_channel(grpc_server) as channel:
            method = grpc_helpers_async.wrap_errors(channel.unary_unary(MODEL_METHOD))
            stream = grpc_helpers_async.wrap_errors(channel.unary_stream(STREAM_METHOD))
            first = await method(b"x", timeout=30)
            return [first, *[each async for each in await stream(b"x", timeout=30)]]

    assert asyncio.run(call()) == [b"x"] * 3
    assert len(seen.closed) == 4


def test_a_channel_without_an_address_is_known_by_its_methods(seen):
    """Asynchronous channels name no host before grpc 1.83: the package of the method does."""

    class OldMultiCallable:
        _channel = object()

        def __init__(self, method):
            self._method = method

        def __call__(self, request):
            return request

    module = ModuleType("grpc.aio._channel")
    module.OldMultiCallable = OldMultiCallable
    undo = patch(module, HttpObserver(opened=seen.opened.append, closed=seen.closed.append))
    for method in (STREAM_METHOD.encode(), MODEL_METHOD.encode(), b"/mine.Service/Generate"):
        assert OldMultiCallable(method)(b"x") == b"x"
    undo()
    assert OldMultiCallable(STREAM_METHOD.encode())(b"x") == b"x"
    assert [(each.provider, each.host) for each in seen.closed] == [
        ("gcp.gemini", None),
        ("x_ai", None),
    ]
