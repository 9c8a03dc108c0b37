"""Posting a notice to a webhook: signed, retried, bounded in time, and never to an internal address unless that was allowed.

The address is resolved once, checked, and connected to as checked, so that a name can't point elsewhere a moment later.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import os
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SECRET_VARIABLE", "WebhookAddress", "check_target", "post", "signature"]

log = logging.getLogger("crewmeter")

SECRET_VARIABLE = "CREWMETER_WEBHOOK_SECRET"
ALLOW_VARIABLE = "CREWMETER_WEBHOOK_ALLOW_INTERNAL"
TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """A webhook's address, resolved and checked."""

    scheme: str
    host: str
    port: int
    path: str
    address: str
    """The IP address the check was made for."""


def check_target(url: str, *, allow_internal: bool = False) -> WebhookAddress:
    """Resolve and check a webhook URL. Raises `CrewMeterError` for another scheme, an unknown host or an internal address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CrewMeterError(
            f"webhook {url!r} is not an http(s) address", hint="write https://host/path"
        )
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = str(socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, ValueError) as error:
        raise CrewMeterError(
            f"webhook host {parts.hostname!r} can't be resolved", hint="check the name, or the port"
        ) from error
    if not allow_internal and not ipaddress.ip_address(address.partition("%")[0]).is_global:
        raise CrewMeterError(
            f"webhook {url!r} points at the internal address {address}",
            hint=f"set {ALLOW_VARIABLE}=true if that is meant",
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookAddress(parts.scheme, parts.hostname, port, path, address)


def signature(body: bytes, secret: str, *, timestamp: int) -> str:
    """``t=…,v1=…``: HMAC-SHA256 over ``<timestamp>.<body>``, so that an old notice can't be sent again as a new one."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def post(
    url: str, document: Mapping[str, object], *, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Send `document` as JSON; True once a 2xx came back. Redirects are not followed. Failures are logged, never raised."""
    body = json.dumps(document, sort_keys=True).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "crewmeter", "Connection": "close"}
    if secret := os.environ.get(SECRET_VARIABLE):
        headers["X-Crewmeter-Signature"] = signature(body, secret, timestamp=int(time.time()))
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1))
        try:
            target = check_target(
                url,
                allow_internal=os.environ.get(ALLOW_VARIABLE, "").lower() in ("1", "true", "yes"),
            )
        except CrewMeterError as error:
            reason = error.message
            break
        try:
            status = _send(target, body, headers)
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
            continue
        if 200 <= status < 300:
            return True
        reason = f"HTTP {status}"
        if status < 500 and status != 429:
            break
    log.warning("budget notice not delivered to %s: %s", urlsplit(url).hostname, reason)
    return False


def _send(target: WebhookAddress, body: bytes, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_SECONDS)
    raw = socket.create_connection((target.address, target.port), timeout=TIMEOUT_SECONDS)
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
            if target.scheme == "https"
            else raw
        )
        connection.request("POST", target.path, body=body, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
        raw.close()
