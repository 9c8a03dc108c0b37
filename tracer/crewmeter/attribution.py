"""The account that calls are made on: user, team, session and tags."""

from __future__ import annotations

import inspect
import sys
import threading
from contextlib import ContextDecorator, contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
    from types import TracebackType

__all__ = [
    "Attribution",
    "as_account",
    "attribute",
    "carry",
    "current",
    "parse_tags",
    "tag_attributes",
]

_MAX_LENGTH = 256
"""Longest user, team, session or tag value (characters). Longer ones are cut with an ellipsis."""

_FIELDS = {"user": semconv.USER, "team": semconv.TEAM, "session": semconv.SESSION}
"""Names that are fields of their own, and so never tags."""

_CARRIED = "_crewmeter_account"
"""Attribute of a thread: the account of the block in which it was started."""

_UNSET: Mapping[str, str] = {}
"""Stands for a context that has never been inside a block, known by its identity."""
_current: ContextVar[Mapping[str, str] | None] = ContextVar("crewmeter_attribution", default=_UNSET)
_threads_carry = False
"""Whether any thread has been started inside a block. Until then none is looked at."""

Function = TypeVar("Function", bound="Callable[..., Any]")


class Attribution(ContextDecorator):
    """A ``with`` block or decorator inside which every span carries some attributes.

    Works in synchronous and asynchronous code alike. Blocks nest: an inner one adds to the outer
    one and overrides it. An instance may be entered again, also concurrently, because the values to
    restore are stored per context and not on the instance.
    """

    _outer: ClassVar[ContextVar[tuple[Mapping[str, str] | None, ...]]] = ContextVar(
        "crewmeter_attribution_outer", default=()
    )

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def __call__(self, func: Function) -> Function:
        """Put every call of a function on the account.

        A generator is on it at each step, and a coroutine whenever it is awaited.
        """
        if inspect.isasyncgenfunction(func):
            return self._wrapped(func, self._async_steps)
        if inspect.isgeneratorfunction(func):
            return self._wrapped(func, self._steps)
        if not inspect.iscoroutinefunction(func):
            return super().__call__(func)
        wrapped = self._wrapped(func, self._awaited)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(wrapped)
        return wrapped

    def _wrapped(self, func: Function, run: Callable[..., Any]) -> Function:
        @wraps(func)
        def call(*args: Any, **kwargs: Any) -> Any:
            return run(func(*args, **kwargs))

        return call  # type: ignore[return-value]  # what it returns is used as func's own result

    async def _awaited(self, coroutine: Any) -> Any:
        with self:
            return await coroutine

    def _steps(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run a generator in a context of its own, away from its caller's."""
        context = copy_context()
        context.run(self.__enter__)
        return _run_in(context, generator)

    async def _async_steps(self, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
        """Run each step of an asynchronous generator on the account."""
        account = {**(current() or {}), **self._attributes}
        try:
            while True:
                with as_account(account):
                    item = await anext(generator)
                yield item
        except StopAsyncIteration:
            return
        finally:
            with as_account(account):
                await generator.aclose()

    def __enter__(self) -> None:
        outer = current()
        self._outer.set((*self._outer.get(), outer))
        if outer:
            _current.set({**outer, **self._attributes})
        else:
            _current.set(self._attributes)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stack = self._outer.get()
        if stack:
            _current.set(stack[-1])
            self._outer.set(stack[:-1])

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


def attribute(
    *, user: str | None = None, team: str | None = None, session: str | None = None, **tags: object
) -> Attribution:
    """Put every call inside the ``with`` block on an account.

    Args:
        user: Who the calls are made for. None leaves the outer block's value, here and below.
        team: The team that pays.
        session: The conversation or session the calls belong to.
        tags: Free tags. ``report --by tag:KEY`` groups by them.

    Returns:
        A context manager that is a decorator too: for functions, coroutine functions and
        generators.
    """
    fields = {"user": user, "team": team, "session": session}
    return Attribution(tag_attributes({**tags, **fields}))


def current() -> Mapping[str, str] | None:
    """Return the attributes of the enclosing `attribute` blocks, None outside any.

    A thread is inside the blocks in which it was started.
    """
    account = _current.get()
    if account is not _UNSET:
        return account
    if not _threads_carry:
        return None
    carried: Mapping[str, str] | None = getattr(threading.current_thread(), _CARRIED, None)
    return carried


def carry(thread: threading.Thread, account: Mapping[str, str]) -> None:
    """Let a thread that is about to start inherit an account.

    A new thread begins with an empty context, before Python 3.14 always.
    """
    global _threads_carry
    _threads_carry = True
    setattr(thread, _CARRIED, account)


def _run_in(context: Context, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run every step of a generator in ``context``."""
    try:
        item = context.run(next, generator)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                context.run(generator.close)
                raise
            # What is thrown in goes on into the generator.
            except BaseException as error:  # noqa: BLE001
                item = context.run(generator.throw, error)
            else:
                item = context.run(generator.send, sent)
    except StopIteration as end:
        return end.value


@contextmanager
def as_account(account: Mapping[str, str] | None) -> Iterator[None]:
    """Run the block on an account that `current` returned elsewhere, and on no other."""
    before = current()
    _current.set(account)
    try:
        yield
    finally:
        _current.set(before)


def tag_attributes(tags: Mapping[str, object]) -> dict[str, str]:
    """Return tags as span attributes, with user, team and session as fields."""
    attributes: dict[str, str] = {}
    for key, value in tags.items():
        if key and value is not None:
            name = _FIELDS.get(
                key,
                semconv.TAG_PREFIX + key,
            )
            attributes[name] = _shortened(str(value))
    return attributes


def parse_tags(text: str) -> dict[str, str]:
    """Return ``k=v,k2=v2`` (as in ``CREWMETER_TAGS``) as a mapping.

    Raises:
        ValueError: A part is not ``key=value``. The message names the part.
    """
    tags: dict[str, str] = {}
    for part in text.split(","):
        part = part.strip()
        if not part:
            continue
        key, separator, value = part.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ValueError(
                f"CREWMETER_TAGS: {part!r} is not key=value; "
                "write e.g. CREWMETER_TAGS=team=search,env=prod"
            )
        tags[key] = value.strip()
    return tags


def _shortened(text: str) -> str:
    """Cut ``text`` to the length that an account's name may have."""
    if len(text) <= _MAX_LENGTH:
        return text
    return text[: _MAX_LENGTH - 1] + "…"
