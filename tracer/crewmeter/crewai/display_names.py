"""Names of crews, tasks, agents and models as stable labels.

They are identifiers and never content, one line each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter.spans.labels import short

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "agent_role",
    "crew_name",
    "has_mocked_client",
    "joined",
    "object_key",
    "task_labels",
]

_CLIENTS = ("client", "async_client", "_client", "_async_client")
"""Attributes in which LLM objects hold the clients of their providers."""


def crew_name(source: Any, event: Any) -> str:
    """Return a crew's name as its event or the crew itself has it."""
    own = getattr(source, "name", None)
    return short(getattr(event, "crew_name", None)) or short(own) or "crew"


def agent_role(agent: Any, default: str | None = None) -> str:
    """Return an agent's role as written, before inputs were filled in.

    The label is then the same for every input, and contains none of it.
    """
    return (
        short(getattr(agent, "_original_role", None))
        or short(getattr(agent, "role", None))
        or short(default)
        or "agent"
    )


def task_labels(crew: Any) -> Mapping[str, str]:
    """Return task id → label of a crew's tasks: the task's name, or ``task N``.

    The description of a task is content.
    """
    tasks = getattr(crew, "tasks", None)
    labels: dict[str, str] = {}
    if isinstance(tasks, list):
        for position, task in enumerate(tasks, start=1):
            task_id = str(getattr(task, "id", position))
            name = short(getattr(task, "name", None))
            labels[task_id] = name or f"task {position}"
    return labels


def object_key(source: Any) -> str:
    """Return a key for an object of CrewAI, as long as it lives."""
    return f"{id(source):x}"


def joined(event: Any, fields: tuple[str, ...]) -> str | None:
    """Return the values of some fields of an event as one key."""
    values = [str(getattr(event, name, "")) for name in fields]
    return "/".join(values) or None


def has_mocked_client(source: Any) -> bool:
    """Return True for an LLM object whose client is a mock, which sends nothing."""
    private = getattr(source, "__pydantic_private__", None) or {}
    public = getattr(source, "__dict__", {})
    for name in _CLIENTS:
        client = private.get(
            name,
            public.get(name),
        )
        if type(client).__module__ == "unittest.mock":
            return True
    return False
