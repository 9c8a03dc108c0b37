"""The account that calls are made on: user, team, session and tags."""

from __future__ import annotations

from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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

    def __enter__(self) -> None:
        outer = _current.get()
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
        A context manager that is a decorator too, for functions and coroutine functions.
    """
    fields = {"user": user, "team": team, "session": session}
    return Attribution(tag_attributes({**tags, **fields}))


def current() -> Mapping[str, str] | None:
    """Return the attributes of the enclosing `attribute` blocks, None outside any."""
    return _current.get()


@contextmanager
def as_account(account: Mapping[str, str] | None) -> Iterator[None]:
    """Run the block on an account that `current` returned elsewhere, and on no other."""
    before = _current.get()
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
