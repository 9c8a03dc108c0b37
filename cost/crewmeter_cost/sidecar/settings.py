"""How a sidecar runs: addresses, ledger, keys, certificate and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.sidecar.api_keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Limits", "SidecarSettings", "checked", "is_loopback"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all together, may request of the sidecar."""

    body_bytes: int = 16 * MIB
    """A request body as sent."""
    opened_bytes: int = 16 * MIB
    """A request body once decompressed. A collector's batch of 8,192 spans has about 7 MB."""
    held_bytes: int = 64 * MIB
    """Bodies of all requests being read, together."""
    requests: int = 64
    """Export requests under way at once."""
    connections: int = 512
    """Open HTTP connections."""
    queued_spans: int = 32_768
    """Spans read and waiting for the writer."""
    group_spans: int = 8_192
    """Spans in one ledger transaction."""
    header_seconds: float = 10.0
    """Time a client has for the head of a request."""
    body_seconds: float = 30.0
    """Time a client has for a request body."""
    drain_seconds: float = 10.0
    """Time for requests under way when the sidecar is stopped."""


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """One sidecar."""

    host: str = "127.0.0.1"
    http_port: int = 4318
    grpc_port: int | None = 4317
    """None: no gRPC."""
    ledger: str | None = None
    keys: Keys = field(default_factory=Keys)
    insecure: bool = False
    """Listen beyond loopback without a key all the same."""
    certificate: Path | None = None
    private_key: Path | None = None
    limits: Limits = field(default_factory=Limits)


def checked(settings: SidecarSettings) -> SidecarSettings:
    """Return `settings`, if they are safe and complete.

    Raises `CrewMeterError` for an address that anyone can reach without a key, and for half a
    certificate.
    """
    if (settings.certificate is None) != (settings.private_key is None):
        raise CrewMeterError(
            "TLS needs both a certificate and its private key",
            hint="give --tls-cert and --tls-key together",
        )
    for path in (settings.certificate, settings.private_key):
        if path is not None and not path.is_file():
            raise CrewMeterError(f"TLS file {path} does not exist")
    if not is_loopback(settings.host) and not settings.keys and not settings.insecure:
        raise CrewMeterError(
            f"refusing to listen on {settings.host} without a key: "
            "anyone who can reach it could read your spend and write to it",
            hint="set CREWMETER_TOKEN or --token-file, listen on 127.0.0.1, "
            "or say --insecure if the network is trusted",
        )
    return settings


def is_loopback(host: str) -> bool:
    """Return whether a host is localhost or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
