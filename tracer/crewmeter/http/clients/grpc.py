"""The patch of grpc: xAI's own SDK, and Google's older ones.

What they send to models is recorded and not read.
"""

from __future__ import annotations

import re
from functools import partial, wraps
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

_WAYS_TO_CALL = ("__call__", "with_call", "future")
_MODEL_METHOD = re.compile(
    r"/(?:\w*Generate\w*|\w*Predict\w*|GetCompletion\w*|StartDeferredCompletion|Embed\w*"
    r"|BatchEmbed\w*|Sample\w*|Explain|ServerStreaming\w*|Stream\w*)$"
)
"""Methods that run models, by the last word of their path. Others list, count and administrate."""
_PACKAGES = {
    "/xai_api.": "x_ai",
    "/google.ai.generativelanguage.": "gcp.gemini",
    "/google.cloud.aiplatform.": "gcp.vertex_ai",
}
_PORT = re.compile(r":\d+$")


def patch(channel: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap what calls a method, in the classes of ``channel``'s methods.

    A channel's methods stay grpc's own objects: google-api-core tells streams by their class.
    The returned function puts the very same functions back.
    """
    undo = [
        replace(kind, way, partial(_wrapped, observer))
        for kind in _kinds_of_method(channel)
        for way in _WAYS_TO_CALL
        if way in vars(kind)
    ]

    def restore() -> None:
        for put_back in undo:
            put_back()

    return restore


def _kinds_of_method(channel: ModuleType) -> list[type]:
    return [
        each
        for name, each in vars(channel).items()
        if name.endswith("MultiCallable") and isinstance(each, type)
    ]


def _wrapped(observer: HttpObserver, original: Any) -> Any:
    @wraps(original)
    def call(method: Any, *args: Any, **kwargs: Any) -> Any:
        if observer.active:
            _called(method, observer)
        return original(method, *args, **kwargs)

    return call


@guarded
def _called(method: Any, observer: HttpObserver) -> None:
    path = _decoded(method._method)
    if not _MODEL_METHOD.search(path):
        return
    host = _host_of(method._channel)
    provider = _provider_by_package(path) if host is None else provider_behind(host)
    if provider is not None:
        note_unread_call(observer, provider, host, None, None)


def _host_of(channel: Any) -> str | None:
    target = getattr(channel, "target", None)
    target = target() if callable(target) else target  # the asynchronous one's is no function
    if target is None:
        return None
    return _PORT.sub("", _decoded(target).rpartition("/")[2]) or None


def _provider_by_package(path: str) -> str | None:
    """Return whose method it is. Asynchronous channels name no host before grpc 1.83."""
    for package, provider in _PACKAGES.items():
        if path.startswith(package):
            return provider
    return None


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
