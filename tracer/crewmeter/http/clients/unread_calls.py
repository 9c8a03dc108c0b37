"""Calls to models that are recorded, and of which nothing is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.http.http_call import HttpExchange
from crewmeter.providers.protocols.generic import UNROUTED

if TYPE_CHECKING:
    from crewmeter.http.http_call import HttpObserver

__all__ = ["note_unread_call"]


def note_unread_call(
    observer: HttpObserver, provider: str, host: str | None, port: int | None, model: str | None
) -> None:
    """Announce a call whose usage stays unknown: a row without a cost."""
    exchange = HttpExchange(
        operation=semconv.UNROUTED,
        protocol=UNROUTED,
        provider=provider,
        host=host,
        port=port,
        request_model=model,
    )
    exchange.facts.flag("unrouted")
    observer.open(exchange)
    observer.close(exchange)
