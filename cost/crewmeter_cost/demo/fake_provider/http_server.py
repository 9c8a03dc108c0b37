"""The fake provider's HTTP server: threaded, loopback, keep-alive.

One write for each whole answer.

The standard library's ``http.server`` parses headers through the e-mail parser and writes them one
by one; this loop answers a request within 0.1 ms (round trip over loopback), so that a benchmark
measures the client and the meter, not the server.
"""

from __future__ import annotations

import json
import secrets
import socket
import socketserver
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from crewmeter_cost.demo.fake_provider.billing_log import BilledExchange, BillingLog, Refused
from crewmeter_cost.demo.fake_provider.fake_protocol import Answer, Arrived, ProviderDialect
from crewmeter_cost.demo.fake_provider.protocol_list import DIALECTS
from crewmeter_cost.demo.fake_provider.scripted_answers import (
    Directed,
    Prompt,
    Reply,
    Script,
    default_usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedIOBase

__all__ = ["FakeProvider"]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
_BACKLOG = 512
"""Connections that may wait to be accepted: 64 crews open theirs at once."""


class FakeProvider:
    """A fake model provider on loopback.

    ``with FakeProvider() as s:`` then point a client at ``s.base_url("openai")``.

    `script` decides replies before the directives in the prompt do (see `script.py`); `latency_s`
    is added to every answer; `gateway_rate_usd` (USD a token, any token) is what the OpenRouter
    endpoint reports as ``usage.cost``.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        latency_s: float = 0.0,
        port: int = 0,
        gateway_rate_usd: float | None = None,
    ) -> None:
        self.billing_log = BillingLog()
        self._script = script
        self._directed = Directed()
        self._latency_s = latency_s
        self._gateway_rate_usd = gateway_rate_usd
        self._nonce = secrets.token_hex(4)
        self._later: dict[str, Mapping[str, object]] = {}
        """Answers in the background that nobody has fetched yet, by their id."""
        self._server = _Server(("127.0.0.1", port), _Connection)
        self._server.fake_provider = self
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(0.05,),
            name="crewmeter-fake-provider",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def base_url(self, provider: str = "openai") -> str:
        """Return what to give a client of `provider` as its base URL or endpoint."""
        path = {
            "openai": "/v1",
            "openrouter": "/at/openrouter/api/v1",
            "groq": "/at/groq/openai/v1",
            "azure.ai.openai": "/openai/deployments/gpt-4o",
        }.get(provider, "" if provider in _BARE else f"/at/{provider}/v1")
        return self.url + path

    def close(self) -> None:
        """Stop listening and close every connection."""
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def answer(
        self, path: str, query: str, body: Mapping[str, object], wire: BufferedIOBase
    ) -> bool:
        """Answer one request, and return False when the connection must close."""
        later = self._later.pop(path.rpartition("/")[2], None)
        if later is not None:
            _write_json(wire, 200, later)
            return True
        provider, bare = _strip_provider(path)
        for dialect in DIALECTS:
            if match := dialect.pattern.fullmatch(bare):
                prompt = dialect.read(
                    Arrived(
                        bare,
                        query,
                        match.groupdict(),
                        body,
                    )
                )
                return self._exchange(
                    dialect, replace(prompt, provider=provider or dialect.provider), wire
                )
        _write_json(
            wire,
            404,
            {
                "error": {
                    "message": f"the fake provider speaks no protocol at {path}",
                    "type": "not_found",
                }
            },
        )
        return True

    def _exchange(self, dialect: ProviderDialect, prompt: Prompt, wire: BufferedIOBase) -> bool:
        reply = (self._script(prompt) if self._script else None) or self._directed(prompt)
        if delay := self._latency_s + reply.delay_s:
            time.sleep(delay)
        number = self.billing_log.next_number()
        if reply.drop or reply.status != 200:
            self.billing_log.refuse(
                Refused(
                    number,
                    dialect.name,
                    prompt.model,
                    0 if reply.drop else reply.status,
                    time.time_ns(),
                )
            )
            if not reply.drop:
                _write_json(
                    wire,
                    reply.status,
                    dialect.failure(
                        reply.status, f"the fake provider has to answer {reply.status}"
                    ),
                )
            return not reply.drop
        answer = self._decide(prompt, reply, number)
        streamed = prompt.stream and dialect.stream is not None
        cut = streamed and reply.cut_after is not None
        self.billing_log.bill(
            _entry(dialect, answer, streamed=streamed, delivered=dialect.tells_usage and not cut)
        )
        if not streamed or dialect.stream is None:
            _write_json(wire, 200, self._whole(dialect, answer), dialect.headers(answer))
            return True
        _write_stream(
            wire,
            dialect,
            answer,
            dialect.stream(answer),
        )
        return not cut

    def _whole(self, dialect: ProviderDialect, answer: Answer) -> Mapping[str, object]:
        """Return an answer's body, or that it is queued where the background was chosen."""
        body = dialect.whole(answer)
        name = dialect.response_id(answer)
        if dialect.queued is None or name is None or not answer.prompt.body.get("background"):
            return body
        self._later[name] = body
        return dialect.queued(answer)

    def _decide(self, prompt: Prompt, reply: Reply, number: int) -> Answer:
        usage = reply.usage or default_usage(prompt, reply)
        cost = None
        if prompt.provider == "openrouter" and self._gateway_rate_usd is not None:
            cost = f"{self._gateway_rate_usd * ((usage.input or 0) + (usage.output or 0)):.12f}"
        return Answer(
            prompt=prompt,
            reply=reply,
            usage=usage,
            model=reply.model or prompt.model,
            tier=reply.tier or prompt.tier,
            number=number,
            created=int(time.time()),
            nonce=self._nonce,
            reported_cost_usd=cost,
        )


_BARE = frozenset({"anthropic", "gcp.gemini", "aws.bedrock"})
"""Providers whose clients bring the whole path themselves."""


def _strip_provider(path: str) -> tuple[str | None, str]:
    """Return provider and path of ``/at/groq/v1/x``.

    One server acts as many providers that speak the same protocol.
    """
    if not path.startswith("/at/"):
        return None, path
    _, _, provider, rest = path.split("/", 3)
    return provider, "/" + rest


def _entry(
    dialect: ProviderDialect, answer: Answer, *, streamed: bool, delivered: bool
) -> BilledExchange:
    return BilledExchange(
        number=answer.number,
        dialect=dialect.name,
        provider=answer.prompt.provider,
        operation=dialect.operation,
        request_model=answer.prompt.model,
        model=answer.model,
        response_id=dialect.response_id(answer),
        usage=answer.usage,
        tier=answer.tier,
        streamed=streamed,
        delivered=delivered,
        at_ns=time.time_ns(),
        reported_cost_usd=answer.reported_cost_usd,
    )


def _head(status: int, content_type: str, extra: Mapping[str, str], framing: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        f"content-type: {content_type}",
        framing,
    ]
    lines += [f"{name}: {value}" for name, value in extra.items()]
    if status == 429:
        lines.append("retry-after: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _write_json(
    wire: BufferedIOBase,
    status: int,
    document: Mapping[str, object],
    extra: Mapping[str, str] | None = None,
) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    wire.write(
        _head(status, "application/json", extra or {}, f"content-length: {len(body)}") + body
    )
    wire.flush()


def _write_stream(
    wire: BufferedIOBase, dialect: ProviderDialect, answer: Answer, chunks: Iterator[bytes]
) -> None:
    """Write a chunked response, without its last chunk if the reply is to be cut."""
    wire.write(
        _head(200, dialect.stream_type, dialect.headers(answer), "transfer-encoding: chunked")
    )
    cut = answer.reply.cut_after
    delay = answer.reply.chunk_delay_s
    for sent, chunk in enumerate(chunks):
        if cut is not None and sent >= cut:
            wire.flush()
            return
        wire.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if delay:
            wire.flush()
            time.sleep(delay)
    wire.write(b"0\r\n\r\n")
    wire.flush()


class _Server(socketserver.ThreadingTCPServer):
    """Accepts, and remembers its connections so that `close_connections` can end them."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = _BACKLOG
    fake_provider: FakeProvider

    def __init__(
        self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if isinstance(request, socket.socket):
            with self._open_lock:
                self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        if isinstance(request, socket.socket):
            with self._open_lock:
                self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Send every connection's thread an end of file so that each closes its socket."""
        with self._open_lock:
            waiting = list(self._open)
        for connection in waiting:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was quicker
                continue


class _Connection(socketserver.StreamRequestHandler):
    """One keep-alive connection."""

    server: _Server
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except (ConnectionError, ValueError):  # the client went away, or speaks no HTTP
            return

    def finish(self) -> None:
        try:
            super().finish()
        except (ConnectionError, ValueError):
            return

    def _one(self) -> bool:
        """Answer one request, and return False at the end of the connection."""
        start = self.rfile.readline(65536)
        if not start.strip():
            return False
        _, target, _ = start.decode("latin-1").split(" ", 2)
        headers = self._headers()
        raw = self._body(headers)
        path, _, query = target.partition("?")
        body = json.loads(raw) if raw.lstrip()[:1] == b"{" else {}
        return self.server.fake_provider.answer(
            path,
            query,
            body,
            self.wfile,
        )

    def _headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        while (line := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        return headers

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if b"content-length" in headers:
            return self.rfile.read(int(headers[b"content-length"]))
        if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(8)
        self.rfile.readline(8)
        return b"".join(parts)
