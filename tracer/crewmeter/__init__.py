"""crewmeter in the app: one line meters every model call of a CrewAI process.

Call it before or after ``import crewai``::

    import crewmeter
    crewmeter.instrument()
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from crewmeter.attribution import Attribution, attribute
from crewmeter.budget_error import BudgetExceeded
from crewmeter.last_resort import print_unhandled_warnings as _print_unhandled_warnings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import TracerProvider

    from crewmeter.lifecycle import Installation

__all__ = [
    "Attribution",
    "BudgetExceeded",
    "Handle",
    "attribute",
    "flush",
    "instrument",
    "uninstrument",
]

_print_unhandled_warnings()

_lock = threading.Lock()
_handle: Handle | None = None


class Handle:
    """A running installation, as `instrument` returns it."""

    def __init__(self, meter: Installation | None) -> None:
        self._meter = meter

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every finished call is delivered.

        Delivered means in the ledger, or accepted by the endpoint. Serverless functions and
        notebooks need it. A script flushes by itself when it ends.

        Args:
            timeout: How long to wait at most (seconds).

        Returns:
            True if everything is delivered.
        """
        if self._meter is None:
            return True
        return self._meter.flush(timeout)

    def uninstrument(self) -> None:
        """Stop recording and leave CrewAI as it was found.

        What is finished is still delivered. A second call changes nothing.
        """
        global _handle
        with _lock:
            meter = self._meter
            self._meter = None
            if _handle is self:
                _handle = None
        if meter is not None:
            meter.uninstall()


def instrument(
    *,
    service_name: str | None = None,
    ledger: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    capture_content: bool = False,
    tags: Mapping[str, object] | None = None,
    budget: object = None,
    tracer_provider: TracerProvider | None = None,
    summary: bool | None = None,
) -> Handle:
    """Meter every crew, flow, agent and model call of this process from now on.

    Works before or after ``import crewai``. A second call changes nothing. The standard ``OTEL_*``
    variables mean what they always mean.

    Args:
        service_name: ``service.name`` of the spans, over ``OTEL_SERVICE_NAME``.
        ledger: Path or SQLAlchemy URL of the ledger, over ``CREWMETER_LEDGER``.
        endpoint: OTLP endpoint that takes the spans. The ledger is then behind it.
        headers: HTTP headers for the endpoint.
        capture_content: Put prompts and answers on spans, scrubbed of keys and shortened.
        tags: Tags for every span, over ``CREWMETER_TAGS``.
        budget: Budgets that stop calls with `BudgetExceeded`. Without it those of
            ``CREWMETER_BUDGETS`` and of the ledger hold.
        tracer_provider: The provider that the spans go through as well.
        summary: Whether to print a line after each run. None prints it on a terminal.

    Returns:
        The handle that flushes and ends the metering.

    Raises:
        ValueError: A setting has a value that cannot be meant. The message names it.
    """
    global _handle
    from crewmeter.settings import read_settings

    with _lock:
        if _handle is not None:
            return _handle
        settings = read_settings(
            os.environ,
            service_name=service_name,
            ledger=ledger,
            endpoint=endpoint,
            headers=headers,
            capture_content=capture_content,
            tags=tags,
            summary=summary,
        )
        if settings.disabled:
            return Handle(None)
        # Imported here, so that `import crewmeter` stays light.
        from crewmeter.budget_hook.protocol import find_budgets
        from crewmeter.lifecycle import Installation

        meter = Installation(
            settings,
            tracer_provider,
            find_budgets(budget, settings),
        )
        meter.install()
        _handle = Handle(meter)
        return _handle


def uninstrument() -> None:
    """Undo `instrument`, if it was called."""
    handle = _handle
    if handle is not None:
        handle.uninstrument()


def flush(timeout: float = 2.0) -> bool:
    """Wait until every finished call is delivered, as `Handle.flush` does.

    Args:
        timeout: How long to wait at most (seconds).

    Returns:
        True if everything is delivered, or nothing is metered.
    """
    handle = _handle
    if handle is None:
        return True
    return handle.flush(timeout)
