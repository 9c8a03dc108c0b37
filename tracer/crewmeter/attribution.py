"""On whose account calls are made: user, team, session and free tags, kept in a context variable."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["Attribution", "attribute", "current", "parse_tags", "tag_attributes"]

_MAX_LENGTH = 256
"""Longest user, team, session or tag value kept (characters); longer ones are cut with an ellipsis."""

_current: ContextVar[Mapping[str, str] | None] = ContextVar("crewmeter_attribution", default=None)


class Attribution(ContextDecorator):
    """A ``with`` block (or decorator, sync or async block alike) inside which every span carries these attributes.

    Blocks nest: an inner one adds to and overrides the outer one. An instance may be entered again, also concurrently,
    because what to restore is kept per context, not on the instance.
    """

    _outer: ClassVar[ContextVar[tuple[Mapping[str, str] | None, ...]]] = ContextVar(
        "crewmeter_attribution_outer", default=()
    )

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def __enter__(self) -> None:
        outer = _current.get()
        self._outer.set((*self._outer.get(), outer))
        _current.set({**outer, **self._attributes} if outer else self._attributes)

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
    """Put every call inside the ``with`` block on this account. ``None`` leaves the outer value as it is."""
    attributes = {
        name: _clean(value)
        for name, value in ((semconv.USER, user), (semconv.TEAM, team), (semconv.SESSION, session))
        if value is not None
    }
    attributes.update(tag_attributes(tags))
    return Attribution(attributes)


def current() -> Mapping[str, str] | None:
    """Span attributes of the enclosing `attribute` blocks, or None outside any."""
    return _current.get()


def tag_attributes(tags: Mapping[str, object]) -> dict[str, str]:
    """Tags as span attributes; ``user``, ``team`` and ``session`` are no tags but fields of their own."""
    fields = {"user": semconv.USER, "team": semconv.TEAM, "session": semconv.SESSION}
    return {
        fields.get(key, semconv.TAG_PREFIX + key): _clean(value)
        for key, value in tags.items()
        if key and value is not None
    }


def parse_tags(text: str) -> dict[str, str]:
    """``k=v,k2=v2`` (as in ``CREWMETER_TAGS``) as a mapping; raises ValueError naming the part that is not ``key=value``."""
    tags: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise ValueError(
                f"CREWMETER_TAGS: {part!r} is not key=value; write e.g. CREWMETER_TAGS=team=search,env=prod"
            )
        tags[key.strip()] = value.strip()
    return tags


def _clean(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
