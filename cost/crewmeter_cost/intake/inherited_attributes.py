"""The context attributes of a crewmeter span, as a `CallContext`.

The same few contexts are built once.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from crewmeter import semconv
from crewmeter_cost.intake.coerce import text
from crewmeter_cost.records import CallContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["call_context_of", "environment_of", "tags_of"]

_KEYS = (
    semconv.RUN_ID,
    semconv.RUN_KIND,
    semconv.RUN_NAME,
    semconv.CREW,
    semconv.FLOW,
    semconv.TASK,
    semconv.AGENT_NAME,
    semconv.TOOL,
    semconv.USER,
    semconv.TEAM,
    semconv.SESSION,
)
_PREFIX = semconv.TAG_PREFIX
_TAG_LIMIT = 32
"""Tags stored of one span; further ones are dropped, in the order they came."""
_CACHE_LIMIT = 4096
_LONGEST_KEY = 2048
_contexts: dict[tuple[object, ...], CallContext] = {}
_tags: dict[tuple[str, ...], tuple[str, ...]] = {}
Key = TypeVar("Key")
Value = TypeVar("Value")


def tags_of(pairs: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    """Return tags as sorted (key, value) pairs of clean text.

    Those past the limit, or without a key or value, are dropped.
    """
    clean = ((text(key), text(value)) for key, value in islice(pairs, _TAG_LIMIT))
    return tuple(
        sorted((key, value) for key, value in clean if key is not None and value is not None)
    )


def environment_of(resource: Mapping[str, object]) -> str | None:
    """Return the deployment environment, by its present name or the one before."""
    return text(resource.get(semconv.ENVIRONMENT) or resource.get(semconv.ENVIRONMENT_OLD))


def _tag_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of a span's attributes are tags.

    Spans of one code path have the same names, so this is nearly always remembered.
    """
    known = _tags.get(names)
    if known is None:
        known = tuple(name for name in names if name.startswith(_PREFIX))
        if sum(map(len, names)) <= _LONGEST_KEY:
            _remember(_tags, names, known)
    return known


def call_context_of(
    attributes: Mapping[str, object], resource: Mapping[str, object]
) -> CallContext:
    """Return the context that crewmeter's tracer wrote on a span.

    The same attribute values give the same object, from a bounded cache.
    """
    raw = (
        *map(attributes.get, _KEYS),
        tuple([(key, attributes[key]) for key in _tag_keys(tuple(attributes))]),
        resource.get(semconv.SERVICE_NAME),
        resource.get(semconv.ENVIRONMENT) or resource.get(semconv.ENVIRONMENT_OLD),
    )
    try:
        known = _contexts.get(raw)
    except TypeError:  # a list or map where a name belongs cannot be a key
        return _build(raw)
    if known is None:
        known = _build(raw)
        if len(repr(raw)) <= _LONGEST_KEY:
            _remember(_contexts, raw, known)
    return known


def _remember(cache: dict[Key, Value], key: Key, value: Value) -> None:
    """Store what is short.

    At most `_CACHE_LIMIT` keys of `_LONGEST_KEY` characters: a few megabytes, whatever is sent.
    """
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()
    cache[key] = value


def _build(raw: tuple[object, ...]) -> CallContext:
    *names, tags, service, environment = raw
    run_id, run_kind, run_name, crew, flow, task, agent, tool, user, team, session = (
        text(name) for name in names
    )
    return CallContext(
        run_id=run_id,
        run_kind=run_kind,
        run_name=run_name,
        crew=crew,
        flow=flow,
        task=task,
        agent=agent,
        tool=tool,
        user=user,
        team=team,
        session=session,
        tags=tags_of((str(key)[len(_PREFIX) :], value) for key, value in tags)
        if isinstance(tags, tuple)
        else (),
        service=text(service),
        environment=text(environment),
    )
