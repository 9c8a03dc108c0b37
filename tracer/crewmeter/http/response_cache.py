"""Answers from LiteLLM's response cache, for which no request is sent.

CrewAI reports them like any call, with the usage of the request that filled the cache.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from crewmeter.http.patching import replace
from crewmeter.import_hook import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["observe_cache"]

_MODULE = "litellm.caching.caching"


def observe_cache(hit: Callable[[], None]) -> Callable[[], None]:
    """Call ``hit`` in the caller's context whenever LiteLLM's cache has an answer.

    Returns:
        The function that undoes it.
    """
    undo: list[Callable[[], None]] = []

    def patch() -> None:
        cache = sys.modules[_MODULE].Cache
        undo.append(
            replace(
                cache,
                "get_cache",
                lambda get: _observed(get, hit),
            )
        )
        undo.append(
            replace(
                cache,
                "async_get_cache",
                lambda get: _observed_async(get, hit),
            )
        )

    stop_waiting = when_imported(_MODULE, patch)

    def restore() -> None:
        stop_waiting()
        while undo:
            undo.pop()()

    return restore


def _observed(original: Any, hit: Callable[[], None]) -> Any:
    @wraps(original)
    def get_cache(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        if answer is not None:
            hit()
        return answer

    return get_cache


def _observed_async(original: Any, hit: Callable[[], None]) -> Any:
    @wraps(original)
    async def async_get_cache(*args: Any, **kwargs: Any) -> Any:
        answer = await original(*args, **kwargs)
        if answer is not None:
            hit()
        return answer

    return async_get_cache
