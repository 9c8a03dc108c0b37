"""The patch of grpc: xAI's own SDK, and Google's older ones.

What they send to models is recorded and not read.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from crewmeter.http.clients.unread_calls import note_unread_call
from crewmeter.http.fault_guard import guarded
from crewmeter.http.patching import replace
from crewmeter.providers.registry import provider_behind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from crewmeter.http.http_call import HttpObserver

__all__ = ["patch"]

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_MODEL_METHOD = re.compile(
    r"/(?:\w*Generate\w*|\w*Predict\w*|GetCompletion\w*|StartDeferredCompletion|Embed\w*"
    r"|BatchEmbed\w*|Sample\w*|Explain|ServerStreaming\w*|Stream\w*)$"
)
"""Methods that run models, by the last word of their path. Others list, count and administrate."""
_PORT = re.compile(r":\d+$")


def patch(channel: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap what a channel makes its methods with.

    The returned function puts the very same functions back.
    """
    undo = [replace(channel.Channel, kind, partial(_wrapped, observer)) for kind in _KINDS]

    def restore() -> None:
        for put_back in undo:
            put_back()

    return restore


def _wrapped(observer: HttpObserver, original: Any) -> Any:
    def make(channel: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        made = original(channel, method, *args, **kwargs)
        if not observer.active:
            return made
        host = _host_of(channel)
        provider = _provider_of(host, method)
        if provider is None:
            return made
        return _ObservedMethod(made, partial(_called, observer, provider, host))

    return make


@guarded
def _provider_of(host: str | None, method: str | bytes) -> str | None:
    name = method.decode() if isinstance(method, bytes) else method
    return provider_behind(host) if _MODEL_METHOD.search(name) else None


@guarded
def _host_of(channel: Any) -> str | None:
    target = channel._channel.target
    target = target() if callable(target) else target  # the asynchronous one's is no function
    text = target.decode() if isinstance(target, bytes) else str(target)
    return _PORT.sub("", text.rpartition("/")[2]) or None


@guarded
def _called(observer: HttpObserver, provider: str, host: str | None) -> None:
    note_unread_call(observer, provider, host, None, None)


class _ObservedMethod:
    """A method of a channel that announces each call of it."""

    __slots__ = ("_called", "_method")

    def __init__(self, method: Any, called: Callable[[], object]) -> None:
        self._method = method
        self._called = called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        self._called()
        return self._method(*args, **kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, for its answer and its call."""
        self._called()
        return self._method.with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, without waiting."""
        self._called()
        return self._method.future(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return what else the method has."""
        return getattr(self._method, name)
