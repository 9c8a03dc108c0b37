"""Sessions of conversational flows, for the runs that their turns start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter import attribution, semconv
from crewmeter.crewai.display_names import object_key

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TURN_ENDS", "TURN_START", "ConversationTurns"]

TURN_START = "conversation_turn_started"
TURN_ENDS = frozenset({"conversation_turn_completed", "conversation_turn_failed"})
_MOST_OPEN = 1_000
"""Open turns that are remembered. Beyond it the oldest is forgotten: its end never came."""


class ConversationTurns:
    """The session of each conversational flow whose turn is under way.

    A turn starts a fresh run of its flow, so the turn needs no span of its own: the run carries
    the session. CrewAI emits the turn's start before it starts the flow, on the same object.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}

    def note(self, source: Any, event: Any) -> None:
        """Remember the session at a turn's start, and forget it at its end."""
        key = object_key(source)
        if event.type != TURN_START:
            self._sessions.pop(key, None)
            return
        session = getattr(event, "session_id", None)
        if isinstance(session, str) and session:
            if len(self._sessions) >= _MOST_OPEN:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[key] = session

    def scope_of(self, source: Any) -> Mapping[str, str]:
        """Return the session as a run's scope.

        Empty outside a turn, and where `attribute(session=…)` names another session.
        """
        session = self._sessions.get(object_key(source)) if self._sessions else None
        if session is None or semconv.SESSION in (attribution.current() or ()):
            return {}
        return {semconv.SESSION: session}
