"""Checks of variables, and for instrumentors that watch the same calls."""

from __future__ import annotations

import difflib
from importlib import metadata
from typing import TYPE_CHECKING

from crewmeter_cost.doctor.finding import failed, note, ok
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.content.settings import content_cutoff, stores_content
from crewmeter_cost.ledger.maintenance.retention import Retention
from crewmeter_cost.time_range import read_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from crewmeter_cost.doctor.finding import Finding

__all__ = ["VARIABLES", "check_instrumentors", "check_variables"]

VARIABLES = frozenset(
    {
        "CREWMETER_ALERTMANAGER_URL",
        "CREWMETER_BUDGETS",
        "CREWMETER_BUDGETS_URL",
        "CREWMETER_CAPTURE_CONTENT",
        "CREWMETER_CONTENT",
        "CREWMETER_KEEP",
        "CREWMETER_KEEP_CONTENT",
        "CREWMETER_LEDGER",
        "CREWMETER_LOG",
        "CREWMETER_LOG_LEVEL",
        "CREWMETER_PRICES",
        "CREWMETER_TAGS",
        "CREWMETER_TOKEN",
        "CREWMETER_TRACE_URL",
        "CREWMETER_TZ",
        "CREWMETER_WEBHOOK_ALLOW_INTERNAL",
        "CREWMETER_WEBHOOK_SECRET",
    }
)
"""Every variable crewmeter itself reads."""
COLLECTOR_VARIABLES = frozenset(
    {
        "CREWMETER_APP_METRICS",
        "CREWMETER_COLLECTOR_HEALTH",
        "CREWMETER_COLLECTOR_METRICS_HOST",
        "CREWMETER_COLLECTOR_METRICS_PORT",
        "CREWMETER_DECISION_WAIT",
        "CREWMETER_DECISION_WAIT_AFTER_ROOT",
        "CREWMETER_GATEWAY",
        "CREWMETER_GATEWAY_A",
        "CREWMETER_GATEWAY_B",
        "CREWMETER_GRAFANA_PASSWORD",
        "CREWMETER_LEDGER_ENDPOINT",
        "CREWMETER_OTLP_GRPC",
        "CREWMETER_OTLP_HTTP",
        "CREWMETER_PORT",
        "CREWMETER_QUEUE_DIR",
        "CREWMETER_TRACES_ENDPOINT",
        "CREWMETER_TRACES_INSECURE",
        "CREWMETER_TRACE_PERCENT",
    }
)
"""Those of the collector's configurations and of docker-compose.yml."""

_WATCHERS = (
    "crewai",
    "openai",
    "anthropic",
    "litellm",
    "bedrock",
    "google-genai",
    "google-generativeai",
    "vertexai",
    "openlit",
    "logfire",
    "langchain",
)
"""What the entry points of instrumentors are called that see the same calls as crewmeter."""


_READERS: tuple[Callable[[Mapping[str, str]], object], ...] = (
    stores_content,
    content_cutoff,
    Retention,
    lambda environ: read_zone(environ=environ),
)
"""What reads the value of a variable, and raises for one that it does not understand."""


def check_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Report ``CREWMETER_*`` names that no code reads, and values without a meaning."""
    known = VARIABLES | COLLECTOR_VARIABLES
    unknown = sorted(
        name for name in environ if name.startswith("CREWMETER_") and name not in known
    )
    unknown += sorted(
        name for name in environ if name.startswith(("CREWMETRE_", "CREW_METER_", "CREWMETERS_"))
    )
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        yield failed(
            "environment",
            f"{name} is no variable of crewmeter's",
            f"did you mean {near[0]}?" if near else "see the README for the list",
        )
    malformed = 0
    for read in _READERS:
        try:
            read(environ)
        except CrewMeterError as error:
            malformed += 1
            yield failed("environment", str(error), error.hint)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield failed(
            "environment",
            "OTEL_SDK_DISABLED=true switches all OpenTelemetry off, the meter with it",
            "unset OTEL_SDK_DISABLED",
        )
    elif not unknown and not malformed:
        seen = sorted(name for name in environ if name in VARIABLES)
        yield ok(
            "environment",
            f"{', '.join(seen)} set"
            if seen
            else "no CREWMETER_* variable set: defaults everywhere",
        )


def check_instrumentors(
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> Iterator[Finding]:
    """Report instrumentors installed beside ours.

    A response is billed once, but every call gets two spans.
    """
    found = (
        metadata.entry_points(group="opentelemetry_instrumentor")
        if entry_points is None
        else entry_points
    )
    others = sorted(
        {
            entry.dist.name if entry.dist is not None else entry.name
            for entry in found
            if not entry.value.startswith("crewmeter.")
            and any(watcher in entry.name.lower().replace("_", "-") for watcher in _WATCHERS)
        }
    )
    if others:
        yield note(
            "instrumentors",
            f"{', '.join(others)} installed too: active beside crewmeter, a call gets a span "
            "from each (billed once, by its response id)",
            "switch one off: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, or don't call its instrument()",
        )
