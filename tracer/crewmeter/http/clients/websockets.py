"""The patch of websockets: realtime sessions, recorded without being read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from crewmeter.http.clients.unread_calls import note_unread_call
from crewmeter.http.fault_guard import guarded
from crewmeter.http.patching import replace
from crewmeter.providers.registry import provider_behind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from crewmeter.http.http_call import HttpObserver

__all__ = ["patch"]


def patch(client: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``ClientProtocol.process_response``, which every connection goes through.

    The returned function puts the very same function back.
    """

    def wrapped(original: Any) -> Any:
        def process_response(protocol: Any, *args: Any, **kwargs: Any) -> Any:
            made = original(protocol, *args, **kwargs)  # raises where the server refuses
            if observer.active:
                _connected(observer, protocol)
            return made

        return process_response

    return replace(client.ClientProtocol, "process_response", wrapped)


@guarded
def _connected(observer: HttpObserver, protocol: Any) -> None:
    # Releases before 13.1 and after it name the address differently.
    uri: Any = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)
    provider = provider_behind(uri.host)
    if provider is None:
        return
    query = parse_qs(urlsplit(uri.resource_name).query)
    named = query.get("model") or query.get("deployment") or [None]
    note_unread_call(observer, provider, uri.host, uri.port, named[0])
