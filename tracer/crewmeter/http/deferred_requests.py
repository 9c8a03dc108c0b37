"""The account of requests that an SDK sends later than they were made.

A ``.stream()`` sends its request as its ``with`` block is entered, an asynchronous ``create`` as it
is awaited. Either may happen after the ``attribute`` block in which it was written.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial, update_wrapper, wraps
from types import MethodType
from typing import TYPE_CHECKING, Any

from crewmeter import attribution
from crewmeter.http.patching import replace
from crewmeter.import_hook import patch_when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["DeferredCall", "keep_request_accounts"]

_STREAMS = (
    "openai.lib.streaming.chat._completions",
    "openai.lib.streaming.responses._responses",
    "openai.lib.streaming._assistants",
    "openai._response",
    "anthropic.lib.streaming._messages",
    "anthropic.lib.streaming._beta_messages",
    "anthropic._response",
)
"""Modules of the objects that send their request as their ``with`` block is entered."""
_STREAM_CLASSES = ("StreamManager", "ResponseContextManager")
"""What the names of those classes end with."""
_RESOURCES = (
    "openai.resources.chat.completions.completions",
    "openai.resources.completions",
    "openai.resources.embeddings",
    "openai.resources.images",
    "openai.resources.responses.responses",
    "openai.resources.audio.speech",
    "openai.resources.audio.transcriptions",
    "openai.resources.audio.translations",
    "anthropic.resources.messages.messages",
    "anthropic.resources.beta.messages.messages",
    "anthropic.resources.completions",
)
"""Modules of the classes whose coroutine functions send a request when they are awaited."""
_REQUESTS = ("create", "parse", "compact", "generate", "edit", "create_variation")
"""Methods that are billed."""


class DeferredCall:
    """A coroutine function that runs on the account of its call, not of its ``await``.

    An object with the attributes of the function, because before Python 3.12 `inspect` takes
    nothing else for a coroutine function but a function that runs later.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        update_wrapper(self, original)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the coroutine, with the account that is current now."""
        return _run(self.__wrapped__, attribution.current(), args, kwargs)


class _DeferredRequest(DeferredCall):
    """The same for an SDK's request.

    One made outside every block belongs to whoever sends it, or it would not be billed.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        account = attribution.current()
        if account is None:
            return self.__wrapped__(*args, **kwargs)
        return _run(self.__wrapped__, account, args, kwargs)


async def _run(
    original: Callable[..., Any],
    account: Mapping[str, str] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    # As nearly always: it is awaited where it was called.
    if attribution.current() is account:
        return await original(*args, **kwargs)
    with attribution.as_account(account):
        return await original(*args, **kwargs)


def keep_request_accounts() -> Callable[[], None]:
    """Patch the classes that send later, each as soon as it is imported.

    Returns:
        The function that undoes it.
    """
    streams = [(name, partial(_patch_streams, name)) for name in _STREAMS]
    resources = [(name, partial(_patch_resources, name)) for name in _RESOURCES]
    return patch_when_imported([*streams, *resources])


def _classes(module: str) -> list[type]:
    """Return the classes that a module defines."""
    return [
        value
        for value in vars(sys.modules[module]).values()
        if isinstance(value, type) and value.__module__ == module
    ]


def _patch_streams(module: str) -> Iterator[Callable[[], None]]:
    for owner in _classes(module):
        if not owner.__name__.endswith(_STREAM_CLASSES) or "__init__" not in vars(owner):
            continue
        yield replace(owner, "__init__", _with_account)
        if "__enter__" in vars(owner):
            yield replace(owner, "__enter__", _entered)
        if "__aenter__" in vars(owner):
            yield replace(owner, "__aenter__", _entered_async)


def _patch_resources(module: str) -> Iterator[Callable[[], None]]:
    for owner in _classes(module):
        # The SDKs' check of the arguments is a function around the coroutine function.
        methods = [
            name
            for name in _REQUESTS
            if inspect.iscoroutinefunction(inspect.unwrap(vars(owner).get(name, len)))
        ]
        for name in methods:
            yield replace(owner, name, _DeferredRequest)


def _with_account(original: Any) -> Any:
    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._crewmeter_account = attribution.current()

    return init


def _account(stream: Any) -> Mapping[str, str] | None:
    """Return the account a stream was made on, else the current one."""
    made_on: Mapping[str, str] | None = getattr(stream, "_crewmeter_account", None)
    return attribution.current() if made_on is None else made_on


def _entered(original: Any) -> Any:
    @wraps(original)
    def enter(self: Any) -> Any:
        with attribution.as_account(_account(self)):
            return original(self)

    return enter


def _entered_async(original: Any) -> Any:
    @wraps(original)
    async def enter(self: Any) -> Any:
        with attribution.as_account(_account(self)):
            return await original(self)

    return enter
