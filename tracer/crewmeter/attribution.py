"""The account that calls are made on: user, team, session and tags."""

from __future__ import annotations

import inspect
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
    from types import TracebackType

__all__ = [
    "Attribution",
    "as_account",
    "attribute",
    "current",
    "parse_tags",
    "tag_attributes",
]

_MAX_LENGTH = 256
"""Longest user, team, session or tag value (characters). Longer ones are cut with an ellipsis."""

_FIELDS = {"user": semconv.USER, "team": semconv.TEAM, "session": semconv.SESSION}
"""Names that are fields of their own, and so never tags."""

_current: ContextVar[Mapping[str, str] | None] = ContextVar("crewmeter_attribution", default=None)
_outer: ContextVar[tuple[Mapping[str, str] | None, ...]] = ContextVar(
    "crewmeter_attribution_outer", default=()
)
"""What to go back to at the end of each open block, outermost first."""

Function = TypeVar("Function", bound="Callable[..., Any]")


class Attribution(ContextDecorator):
    """A ``with`` block or decorator inside which every span carries some attributes.

    Works in synchronous and asynchronous code alike. Blocks nest: an inner one adds to the outer
    one and overrides it. An instance may be entered again, also concurrently, because the values to
    restore are stored per context and not on the instance.
    """

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def __call__(self, func: Function) -> Function:
        """Put every call of a function on the account.

        A generator is on it at each step, and a coroutine whenever it is awaited.
        """
        if inspect.isasyncgenfunction(func):
            return _async_generator_function(self, func)
        if inspect.isgeneratorfunction(func):
            return _generator_function(self, func)
        if inspect.iscoroutinefunction(func):
            return _coroutine_function(self, func)
        return super().__call__(func)

    def __enter__(self) -> None:
        outer = current()
        _outer.set((*_outer.get(), outer))
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
        stack = _outer.get()
        if stack:
            _current.set(stack[-1])
            _outer.set(stack[:-1])

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


current: Callable[[], Mapping[str, str] | None] = _current.get
"""Returns the attributes of the enclosing `attribute` blocks, None outside any."""


@contextmanager
def as_account(account: Mapping[str, str] | None) -> Iterator[None]:
    """Run the block on an account that `current` returned elsewhere, and on no other."""
    before = current()
    _current.set(account)
    try:
        yield
    finally:
        _current.set(before)


class _Blocks:
    """The blocks that a generator has open, in force during its steps and only then.

    No context is copied: what else the generator sets there stays visible to its caller.
    """

    __slots__ = ("_account", "_before", "_outer")

    def __init__(self, block: Attribution) -> None:
        with block:
            self._account = _current.get()
            self._outer = _outer.get()

    def __enter__(self) -> None:
        self._before = _current.get(), _outer.get()
        _current.set(self._account)
        _outer.set(self._outer)

    def __exit__(self, *_: object) -> None:
        self._account = _current.get()
        self._outer = _outer.get()
        account, outer = self._before
        _current.set(account)
        _outer.set(outer)


def _coroutine_function(block: Attribution, func: Function) -> Function:
    @wraps(func)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with block:
            return await func(*args, **kwargs)

    return call  # type: ignore[return-value]  # what it returns is used as func's own result


def _generator_function(block: Attribution, func: Function) -> Function:
    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = func(*args, **kwargs)
        blocks = _Blocks(block)
        step: Callable[[Any], Any] = generator.send
        value: Any = None
        while True:
            try:
                with blocks:
                    item = step(value)
            except StopIteration as end:
                return end.value
            try:
                value = yield item
                step = generator.send
            except GeneratorExit:
                with blocks:
                    generator.close()
                raise
            # What is thrown in goes on into the generator.
            except BaseException as error:  # noqa: BLE001
                value = error
                step = generator.throw

    return call  # type: ignore[return-value]  # what it returns is used as func's own result


def _async_generator_function(block: Attribution, func: Function) -> Function:
    @wraps(func)
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = func(*args, **kwargs)
        blocks = _Blocks(block)
        step: Callable[[Any], Any] = generator.asend
        value: Any = None
        while True:
            try:
                with blocks:
                    item = await step(value)
            except StopAsyncIteration:
                return
            try:
                value = yield item
                step = generator.asend
            except GeneratorExit:
                with blocks:
                    await generator.aclose()
                raise
            # As above.
            except BaseException as error:  # noqa: BLE001
                value = error
                step = generator.athrow

    return call  # type: ignore[return-value]  # what it returns is used as func's own result


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
