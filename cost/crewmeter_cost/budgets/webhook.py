"""Notices to a webhook, signed and retried, within a time limit.

They never go to an internal host.

The address is resolved once, checked, and connected to as checked, so that a name can't point
elsewhere a moment later (DNS rebinding). Redirects are not followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import os
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SECRET_VARIABLE", "WebhookAddress", "check_target", "is_public", "post", "signature"]

log = logging.getLogger("crewmeter")

SECRET_VARIABLE = "CREWMETER_WEBHOOK_SECRET"
ALLOW_VARIABLE = "CREWMETER_WEBHOOK_ALLOW_INTERNAL"
TIMEOUT_SECONDS = 5.0
"""For one whole exchange: resolving, connecting, TLS, request and status line."""
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_EMBEDDING_NETWORKS = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # IPv4-compatible, deprecated by RFC 4291
            "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
            "64:ff9b::/96",  # NAT64, RFC 6052
            "64:ff9b:1::/48",  # NAT64 for local use, RFC 8215
            "2001::/32",  # Teredo, RFC 4380
            "2002::/16",  # 6to4, RFC 3056
        ),
    )
)
"""Addresses that a gateway turns into an IPv4 address, perhaps an internal one."""
_INTERNAL_IPV4 = (
    ipaddress.IPv4Network("100.64.0.0/10"),  # carrier-grade NAT; Alibaba's metadata service
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's platform address, public by range
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments; Oracle's metadata service
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
)
_INTERNAL_IPV6 = (
    ipaddress.IPv6Network("fec0::/10"),  # site-local, deprecated by RFC 3879
    ipaddress.IPv6Network("fd00:ec2::/32"),  # metadata service of AWS
    ipaddress.IPv6Network("3fff::/20"),  # documentation, RFC 9637
    ipaddress.IPv6Network("5f00::/16"),  # segment routing, RFC 9602
)
"""Networks that `ipaddress` of some supported Python takes for public."""


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """A webhook's URL in parts, with the IP address that was checked."""

    scheme: str
    host: str
    port: int
    path: str
    address: str


def is_public(address: IPAddress) -> bool:
    """Return whether an address is on the public internet and embeds no other."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _INTERNAL_IPV4)
    return not any(address in network for network in (*_INTERNAL_IPV6, *_EMBEDDING_NETWORKS))


def check_target(url: str, *, allow_internal: bool = False) -> WebhookAddress:
    """Resolve and check a webhook URL.

    Raises `CrewMeterError` for another scheme, an unknown host or an internal address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CrewMeterError(
            f"webhook {url!r} is not an http(s) address", hint="check the host, and the port"
        ) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CrewMeterError(
            f"webhook {url!r} is not an http(s) address", hint="write https://host/path"
        )
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    addresses = _resolve(parts.hostname, port)
    if not allow_internal:
        # All of them: a name with one internal address is a name somebody plays with.
        for address in addresses:
            if not is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise CrewMeterError(
                    f"webhook {url!r} points at the internal address {address}",
                    hint=f"set {ALLOW_VARIABLE}=true if that is meant",
                )
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    return WebhookAddress(
        parts.scheme,
        parts.hostname,
        port,
        path,
        addresses[0],
    )


def signature(body: bytes, secret: str, *, timestamp: int) -> str:
    """Return ``t=…,v1=…``: HMAC-SHA256 over ``<timestamp>.<body>``.

    The timestamp is signed, so that an old notice can't be sent again as a new one.
    """
    message = f"{timestamp}.".encode() + body
    digest = hmac.new(
        secret.encode(),
        message,
        hashlib.sha256,
    ).hexdigest()
    return f"t={timestamp},v1={digest}"


def post(
    url: str, document: Mapping[str, object], *, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Send `document` as JSON and return whether a 2xx came back.

    Failures are logged, never raised.
    """
    body = json.dumps(document, sort_keys=True).encode()
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1))
        try:
            target = check_target(url, allow_internal=_internal_allowed())
            status = _send(target, body, _headers(body))
        except CrewMeterError as error:
            reason = error.message
            break
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
            continue
        if 200 <= status < 300:
            return True
        reason = f"HTTP {status}"
        if status < 500 and status != 429:
            break
    log.warning("budget notice not delivered to %s: %s", _host_of(url), reason)
    return False


def _internal_allowed() -> bool:
    return os.environ.get(ALLOW_VARIABLE, "").lower() in ("1", "true", "yes")


def _host_of(url: str) -> str:
    """Return the host of a URL for the log, without credentials or path."""
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"


def _headers(body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "crewmeter", "Connection": "close"}
    if secret := os.environ.get(SECRET_VARIABLE):
        headers["X-Crewmeter-Signature"] = signature(
            body,
            secret,
            timestamp=int(time.time()),
        )
    return headers


def _resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, within `TIMEOUT_SECONDS`.

    `getaddrinfo` has no timeout of its own, so it runs in a thread that may be left behind.
    """
    found: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(
                host,
                port,
                type=socket.SOCK_STREAM,
            )
            found.put([str(row[4][0]) for row in rows])
        except (OSError, ValueError, OverflowError) as error:
            found.put(error)

    threading.Thread(
        target=look_up,
        name="crewmeter-resolver",
        daemon=True,
    ).start()
    try:
        addresses = found.get(timeout=TIMEOUT_SECONDS)
    except queue.Empty:
        addresses = TimeoutError()
    if isinstance(addresses, list) and addresses:
        return addresses
    raise CrewMeterError(
        f"webhook host {host!r} can't be resolved", hint="check the name, or the port"
    ) from (addresses if isinstance(addresses, Exception) else None)


def _send(target: WebhookAddress, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status of one POST, all of which takes at most `TIMEOUT_SECONDS`.

    A socket's timeout restarts with every byte, so a timer ends the connection.
    """
    connection = http.client.HTTPConnection(
        target.host,
        target.port,
        timeout=TIMEOUT_SECONDS,
    )
    timer = threading.Timer(TIMEOUT_SECONDS, _end, (connection,))
    timer.daemon = True
    timer.start()
    try:
        connection.sock = socket.create_connection(
            (target.address, target.port), timeout=TIMEOUT_SECONDS
        )
        if target.scheme == "https":
            context = ssl.create_default_context()
            # The handshake comes after the assignment, so that the timer can end it too.
            connection.sock = context.wrap_socket(
                connection.sock, server_hostname=target.host, do_handshake_on_connect=False
            )
            connection.sock.do_handshake()
        connection.request(
            "POST",
            target.path,
            body=body,
            headers=dict(headers),
        )
        return connection.getresponse().status
    finally:
        timer.cancel()
        connection.close()


def _end(connection: http.client.HTTPConnection) -> None:
    """End a connection that another thread is reading from."""
    stream = connection.sock
    if stream is not None:
        with contextlib.suppress(OSError):
            # Not the TLS socket's own method, which would change state under the reader.
            socket.socket.shutdown(stream, socket.SHUT_RDWR)
