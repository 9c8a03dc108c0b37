"""Every event type of the installed CrewAI is a span, a span event, or ignored with a reason."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("crewai")

import crewai
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.flow_events import (
    ConversationTurnCompletedEvent,
    ConversationTurnStartedEvent,
)
from crewai.events.types.hook_events import HookDispatchedEvent
from crewai.flow.flow import Flow, start
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import crewmeter
from crewmeter import semconv
from crewmeter.crewai.conversation_turns import TURN_ENDS, TURN_START
from crewmeter.crewai.event_to_span import TABLE
from crewmeter.crewai.span_events import IGNORED, SPAN_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator


def event_types() -> set[str]:
    """The type of every concrete event class of the installed CrewAI."""
    for module in pkgutil.walk_packages(crewai.__path__, "crewai."):
        if "event" in module.name:
            importlib.import_module(module.name)
    types = (cls.model_fields["type"].default for cls in descendants(BaseEvent))
    return {name for name in types if isinstance(name, str)}


def descendants(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("crewai."):
            yield child
        yield from descendants(child)


def test_every_event_of_crewai_is_accounted_for():
    """A new CrewAI with an event that no table names fails here, by the event's name."""
    known = set(TABLE) | set(SPAN_EVENTS) | set(IGNORED) | {TURN_START} | TURN_ENDS
    assert sorted(event_types() - known) == []


def test_no_event_stands_in_two_tables():
    """An event opens a span, marks one, or is ignored: one of the three."""
    assert not set(TABLE) & set(SPAN_EVENTS)
    assert not (set(TABLE) | set(SPAN_EVENTS)) & set(IGNORED)


def test_span_events_name_fields_that_crewai_has():
    """A renamed field of CrewAI's event would leave its attribute out in silence."""
    event_types()
    classes = {cls.model_fields["type"].default: cls for cls in descendants(BaseEvent)}
    for name, fields in SPAN_EVENTS.items():
        if name in classes:
            assert set(fields) <= set(classes[name].model_fields), name


class Chat(Flow):
    """A flow of one step, which emits an event as CrewAI's own code does."""

    @start()
    def reply(self):
        hook = HookDispatchedEvent(
            interception_point="before_llm_call",
            outcome="proceeded",
            hook_count=2,
            duration_ms=1.5,
            abort_reason="a secret",
        )
        crewai_event_bus.emit(self, hook)
        return "hello"


@pytest.fixture
def spans():
    """The spans that a provider of the user's own receives."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    handle = crewmeter.instrument(tracer_provider=provider, summary=False)
    yield lambda: handle.flush(10) and exporter.get_finished_spans()
    handle.uninstrument()


@pytest.mark.slow
def test_an_event_is_on_the_span_around_it_without_text(spans):
    """A dispatched hook marks the flow's step, with numbers and names only."""
    Chat().kickoff()
    marked = [(span, event) for span in spans() for event in span.events]
    ((span, event),) = marked
    assert span.attributes[semconv.KIND] == semconv.KIND_METHOD
    assert event.name == "hook_dispatched"
    assert event.attributes["crewai.hook_count"] == 2
    assert "a secret" not in str(event.attributes)


def turn(flow: Flow, session: str) -> None:
    """Run one conversational turn as `Flow.handle_turn` does."""
    named = {"flow_name": "Chat", "session_id": session}
    crewai_event_bus.emit(flow, ConversationTurnStartedEvent(**named))
    flow.kickoff()
    crewai_event_bus.emit(flow, ConversationTurnCompletedEvent(**named))


def sessions(spans) -> list[object]:
    """The session of each run, in order."""
    runs = [span for span in spans() if span.attributes[semconv.KIND] == semconv.KIND_FLOW]
    return [run.attributes.get(semconv.SESSION) for run in runs]


def test_a_conversational_turn_is_a_run_of_its_session(spans):
    """Each turn's run carries the session, and a kickoff after the turn does not."""
    flow = Chat()
    turn(flow, "s-1")
    Chat().kickoff()
    turn(Chat(), "s-2")
    assert sessions(spans) == ["s-1", None, "s-2"]


def test_an_attributed_session_wins(spans):
    """`attribute(session=…)` is the name the app gives, so it stays."""
    with crewmeter.attribute(session="mine"):
        turn(Chat(), "s-1")
    assert sessions(spans) == ["mine"]
