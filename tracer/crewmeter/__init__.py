"""crewmeter, the app's side: one line in a CrewAI app turns every call into spans and a priced ledger.

In the app, before or after ``import crewai``::

    import crewmeter
    crewmeter.instrument()
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from crewmeter.attribution import Attribution, attribute
from crewmeter.budget_hook.protocol import BudgetExceeded

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

_lock = threading.Lock()
_handle: Handle | None = None


class Handle:
    """What `instrument` returns: the running installation."""

    def __init__(self, meter: Installation | None) -> None:
        self._meter = meter

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every finished call is delivered (in the ledger, or at the endpoint), at most ``timeout`` seconds.

        True if everything is. For serverless functions and notebooks; a script's exit flushes by itself.
        """
        return self._meter.flush(timeout) if self._meter is not None else True

    def uninstrument(self) -> None:
        """Stop recording and leave CrewAI as it was found. Doing it twice changes nothing."""
        global _handle
        with _lock:
            meter, self._meter = self._meter, None
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
    """Meter every crew, flow, agent and call of this process from now on; calling it again changes nothing.

    ``ledger`` is a path or SQLAlchemy URL, ``endpoint`` an OTLP endpoint (with ``headers``) to send spans to instead;
    ``tags`` go on every span, ``capture_content`` puts (scrubbed, shortened) prompts and answers there too; ``budget`` (or
    ``CREWMETER_BUDGETS``, or one kept in the ledger) stops calls over it with `BudgetExceeded`; ``summary`` says whether to
    print a line after each run (None: on a terminal).
    The standard ``OTEL_*`` variables mean what they always mean.

    Works before or after ``import crewai``. Raises ValueError for a setting that cannot be meant.
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
        from crewmeter.budget_hook.protocol import guard_with
        from crewmeter.lifecycle import Installation

        meter = Installation(settings, tracer_provider, guard_with(budget, settings))
        meter.install()
        _handle = Handle(meter)
        return _handle


def uninstrument() -> None:
    """Undo `instrument`, if it was called."""
    handle = _handle
    if handle is not None:
        handle.uninstrument()


def flush(timeout: float = 2.0) -> bool:
    """Wait until everything finished so far is delivered, at most ``timeout`` seconds; see `Handle.flush`."""
    handle = _handle
    return handle.flush(timeout) if handle is not None else True
