"""Who may send requests: keys, roles, and the Host and Origin of browsers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from crewmeter_cost.sidecar.settings import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.settings import SidecarSettings

__all__ = ["AuthorizationMiddleware", "role_of"]

_PUBLIC = frozenset({"/healthz", "/readyz"})
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.%]+\]|[^\[\]:/@?#\s]+)(?::(?P<port>[0-9]{0,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#@\s]+)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_CONTAINER_HOST = "host.docker.internal"
"""How a container reaches a sidecar on its host's loopback. No web page can have this name."""


def role_of(path: str) -> str | None:
    """Return the role a path needs.

    None for health checks, ``ingest`` for OTLP and budget accounts, ``content`` for captured
    prompts and answers, ``read`` for all else.
    """
    if path in _PUBLIC:
        return None
    if path.startswith(("/v1/", "/api/budgets/")):
        return "ingest"
    if path.startswith("/api/content/"):
        return "content"
    return "read"


class AuthorizationMiddleware:
    """Rejects requests of foreign web pages (403) and without a valid key (401).

    A web page can make a browser send requests here. Those carry an Origin, which must be this
    sidecar's own. Where a page lets its own name resolve to 127.0.0.1 (DNS rebinding), its Origin
    agrees with its Host, so without keys, on loopback, the Host must name loopback.
    Both are checked on every route, before the key.
    """

    def __init__(self, app: ASGIApp, settings: SidecarSettings, metrics: SidecarMetrics) -> None:
        self._app = app
        self._keys = settings.keys
        self._local_only = is_loopback(settings.host) and not settings.keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or pass the request on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        if role_of(scope["path"]) == "ingest":
            self._metrics.requests.labels("http", "unauthorized").inc()
        await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the response to a request that is rejected, or None."""
        hosts = _values(scope, b"host")
        if self._local_only and not (len(hosts) == 1 and _is_local(hosts[0])):
            return PlainTextResponse(
                "this sidecar has no key, so it answers to localhost only: "
                "send Host: localhost, or set CREWMETER_TOKEN\n",
                403,
            )
        origins = _values(scope, b"origin")
        if origins and not (len(origins) == len(hosts) == 1 and _same(origins[0], hosts[0])):
            return PlainTextResponse("requests of other web pages are not accepted\n", 403)
        return self._unauthorized(scope)

    def _unauthorized(self, scope: Scope) -> PlainTextResponse | None:
        """Return the response to a request without a key of the role, or None."""
        role = role_of(scope["path"])
        authorization = _values(scope, b"authorization")
        given = authorization[0] if len(authorization) == 1 else None
        if role is None or self._keys.allow(given, role):
            return None
        if role == "content" and self._keys.allow(given, "read"):
            # A challenge would make the browser that displays the page ask for another key.
            return PlainTextResponse("a key with the role content is needed\n", 403)
        challenge = 'Bearer realm="crewmeter"'
        if role != "ingest":  # people read with a browser, which asks for a password
            challenge = 'Basic realm="crewmeter", charset="UTF-8"'
        return PlainTextResponse(
            f"a key with the role {role} is needed\n", 401, {"www-authenticate": challenge}
        )


def _values(scope: Scope, name: bytes) -> list[str]:
    """Return every value of a header.

    A second Host or Origin must not hide behind the first.
    """
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _is_local(authority: str) -> bool:
    """Return whether a Host header names this machine."""
    match = _AUTHORITY.fullmatch(authority.strip().lower())
    if match is None:
        return False
    host = match["host"].strip("[]")
    return host == _CONTAINER_HOST or is_loopback(host)


def _same(origin: str, authority: str) -> bool:
    """Return whether an Origin is that of a page served under this Host.

    The scheme may differ, since a proxy may speak TLS to the browser and HTTP to the sidecar.
    """
    match = _ORIGIN.fullmatch(origin.strip().lower())
    if match is None:
        return False
    default = _DEFAULT_PORTS[match["scheme"]]
    ours = _split(authority.strip().lower(), default)
    return ours is not None and ours == _split(match["authority"], default)


def _split(authority: str, default_port: str) -> tuple[str, str] | None:
    """Return (host, port) of an authority."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    return match["host"], match["port"] or default_port
