"""crewmeter as an OpenTelemetry instrumentor.

With it ``opentelemetry-instrument python app.py`` meters an app without a line of code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The package does not re-export it.
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

import crewmeter

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CrewMeterInstrumentor"]

_ARGUMENTS = (
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


class CrewMeterInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """The entry point ``crewmeter`` of ``opentelemetry_instrumentor``."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the CrewAI versions whose events report usage."""
        return ("crewai >= 1.13",)

    def _instrument(self, **kwargs: Any) -> None:
        known = {name: kwargs[name] for name in _ARGUMENTS if name in kwargs}
        crewmeter.instrument(**known)

    def _uninstrument(self, **kwargs: Any) -> None:
        crewmeter.uninstrument()
