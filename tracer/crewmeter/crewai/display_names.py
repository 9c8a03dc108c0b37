"""Names of crews, tasks, agents and models as stable labels: identifiers, never content, never more than a line."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "agent_role",
    "crew_name",
    "declared_provider",
    "endpoint_of",
    "short",
    "task_labels",
    "text",
]

_LIMIT = 128


def text(value: object) -> str | None:
    """``value`` as text if it is a string, number or id; None for nothing and for anything empty."""
    if value is None:
        return None
    return (value if isinstance(value, str) else str(value)) or None


def short(value: object) -> str | None:
    """A string as one clean line of at most 128 characters; None for anything else."""
    if not isinstance(value, str):
        return None
    if len(value) <= _LIMIT:
        return _clean(value) or None
    line = " ".join(value.split())
    return line if len(line) <= _LIMIT else line[: _LIMIT - 1] + "…"


@lru_cache(maxsize=1024)
def _clean(value: str) -> str:
    """Remembered, as the same few models, agents and tools are named with every call."""
    return " ".join(value.split())


def crew_name(source: Any, event: Any) -> str:
    return (
        short(getattr(event, "crew_name", None)) or short(getattr(source, "name", None)) or "crew"
    )


def agent_role(agent: Any, default: str | None = None) -> str:
    """An agent's role as written, before inputs were filled in: the same label for every input, and no input in it."""
    return (
        short(getattr(agent, "_original_role", None))
        or short(getattr(agent, "role", None))
        or short(default)
        or "agent"
    )


def task_labels(crew: Any) -> Mapping[str, str]:
    """Task id → label of a crew's tasks: the task's name, or ``task N`` by position. Its description is content."""
    tasks = getattr(crew, "tasks", None)
    labels: dict[str, str] = {}
    if isinstance(tasks, list):
        for position, task in enumerate(tasks, start=1):
            labels[str(getattr(task, "id", position))] = (
                short(getattr(task, "name", None)) or f"task {position}"
            )
    return labels


def declared_provider(source: Any) -> str | None:
    """The provider an LLM object names. LiteLLM's objects may name none; then the model's prefix tells (see `crewmeter.spans.model_call`)."""
    provider = short(getattr(source, "provider", None))
    return provider.lower() if provider else None


def endpoint_of(source: Any) -> str | None:
    """The URL an LLM object talks to, where it says so."""
    for name in ("base_url", "endpoint", "api_base"):
        value = getattr(source, name, None)
        if isinstance(value, str) and value:
            return value
    return None
