"""Settings of the app's side, read once from the arguments and the environment."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter.attribution import parse_tags, tag_attributes
from crewmeter.declared_hosts import declared_hosts
from crewmeter.redaction import Content, capture_wanted
from crewmeter.semconv.generations import Emitted, emitted_generations

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMBEDDED", "OTLP", "TracerSettings", "read_settings"]

logger = logging.getLogger("crewmeter")

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
    """From the caller. The OTLP exporters read one from the environment themselves."""
    headers: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "http/protobuf"
    metrics: bool = False
    """Whether a metrics exporter of our own is wanted, when the app has set up none."""
    content: Content = field(default_factory=Content)
    scope: Mapping[str, str] = field(default_factory=dict)
    """Attributes of ``tags=`` and ``CREWMETER_TAGS``, on every span."""
    emitted: Emitted = field(default_factory=Emitted)
    """The generations of the GenAI conventions whose names go out."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Host → provider, as the user's price file has it."""
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
    """Resolve the settings: arguments over environment over defaults.

    Raises:
        ValueError: An argument is malformed. The message names the culprit. A malformed
            environment variable is ignored with a warning.
    """
    outside = _endpoint(environ, endpoint)
    environment_tags = _environment_tags(environ)
    emitted = emitted_generations(environ)
    protocol = _protocol(
        environ,
        outside,
        has_argument=endpoint is not None,
    )
    if outside and "//" not in outside and protocol != "grpc":
        logger.warning(
            "endpoint %r has no scheme, and OTLP over HTTP needs one; write http://%s",
            outside,
            outside,
        )
    return TracerSettings(
        exporters=_exporters(
            environ, endpoint=outside, has_argument=endpoint is not None, ledger=ledger
        ),
        disabled=_lowered(environ, "OTEL_SDK_DISABLED") == "true",
        service_name=service_name,
        ledger=ledger,
        endpoint=endpoint,
        headers=dict(headers or {}),
        protocol=protocol,
        metrics=_wants_metrics(environ, outside),
        content=Content(
            enabled=capture_wanted(capture_content, environ),
            as_messages=emitted.new,
        ),
        scope=tag_attributes({**environment_tags, **(tags or {})}),
        emitted=emitted,
        hosts=declared_hosts(environ),
        log=_log_mode(environ),
        summary=summary,
    )


def _lowered(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip().lower()


def _environment_tags(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of ``CREWMETER_TAGS``, without the parts that are malformed."""
    tags: dict[str, str] = {}
    for part in environ.get("CREWMETER_TAGS", "").split(","):
        try:
            tags |= parse_tags(part)
        except ValueError as error:
            logger.warning("%s; it is ignored", error)
    return tags


def _log_mode(environ: Mapping[str, str]) -> str:
    mode = _lowered(environ, "CREWMETER_LOG") or "off"
    if mode in _LOG_MODES:
        return mode
    modes = ", ".join(_LOG_MODES)
    logger.warning("CREWMETER_LOG=%r is ignored: choose one of %s", mode, modes)
    return "off"


def _endpoint(environ: Mapping[str, str], argument: str | None) -> str | None:
    """Return the OTLP endpoint for traces, if there is one, after a look at its form."""
    endpoint = (
        argument
        or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    if not endpoint:
        return None
    url = endpoint if "//" in endpoint else f"//{endpoint}"
    try:
        parts = urlsplit(url)
        is_valid = parts.hostname is not None and parts.port != 0
    except ValueError:  # an unclosed bracket, or no port number
        is_valid = False
    if is_valid:
        return endpoint
    problem = f"endpoint {endpoint!r} is no URL; write e.g. http://collector:4318"
    if argument:
        raise ValueError(problem)
    # A mistake in the environment must not stop the app. It is metered without the endpoint.
    logger.warning("%s; it is ignored", problem)
    return None


def _wants_metrics(environ: Mapping[str, str], endpoint: str | None) -> bool:
    wanted = _lowered(environ, "OTEL_METRICS_EXPORTER")
    if wanted == "none":
        return False
    return endpoint is not None or OTLP in wanted.split(",")


def _exporters(
    environ: Mapping[str, str], *, endpoint: str | None, has_argument: bool, ledger: str | None
) -> tuple[str, ...]:
    """Return the exporters' names, by default the endpoint's or the embedded one.

    An ``endpoint=`` or ``ledger=`` of the caller's adds its exporter to those of the environment.
    """
    listed = environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    names = [name.strip() for name in listed if name.strip()]
    if names:
        names = [name for name in names if name != "none"]
    elif endpoint:
        names = [OTLP]
    else:
        names = [EMBEDDED]
    if has_argument:
        names.append(OTLP)
    if ledger is not None:
        names.append(EMBEDDED)
    return tuple(dict.fromkeys(names))


def _protocol(environ: Mapping[str, str], endpoint: str | None, *, has_argument: bool) -> str:
    """Return the OTLP protocol: the environment's, else the port's, else the default."""
    if not has_argument:
        named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL"
        )
        if named:
            return named.strip().lower()
    if endpoint and "//" in endpoint and urlsplit(endpoint).port == 4317:
        return "grpc"
    return "http/protobuf"
