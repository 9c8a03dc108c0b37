"""The seam.

Put in and taken out without a trace, missing, fed with nonsense, and failing inside.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("crewai")

import httpx
from crewai.events import event_bus
from crewai.events.event_bus import CrewAIEventsBus, crewai_event_bus
from crewai.events.types.llm_events import (
    LLMCallCompletedEvent,
    LLMCallStartedEvent,
    LLMCallType,
)
from crewai.events.types.tool_usage_events import ToolUsageFinishedEvent, ToolUsageStartedEvent
from support.patience import patience

import crewmeter
from crewmeter.crewai.event_to_span import TABLE


def seams():
    """Everything crewmeter replaces while it is installed."""
    return (
        CrewAIEventsBus.__dict__["emit"],
        CrewAIEventsBus.__dict__["aemit"],
        httpx.Client.__dict__["send"],
        httpx.AsyncClient.__dict__["send"],
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        dict(crewai_event_bus._sync_handlers),
        dict(crewai_event_bus._async_handlers),
        list(sys.meta_path),
    )


def test_uninstrument_leaves_everything_as_it_was(ledger_path):
    """The very same function objects are back, and CrewAI's registries were never touched."""
    before = seams()
    handle = crewmeter.instrument(ledger=str(ledger_path))
    assert CrewAIEventsBus.__dict__["emit"] is not before[0]
    handle.uninstrument()
    assert all(
        ours is theirs or ours == theirs for ours, theirs in zip(seams(), before, strict=True)
    )
    handle.uninstrument()
    crewmeter.uninstrument()


def test_instrumenting_twice_is_instrumenting_once(meter, llm):
    """The second call gives the same handle, and a call is billed once."""
    assert crewmeter.instrument() is meter.handle
    llm.call("hello")
    assert len(meter.calls()) == 1


def test_after_uninstrument_nothing_is_recorded(ledger_path, llm, meter):
    """Calls made afterwards are nobody's."""
    llm.call("one")
    meter.handle.flush(20)
    meter.handle.uninstrument()
    llm.call("two")
    from support.rows import call_rows

    assert len(call_rows(ledger_path)) == 1
    assert crewmeter.flush(1)


def test_importing_and_instrumenting_without_crewai():
    """In an environment without CrewAI both work, and importing crewmeter loads no SDK."""
    code = (
        "import sys; sys.modules['crewai'] = None; import crewmeter; "
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'crewai.', "
        "'sqlalchemy'))]; "
        "h = crewmeter.instrument(); h.uninstrument(); print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("fine", 0), done.stderr


def test_without_the_seam_the_books_are_exact(
    ledger_path, monkeypatch, caplog, fake_provider, worker, job, team, llm
):
    """With `emit` gone crewmeter listens in public, says so once, and still bills every exchange
    once, in its run.
    """

    class Changed(CrewAIEventsBus):
        pass

    monkeypatch.setattr(event_bus, "CrewAIEventsBus", Changed)
    before = dict(crewai_event_bus._sync_handlers)
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    assert [
        record.message for record in caplog.records if "no event bus it knows" in record.message
    ]
    team(
        job(worker(), "[[usage:in=1000 read=400 out=300]]"),
        job(worker("Writer"), name="write"),
        name="demo",
    ).kickoff()
    llm.call("hello")
    crewai_event_bus.flush()
    handle.uninstrument()
    from support.rows import call_rows, step_rows

    calls = call_rows(ledger_path)
    assert sorted((call["input_tokens"], call["output_tokens"]) for call in calls) == sorted(
        (entry.usage.input, entry.usage.output) for entry in fake_provider.billing_log.billed
    )
    assert {call["crew"] for call in calls} == {"demo", None}
    assert {step["kind"] for step in step_rows(ledger_path)} == {"crew", "task", "agent"}
    assert crewai_event_bus._sync_handlers == before


def test_a_fault_of_ours_does_not_reach_the_app(meter, monkeypatch, caplog, worker, job, team):
    """When every handler of ours fails, the crew's result is what it would have been, and the log
    has one line.
    """

    def broken(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(meter.handle._meter.recorder, "open", broken)
    with caplog.at_level(logging.WARNING, logger="crewmeter"):
        assert team(job(worker(), "[[say:unharmed]]")).kickoff().raw == "unharmed"
    assert sum("could not account" in record.message for record in caplog.records) == 1


NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(
        st.text(max_size=12), st.integers() | st.text(max_size=5) | st.none(), max_size=4
    ),
)
FIELDS = [
    "event_id",
    "parent_event_id",
    "started_event_id",
    "call_id",
    "model",
    "usage",
    "finish_reason",
    "response_id",
    "agent",
    "task",
    "crew_name",
    "flow_name",
    "method_name",
    "tool_name",
    "tool_args",
    "run_attempts",
    "from_cache",
    "failure",
    "error",
    "error_type",
    "agent_info",
    "server_name",
    "guardrail_type",
    "retry_count",
    "success",
    "step_number",
    "agent_role",
    "temperature",
    "stream",
    "inputs",
    "output",
    "available_functions",
    "crew",
    "timestamp",
]


class Event:
    """Something with a type and whatever other fields."""

    def __init__(self, kind: str, fields: dict[str, object]) -> None:
        self.type = kind
        self.__dict__.update(fields)


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([*sorted(TABLE), "no_such_event"]),
            st.dictionaries(st.sampled_from(FIELDS), NONSENSE, max_size=8),
        ),
        max_size=12,
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_malformed_events_harm_nobody(meter, events):
    """Fields missing or of the wrong type, ends without starts.

    No exception comes out, and all that was opened can be closed.
    """
    event_handler = meter.handle._meter._event_handler
    recorder = meter.handle._meter.recorder
    for number, (kind, fields) in enumerate(events):
        event_handler.handle(object(), Event(kind, fields), 10**18 + number)
    recorder.abandon_all(2 * 10**18)
    assert recorder.open_count == 0


def test_nonsense_usage_is_a_flagged_row(meter):
    """Negative or absurd counts are in the ledger as invalid usage, without tokens and without a
    cost.
    """
    event_handler = meter.handle._meter._event_handler
    for number, usage in enumerate(
        (
            {"prompt_tokens": -5, "completion_tokens": 1},
            {"prompt_tokens": 2**60, "completion_tokens": 1},
        )
    ):
        name = f"s{number}"
        base = {
            "event_id": name,
            "parent_event_id": None,
            "started_event_id": name,
            "call_id": name,
            "model": "gpt-4o",
        }
        event_handler.handle(object(), Event("llm_call_started", base), 10**18)
        event_handler.handle(
            object(), Event("llm_call_completed", {**base, "usage": usage}), 10**18 + 5
        )
    assert [
        (call["input_tokens"], call["cost_pusd"], call["cost_status"]) for call in meter.calls()
    ] == [(None, None, "invalid_usage")] * 2


class SlottedFailure:
    """A failed call's event that has no ``__dict__`` to read."""

    __slots__ = ("call_id", "error", "parent_event_id", "started_event_id", "type")


def test_a_failed_call_is_one_whatever_cannot_be_read_of_it(meter):
    """Its error stands before anything else of its end is read."""
    event_handler = meter.handle._meter._event_handler
    started = {"event_id": "f", "parent_event_id": None, "call_id": "f", "model": "gpt-4o"}
    event_handler.handle(object(), Event("llm_call_started", started), 10**18)
    failure = SlottedFailure()
    failure.type, failure.error = "llm_call_failed", TimeoutError("late")
    failure.call_id = failure.started_event_id = "f"
    failure.parent_event_id = None
    event_handler.handle(object(), failure, 10**18 + 5)
    assert [call["error_type"] for call in meter.calls()] == ["TimeoutError"]


class Lazy:
    """A tool call of a response whose fields raise when they are read."""

    @property
    def function(self):
        raise RuntimeError("not loaded yet")


@pytest.mark.parametrize("capture", [True, False])
def test_odd_content_costs_no_call_and_no_step(ledger_path, capture):
    """A response or an output that is no JSON, or raises when read, is billed by the next flush."""
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False, capture_content=capture)
    source = SimpleNamespace(model="gpt-4o", provider="openai")
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    for number, odd in enumerate(({(1, 2): 3}, [Lazy()])):
        call = {"call_id": f"odd-{number}", "model": "gpt-4o", "messages": []}
        crewai_event_bus.emit(source, LLMCallStartedEvent(**call))
        ended = LLMCallCompletedEvent(
            **call, response=odd, call_type=LLMCallType.LLM_CALL, usage=usage
        )
        crewai_event_bus.emit(source, ended)
        tool = {"tool_name": "t", "tool_args": {}, "tool_class": "T"}
        crewai_event_bus.emit(source, ToolUsageStartedEvent(**tool))
        now = datetime.now(UTC)
        finished = ToolUsageFinishedEvent(**tool, started_at=now, finished_at=now, output=odd)
        crewai_event_bus.emit(source, finished)
    assert handle.flush(patience(20))
    from support.rows import call_rows, step_rows

    assert [call["input_tokens"] for call in call_rows(ledger_path)] == [10, 10]
    assert len([step for step in step_rows(ledger_path) if step["kind"] == "tool"]) == 2
    handle.uninstrument()
