"""The attributes a node hands down: where in the crew it is, and on whose account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import attribution, semconv
from crewmeter.spans.span import ROOT_KINDS, RunUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.span import OpenSpan

__all__ = ["assign_scope", "task_scope"]

_RESETS = {semconv.KIND_CREW: (semconv.TASK, semconv.AGENT_NAME)}
"""Inherited names that a kind begins anew: a nested crew's calls are not its caller's task."""
_RUN_NAME = {
    semconv.KIND_CREW: semconv.CREW,
    semconv.KIND_FLOW: semconv.FLOW,
    semconv.KIND_AGENT: semconv.AGENT_NAME,
    semconv.KIND_TRAIN: semconv.CREW,
    semconv.KIND_TEST: semconv.CREW,
}


def assign_scope(
    node: OpenSpan,
    added: Mapping[str, str] | None,
    base_scope: Mapping[str, AttributeValue],
    *,
    is_run: bool,
) -> None:
    """Set the run, account and scope of ``node``, whose parent and ids are set.

    ``added`` is what the node itself contributes. A root starts from ``base_scope``.
    """
    parent = node.parent
    account = attribution.current()
    inherited: Mapping[str, AttributeValue] = base_scope
    inherited_account: Mapping[str, str] | None = None
    if parent is not None:
        node.run = parent.run
        inherited = parent.scope
        inherited_account = parent.attribution
    changes_account = account is not None and (parent is None or account is not inherited_account)
    node.attribution = inherited_account if account is None else account
    becomes_run = is_run and node.run is None and node.kind in ROOT_KINDS
    if not added and not changes_account and not becomes_run:
        node.scope = inherited
        return
    scope = dict(inherited)
    for name in _RESETS.get(node.kind, ()):
        scope.pop(name, None)
    if account is not None:
        scope.update(account)
    if added:
        scope.update(added)
    if becomes_run:
        node.run = node
        node.run_usage = RunUsage()
        scope[semconv.RUN_ID] = f"{node.context.span_id:016x}"
        scope[semconv.RUN_KIND] = node.kind
        name_attribute = _RUN_NAME.get(node.kind, "")
        scope[semconv.RUN_NAME] = (added or {}).get(name_attribute, node.name)
    node.scope = scope


def task_scope(node: OpenSpan, scope: Mapping[str, str] | None) -> dict[str, str]:
    """Return the label of a task and rename ``node`` accordingly.

    It is the task's own name, else its number in the crew.
    """
    label = (scope or {}).get(semconv.TASK)
    if not label:
        label = "task"
        crew = node.parent.nearest(semconv.KIND_CREW) if node.parent is not None else None
        if crew is not None:
            label = (crew.labels or {}).get(
                node.key or "",
                label,
            )
    node.name = label if label.startswith("task") else f"task {label}"
    return {semconv.TASK: label}
