"""CrewAI's events that mark a moment of a span, and those that are ignored.

Together with `event_to_span.TABLE` these two tables name every event type of CrewAI. A test reads
the event classes of the installed CrewAI and fails for a type that no table has.
"""

from __future__ import annotations

from typing import Any

__all__ = ["IGNORED", "SPAN_EVENTS", "span_event_attributes"]

_CONTEXT = ("context_id",)
_REMOTE_AGENT = ("a2a_agent_name", "context_id")
_CHECKPOINT = ("provider", "trigger", "branch", "parent_id")
_SKILL = ("skill_name", "disclosure_level")

SPAN_EVENTS: dict[str, tuple[str, ...]] = {
    "tool_failure_detected": ("tool_name", "run_attempts"),
    "mcp_config_fetch_failed": ("slug", "error_type"),
    "hook_dispatched": ("interception_point", "outcome", "hook_count", "duration_ms"),
    "plan_refinement": ("step_number", "refined_step_count"),
    "plan_replan_triggered": ("step_number", "replan_count", "completed_steps_preserved"),
    "goal_achieved_early": ("step_number", "steps_completed", "steps_remaining"),
    "task_evaluation": ("evaluation_type",),
    "crew_test_result": ("quality", "execution_duration", "model"),
    "conversation_route_selected": ("route", "message_index"),
    "checkpoint_started": _CHECKPOINT,
    "checkpoint_completed": (*_CHECKPOINT, "checkpoint_id", "duration_ms"),
    "checkpoint_failed": _CHECKPOINT,
    "checkpoint_pruned": (*_CHECKPOINT, "removed_count", "max_checkpoints"),
    "checkpoint_fork_started": ("branch", "parent_branch"),
    "checkpoint_fork_completed": ("branch", "parent_branch"),
    "checkpoint_restore_started": ("provider",),
    "checkpoint_restore_completed": ("provider", "checkpoint_id", "branch", "duration_ms"),
    "checkpoint_restore_failed": ("provider",),
    "skill_discovery_started": (),
    "skill_discovery_completed": ("skills_found",),
    "skill_loaded": _SKILL,
    "skill_activated": _SKILL,
    "skill_used": _SKILL,
    "skill_load_failed": ("skill_name",),
    "skill_download_started": ("skill_name", "registry_ref", "version"),
    "skill_download_completed": ("skill_name", "registry_ref", "version"),
    "a2a_agent_card_fetched": ("a2a_agent_name", "protocol_version", "cached", "fetch_time_ms"),
    "a2a_authentication_failed": ("a2a_agent_name", "auth_type", "status_code"),
    "a2a_connection_error": (*_REMOTE_AGENT, "error_type", "status_code", "operation"),
    "a2a_transport_negotiated": ("a2a_agent_name", "negotiated_transport", "source"),
    "a2a_content_type_negotiated": ("a2a_agent_name", "negotiation_success"),
    "a2a_message_sent": (*_REMOTE_AGENT, "turn_number", "message_id"),
    "a2a_response_received": (*_REMOTE_AGENT, "turn_number", "status", "final"),
    "a2a_artifact_received": (*_REMOTE_AGENT, "artifact_id", "mime_type", "size_bytes"),
    "a2a_streaming_started": (*_REMOTE_AGENT, "turn_number"),
    "a2a_polling_started": (*_REMOTE_AGENT, "polling_interval"),
    "a2a_polling_status": (*_REMOTE_AGENT, "state", "poll_count"),
    "a2a_push_notification_registered": _REMOTE_AGENT,
    "a2a_push_notification_received": (*_REMOTE_AGENT, "state"),
    "a2a_push_notification_sent": (*_CONTEXT, "state", "success"),
    "a2a_push_notification_timeout": (*_REMOTE_AGENT, "timeout_seconds"),
    "a2a_context_created": _CONTEXT,
    "a2a_context_idle": (*_CONTEXT, "idle_seconds", "task_count"),
    "a2a_context_completed": (*_CONTEXT, "total_tasks", "duration_seconds"),
    "a2a_context_expired": (*_CONTEXT, "age_seconds", "task_count"),
    "a2a_context_pruned": (*_CONTEXT, "age_seconds", "task_count"),
}
"""Event type → the fields that become attributes of a span event on the enclosing span.

Only names, numbers and ids are listed: no text that a model, a tool or a person wrote.
"""

IGNORED: dict[str, str] = {
    "SIGINT": "a signal to the process, not work of a crew",
    "SIGTERM": "a signal to the process, not work of a crew",
    "SIGHUP": "a signal to the process, not work of a crew",
    "SIGTSTP": "a signal to the process, not work of a crew",
    "SIGCONT": "a signal to the process, not work of a crew",
    "cc_env": "says which editor started the process, for CrewAI's own telemetry",
    "codex_env": "says which editor started the process, for CrewAI's own telemetry",
    "cursor_env": "says which editor started the process, for CrewAI's own telemetry",
    "default_env": "says which editor started the process, for CrewAI's own telemetry",
    "agent_logs_started": "console output of an agent whose span exists already",
    "agent_logs_execution": "console output of an agent whose span exists already",
    "flow_created": "an object was made, nothing ran yet",
    "flow_plot": "a picture of a flow was drawn",
    "conversation_message_added": "the text of a conversation; its turns are spans",
    "a2a_streaming_chunk": "one piece of a response whose end is a span event",
}
"""Event type → why nothing is recorded."""

_LONGEST = 200
"""Characters of a text attribute; a longer one is cut."""


def span_event_attributes(event: Any) -> dict[str, str | int | float | bool]:
    """Return the attributes of a span event: its listed fields with a plain value."""
    attributes: dict[str, str | int | float | bool] = {}
    for name in SPAN_EVENTS[event.type]:
        value = getattr(event, name, None)
        if isinstance(value, str):
            attributes[f"crewai.{name}"] = value[:_LONGEST]
        elif isinstance(value, bool | int | float):
            attributes[f"crewai.{name}"] = value
    return attributes
