"""crewmeter as an OpenTelemetry instrumentor, so that ``opentelemetry-instrument python app.py`` meters without a line of code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # the package does not re-export it

import crewmeter

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CrewMeterInstrumentor"]


class CrewMeterInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """Entry point ``crewmeter`` of ``opentelemetry_instrumentor``."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """CrewAI as far back as its events report usage."""
        return ("crewai >= 1.13",)

    def _instrument(self, **kwargs: Any) -> None:
        known = (
            "service_name",
            "ledger",
            "endpoint",
            "headers",
            "capture_content",
            "tags",
            "budget",
            "tracer_provider",
            "summary",
        )
        crewmeter.instrument(**{name: kwargs[name] for name in known if name in kwargs})

    def _uninstrument(self, **kwargs: Any) -> None:
        crewmeter.uninstrument()
