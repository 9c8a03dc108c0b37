"""What the caller and the environment ask for, read once: where spans go, under which name, with what on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter.attribution import parse_tags, tag_attributes
from crewmeter.redaction import Content, capture_wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMBEDDED", "OTLP", "TracerSettings", "read_settings"]

EMBEDDED = "crewmeter"
OTLP = "otlp"
_LOG_MODES = ("off", "text", "json")


@dataclass(frozen=True, slots=True)
class TracerSettings:
    """One resolved configuration."""

    exporters: tuple[str, ...] = (EMBEDDED,)
    """Entry point names of the group ``opentelemetry_traces_exporter``."""
    disabled: bool = False
    """``OTEL_SDK_DISABLED=true``: record nothing at all."""
    service_name: str | None = None
    ledger: str | None = None
    endpoint: str | None = None
    """Asked for by the caller; one from the environment is read by the OTLP exporters themselves."""
    headers: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "http/protobuf"
    metrics: bool = False
    """Whether a metrics exporter of our own is wanted, when the app has set up none."""
    content: Content = field(default_factory=Content)
    scope: Mapping[str, str] = field(default_factory=dict)
    """Attributes of ``tags=`` and ``CREWMETER_TAGS``, on every span."""
    log: str = "off"
    summary: bool | None = None


def read_settings(
    environ: Mapping[str, str],
    *,
    service_name: str | None = None,
    ledger: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    capture_content: bool = False,
    tags: Mapping[str, object] | None = None,
    summary: bool | None = None,
) -> TracerSettings:
    """Arguments over environment over defaults. Raises ValueError, naming the culprit, for a value that cannot be meant."""
    log = environ.get("CREWMETER_LOG", "").strip().lower() or "off"
    if log not in _LOG_MODES:
        raise ValueError(f"CREWMETER_LOG={log!r}: choose one of {', '.join(_LOG_MODES)}")
    outside = (
        endpoint
        or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    if outside and urlsplit(outside if "//" in outside else f"//{outside}").hostname is None:
        raise ValueError(f"endpoint {outside!r} is no URL; write e.g. http://collector:4318")
    wanted = environ.get("OTEL_METRICS_EXPORTER", "").strip().lower()
    return TracerSettings(
        exporters=_exporters(environ, endpoint=outside, asked=endpoint is not None, ledger=ledger),
        disabled=environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
        service_name=service_name,
        ledger=ledger,
        endpoint=endpoint,
        headers=dict(headers or {}),
        protocol=_protocol(environ, outside, asked=endpoint is not None),
        metrics=wanted != "none" and (bool(outside) or OTLP in wanted.split(",")),
        content=Content(enabled=capture_wanted(capture_content, environ)),
        scope=tag_attributes({**parse_tags(environ.get("CREWMETER_TAGS", "")), **(tags or {})}),
        log=log,
        summary=summary,
    )


def _exporters(
    environ: Mapping[str, str], *, endpoint: str | None, asked: bool, ledger: str | None
) -> tuple[str, ...]:
    """``OTEL_TRACES_EXPORTER`` if set; else OTLP where there is an endpoint; else the embedded ledger.

    An ``endpoint=`` or ``ledger=`` of the caller's adds its exporter to whatever the environment says.
    """
    named = [
        name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()
    ]
    names = (
        [name for name in named if name != "none"] if named else [OTLP if endpoint else EMBEDDED]
    )
    if asked and OTLP not in names:
        names.append(OTLP)
    if ledger is not None and EMBEDDED not in names:
        names.append(EMBEDDED)
    return tuple(dict.fromkeys(names))


def _protocol(environ: Mapping[str, str], endpoint: str | None, *, asked: bool) -> str:
    """The OTLP protocol: as the environment says, else what the endpoint's port stands for, else the specification's default."""
    if not asked:
        named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL"
        )
        if named:
            return named.strip().lower()
    port = urlsplit(endpoint).port if endpoint and "//" in endpoint else None
    return "grpc" if port == 4317 else "http/protobuf"
