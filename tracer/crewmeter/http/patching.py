"""Wrappers of the function by which an HTTP library sends.

They are the same for every library.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter.http.http_call import sending_library

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.http.http_call import HttpExchange, HttpObserver

__all__ = ["SendHooks", "replace", "wrap", "wrap_async"]


class SendHooks(Protocol):
    """What happens around one library's sending. Nothing here raises."""

    @property
    def library(self) -> str:
        """Name of the library.

        See `crewmeter.http.http_call.sending_library`.
        """

    @property
    def begin(self) -> Callable[..., HttpExchange | None]:
        """With the call's arguments, return the exchange it opens, if it calls a model."""

    @property
    def failed(self) -> Callable[[HttpExchange, BaseException], object]:
        """Take the exception that the call raised."""

    @property
    def answered(self) -> Callable[..., object]:
        """Take the exchange, what the call returned, and the call's arguments."""


def wrap(original: Any, hooks: SendHooks, observer: HttpObserver) -> Any:
    """Return ``original``, which sends a request, with ``hooks`` around it."""

    @functools.wraps(original)
    def send(*args: Any, **kwargs: Any) -> Any:
        exchange = hooks.begin(*args, **kwargs) if observer.active else None
        if exchange is None:
            return original(*args, **kwargs)
        token = sending_library.set(hooks.library)
        try:
            response = original(*args, **kwargs)
        except BaseException as error:
            hooks.failed(exchange, error)
            raise
        finally:
            sending_library.reset(token)
        hooks.answered(
            exchange,
            response,
            *args,
            **kwargs,
        )
        return response

    return send


def wrap_async(original: Any, hooks: SendHooks, observer: HttpObserver) -> Any:
    """Do as `wrap` with a coroutine function."""

    @functools.wraps(original)
    async def send(*args: Any, **kwargs: Any) -> Any:
        exchange = hooks.begin(*args, **kwargs) if observer.active else None
        if exchange is None:
            return await original(*args, **kwargs)
        token = sending_library.set(hooks.library)
        try:
            response = await original(*args, **kwargs)
        except BaseException as error:
            hooks.failed(exchange, error)
            raise
        finally:
            sending_library.reset(token)
        hooks.answered(
            exchange,
            response,
            *args,
            **kwargs,
        )
        return response

    return send


def replace(owner: Any, name: str, wrapped: Callable[[Any], Any]) -> Callable[[], None]:
    """Replace a class's function by ``wrapped(original)``.

    The returned function puts the very same original back.
    """
    original = owner.__dict__[name]
    wrapper = wrapped(original)
    setattr(owner, name, wrapper)

    def restore() -> None:
        # Else somebody has wrapped ours, which lets everything pass now.
        if owner.__dict__.get(name) is wrapper:
            setattr(owner, name, original)

    return restore
