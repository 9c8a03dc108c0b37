"""Checks of the OTLP endpoint: listening, protocol, key."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from crewmeter_cost.doctor.finding import failed, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crewmeter_cost.doctor.finding import Finding

__all__ = ["Target", "check_endpoint", "target_of"]

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the environment sends traces, and how."""

    url: str
    host: str
    port: int
    secure: bool
    grpc: bool
    path: str
    headers: Mapping[str, str]


def target_of(environ: Mapping[str, str]) -> Target | None:
    """Return the endpoint of the standard variables, or None where none is set.

    Raises ValueError for one that is no URL.
    """
    own = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    url = own or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not url:
        return None
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.hostname is None:
        raise ValueError(url)
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or ""
    )
    grpc = protocol.strip().lower() == "grpc" or (not protocol and parts.port == 4317)
    secure = parts.scheme == "https"
    usual_port = 4317 if grpc else 4318
    if secure:
        usual_port = 443
    port = parts.port or usual_port
    pairs = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
        or environ.get("OTEL_EXPORTER_OTLP_HEADERS")
        or ""
    )
    headers = {
        name.strip(): unquote(value.strip())
        for name, mark, value in (pair.partition("=") for pair in pairs.split(","))
        if mark
    }
    path = parts.path if own else parts.path.rstrip("/") + "/v1/traces"
    return Target(
        url,
        parts.hostname,
        port,
        secure,
        grpc,
        path or "/",
        headers,
    )


def check_endpoint(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Return findings about the OTLP endpoint, where one is set.

    Connection, protocol, key, and the ledger behind it if it is crewmeter's.
    """
    try:
        target = target_of(environ)
    except ValueError as error:
        yield failed(
            "endpoint",
            f"{error} is no URL",
            "write e.g. OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318",
        )
        return
    if target is None:
        yield ok("endpoint", "no OTLP endpoint set: calls go to the ledger in this process")
        return
    if "//" not in target.url and not target.grpc:
        yield failed(
            "endpoint",
            f"the endpoint {target.url} has no scheme, and OTLP over HTTP needs one",
            f"write http://{target.url}",
        )
        return
    try:
        socket.create_connection(
            (target.host, target.port),
            timeout=_SECONDS,
        ).close()
    except socket.gaierror:
        yield failed(
            "endpoint",
            f"the host {target.host} of {target.url} is unknown",
            "check the name; in compose it is the service's",
        )
        return
    except OSError as error:
        reason = (
            "nobody listens there"
            if isinstance(error, ConnectionRefusedError)
            else (error.strerror or "no answer")
        )
        yield failed(
            "endpoint",
            f"{target.host}:{target.port} ({target.url}): {reason}",
            "start the collector or `crewmeter serve`, or correct the port",
        )
        return
    yield from _speaks_grpc(target) if target.grpc else _speaks_http(target, environ)


def _speaks_grpc(target: Target) -> Iterator[Finding]:
    """Return whether a server speaks gRPC.

    It answers an HTTP/2 preface with a SETTINGS frame, an HTTP/1 server answers with text.
    """
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    try:
        raw = socket.create_connection(
            (target.host, target.port),
            timeout=_SECONDS,
        )
        with closing(_secured(raw, target, ["h2"]) if target.secure else raw) as connection:
            connection.sendall(preface)
            answer = connection.recv(16)
    except OSError as error:
        yield failed(
            "endpoint",
            f"{target.host}:{target.port} accepts, then says nothing gRPC understands ({error})",
            "is it the OTLP/gRPC port, usually 4317?",
        )
        return
    if len(answer) > 3 and answer[3] == 4 and not answer.startswith(b"HTTP"):
        yield ok("endpoint", f"{target.url} speaks gRPC")
    else:
        yield failed(
            "endpoint",
            f"{target.host}:{target.port} is taken by something that doesn't speak gRPC",
            "use the OTLP/gRPC port (usually 4317), or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        )


def _secured(raw: socket.socket, target: Target, protocols: list[str]) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    return context.wrap_socket(raw, server_hostname=target.host)


def _speaks_http(target: Target, environ: Mapping[str, str]) -> Iterator[Finding]:
    """POST an empty OTLP request: it records nothing, and is answered like a full one."""
    where = f"{target.host}:{target.port}"
    headers = {"Content-Type": "application/x-protobuf", **target.headers}
    try:
        status, _ = _request(
            target,
            "POST",
            target.path,
            headers,
        )
    except (OSError, http.client.HTTPException) as error:
        hint = (
            "is it the OTLP/HTTP port, usually 4318? For gRPC set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
        )
        yield failed(
            "endpoint",
            f"{where} is taken by something that doesn't speak HTTP ({type(error).__name__})",
            hint,
        )
        return
    match status:
        case 200:
            yield ok("endpoint", f"{target.url} takes OTLP/HTTP")
        case 401 | 403:
            hint = (
                'set OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20<key>" to what '
                "CREWMETER_TOKEN is at the other end"
            )
            yield failed(
                "endpoint",
                f"{where} refuses the key (HTTP {status})",
                hint,
            )
        case 404 | 405 | 415:
            yield failed(
                "endpoint",
                f"{where} answers, but has no {target.path} (HTTP {status}): it isn't an OTLP "
                "endpoint",
                "correct the port, usually 4318",
            )
        case _:
            yield note(
                "endpoint",
                f"{where} answered HTTP {status}",
                "it can't take spans now; exporters retry",
            )
    yield from _sidecar(target, environ)


def _sidecar(target: Target, environ: Mapping[str, str]) -> Iterator[Finding]:
    """If crewmeter's own sidecar listens there, whether its ledger is ready."""
    token = environ.get("CREWMETER_TOKEN")
    try:
        status, body = _request(
            target, "GET", "/readyz", {"Authorization": f"Bearer {token}"} if token else {}
        )
    except (OSError, http.client.HTTPException):
        return
    if status == 200 and body.strip() == b"ready":  # other collectors may have such a path, too
        yield ok("sidecar", "the sidecar is ready: its ledger takes writes")
    elif status == 503:
        said = body.decode("utf-8", "replace").strip()
        yield failed(
            "sidecar",
            f"the sidecar isn't ready: {said[:200] or 'HTTP 503'}",
            "look at its log; spans wait in the sender meanwhile",
        )


def _request(
    target: Target, method: str, path: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
    connection = kind(
        target.host,
        target.port,
        timeout=_SECONDS,
    )
    with closing(connection):
        connection.request(
            method,
            path,
            b"" if method == "POST" else None,
            dict(headers),
        )
        answer = connection.getresponse()
        return answer.status, answer.read(4096)
