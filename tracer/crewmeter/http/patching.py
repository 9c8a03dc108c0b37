"""What is the same round every HTTP library's sending: the exchange is begun before it, and told how it went after it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter.http.http_call import inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.http.http_call import HttpExchange, Hub

__all__ = ["Seam", "replace", "watched", "watched_async"]


class Seam(Protocol):
    """One library's way of sending, read from the arguments and the result of the function that sends. Nothing here raises."""

    @property
    def library(self) -> str:
        """Whose it is; see `crewmeter.http.http_call.inside`."""

    @property
    def begin(self) -> Callable[..., HttpExchange | None]:
        """With the call's arguments: the exchange it opens, if it is a request to a model."""

    @property
    def failed(self) -> Callable[[HttpExchange, BaseException], object]:
        """The call raised."""

    @property
    def answered(self) -> Callable[..., object]:
        """With the exchange, what the call returned, and the call's arguments."""


def watched(original: Any, seam: Seam, hub: Hub) -> Any:
    """``original``, which sends a request, with ``seam`` round it while ``hub`` is active."""

    @functools.wraps(original)
    def send(*args: Any, **kwargs: Any) -> Any:
        exchange = seam.begin(*args, **kwargs) if hub.active else None
        if exchange is None:
            return original(*args, **kwargs)
        token = inside.set(seam.library)
        try:
            response = original(*args, **kwargs)
        except BaseException as error:
            seam.failed(exchange, error)
            raise
        finally:
            inside.reset(token)
        seam.answered(exchange, response, *args, **kwargs)
        return response

    return send


def watched_async(original: Any, seam: Seam, hub: Hub) -> Any:
    """The same for a coroutine function."""

    @functools.wraps(original)
    async def send(*args: Any, **kwargs: Any) -> Any:
        exchange = seam.begin(*args, **kwargs) if hub.active else None
        if exchange is None:
            return await original(*args, **kwargs)
        token = inside.set(seam.library)
        try:
            response = await original(*args, **kwargs)
        except BaseException as error:
            seam.failed(exchange, error)
            raise
        finally:
            inside.reset(token)
        seam.answered(exchange, response, *args, **kwargs)
        return response

    return send


def replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Put ``wrap(original)`` in the place of a class's function; the answer puts the very same function back."""
    original = owner.__dict__[name]
    wrapper = wrap(original)
    setattr(owner, name, wrapper)

    def restore() -> None:
        if (
            owner.__dict__.get(name) is wrapper
        ):  # else somebody wrapped ours, which now passes through
            setattr(owner, name, original)

    return restore
