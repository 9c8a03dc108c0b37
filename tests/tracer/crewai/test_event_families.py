"""Every row of the event table, outcome by CrewAI's own event objects on CrewAI's own bus."""

from __future__ import annotations

import contextvars
import importlib
import pkgutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest

pytest.importorskip("crewai")

from crewai import LLM, Agent
from crewai.events import types as event_types
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus
from crewai.events.event_context import SCOPE_STARTING_EVENTS, VALID_EVENT_PAIRS
from crewai.tasks.task_output import TaskOutput
from opentelemetry import trace

import crewmeter
from crewmeter import semconv
from crewmeter.crewai.event_to_span import TABLE

ABSENT = {
    "llm_guardrail_failed",
    "a2a_delegation_failed",
    "a2a_conversation_failed",
    "a2a_parallel_delegation_failed",
}
"""Rows that CrewAI 1.15.30 pairs or once had, but has no event class for."""
COMPLETE = (1, 15, 30)
"""The first CrewAI with all the others."""

NAMES = {
    "crew_kickoff": "inner",
    "crew_train": "crew_train inner",
    "crew_test": "crew_test inner",
    "flow": "Planning",
    "method_execution": "begin",
    "task": "inner",
    "agent_execution": "Analyst",
    "lite_agent_execution": "Solo",
    "tool_usage": "fetch",
    "tool_validate_input_error": "fetch",
    "tool_selection_error": "fetch",
    "tool_execution_error": "fetch",
    "mcp_connection": "initialize files",
    "mcp_tool_execution": "tools/call fetch",
    "human_feedback": "human_feedback",
    "flow_input": "human_input",
    "llm_guardrail": "guardrail",
    "memory_query": "search_memory",
    "memory_retrieval": "search_memory",
    "memory_save": "upsert_memory",
    "knowledge_query": "retrieval",
    "knowledge_search_query": "retrieval",
    "agent_reasoning": "plan",
    "plan_step": "plan",
}
"""What steps are called by stem, where it is not the stem itself."""


class Source:
    """Whatever emits; the outer crew and the flow of these tests."""

    name = "inner"
    role = "Solo"


@dataclass
class Outcome:
    """What became of one row.

    Its rows in the ledger and what the process looked like meanwhile and afterwards.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    was_current: bool = False
    left_open: int = 0


def classes() -> dict[str, type[BaseEvent]]:
    """Event type → CrewAI's class for it."""
    for module in pkgutil.iter_modules(event_types.__path__):
        importlib.import_module(f"{event_types.__name__}.{module.name}")
    found: dict[str, type[BaseEvent]] = {}
    waiting = list(BaseEvent.__subclasses__())
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        kind = cls.model_fields["type"].default
        if isinstance(kind, str) and cls.__module__.startswith("crewai."):
            found[kind] = cls
    return found


Emitted = tuple[object, BaseEvent]
REAL = classes()
STARTS = {
    "human_feedback_received": "human_feedback_requested",
    "flow_input_received": "flow_input_requested",
    **{end: start for end, start in VALID_EVENT_PAIRS.items() if end in TABLE},
}


def start_of(end: str) -> str:
    """The type that opens what ``end`` closes: by CrewAI's pairs, else by name."""
    return STARTS.get(end) or f"{end.rsplit('_', 1)[0]}_started"


def stem_of(kind: str) -> str:
    return kind.removesuffix("_started").removesuffix("_requested")


ENDS = sorted(
    kind
    for kind, rule in TABLE.items()
    if rule.phase == "end" and rule.kind != semconv.KIND_LLM and kind in REAL
)
POINTS = sorted(kind for kind, rule in TABLE.items() if rule.phase == "point" and kind in REAL)


@pytest.fixture(scope="module")
def samples() -> dict[str, object]:
    """A value for every field some event of CrewAI's cannot do without."""
    agent = Agent(
        role="Analyst", goal="g", backstory="b", llm=LLM(model="gpt-4o-mini", api_key="sk-none")
    )
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return {
        "agent": agent,
        "agent_id": "a1",
        "agent_info": {"role": "Solo"},
        "agent_role": "Analyst",
        "call_type": "llm_call",
        "crew_name": "inner",
        "context": None,
        "endpoint": "http://127.0.0.1:1",
        "endpoints": ["http://127.0.0.1:1"],
        "eval_llm": "gpt-4o-mini",
        "failure_count": 0,
        "finished_at": now,
        "flow_name": "Planning",
        "guardrail": "be brief",
        "inputs": None,
        "iteration": 1,
        "limit": 3,
        "metric_category": "goal",
        "n_iterations": 1,
        "output": "done",
        "query_time_ms": 1.0,
        "ready": True,
        "result": "done",
        "retrieval_time_ms": 1.0,
        "retry_count": 0,
        "save_time_ms": 1.0,
        "score": 1,
        "server_name": "files",
        "started_at": now,
        "state": {},
        "status": "completed",
        "step_number": 1,
        "success": True,
        "success_count": 1,
        "task": None,
        "task_id": "t1",
        "method_name": "begin",
        "tool_args": {},
        "tool_class": Source,
        "tool_name": "fetch",
        "tools": None,
        "total_turns": 1,
    }


@pytest.fixture(scope="module")
def make(samples):
    """Makes CrewAI's event of a type, with its required fields and ``more``."""

    def event(kind: str, **more: object) -> BaseEvent:
        cls = REAL[kind]
        fields = {
            name: samples.get(name, name)
            for name, info in cls.model_fields.items()
            if info.is_required()
        }
        if "error" in fields:
            fields["error"] = (
                ValueError("no") if cls.model_fields["error"].annotation is Exception else "no"
            )
        if kind == "task_completed":
            fields["output"] = TaskOutput(description="d", agent="Analyst", raw="done")
        if kind == "tool_usage_error" or kind in POINTS:
            fields["tool_class"] = Source if kind == "tool_execution_error" else "Fetch"
        if kind == "tool_execution_error":
            fields["error"] = ValueError("no")
        return cls(**{**fields, **more})

    return event


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """A meter for the module; `tell` of a run, then its rows."""
    path = tmp_path_factory.mktemp("families") / "ledger.db"
    handle = crewmeter.instrument(ledger=str(path), summary=False)
    yield handle, path
    handle.uninstrument()


@pytest.fixture
def tell(recorder, make):
    """Emits events inside an outer crew's run, one after the other, and says what came of them."""
    handle, path = recorder
    outer = Source()

    def run(events: list[Emitted], name: str, replayed: Emitted | None) -> Outcome:
        outcome = Outcome()
        crewai_event_bus.emit(outer, make("crew_kickoff_started", crew_name=name))
        before = trace.get_current_span()
        for source, event in events:
            crewai_event_bus.emit(source, event)
            outcome.was_current |= trace.get_current_span() is not before
        if replayed is not None:
            crewai_event_bus.replay(*replayed)
        outcome.left_open = handle._meter.recorder.open_count - 1
        crewai_event_bus.emit(outer, make("crew_kickoff_completed", crew_name=name))
        assert handle._meter.recorder.open_count == 0
        return outcome

    def outcome(name: str, *events: Emitted, replayed: Emitted | None = None) -> Outcome:
        from support.rows import call_rows, step_rows

        if replayed is not None and not hasattr(crewai_event_bus, "replay"):
            pytest.skip("crewai_event_bus.replay is missing: this CrewAI has no checkpoints")
        result = contextvars.copy_context().run(run, list(events), name, replayed)
        assert handle.flush(20)
        rows = step_rows(path)
        root = next(
            row
            for row in rows
            if row["kind"] == "crew" and row["crew"] == name and row["span_id"] == row["run"]
        )
        result.steps = [row for row in rows if row["run"] == root["run"] and row is not root]
        result.calls = [row for row in call_rows(path) if row["run"] == root["run"]]
        assert all(row["parent_span_id"] == root["span_id"] for row in result.steps), (
            "not below the run that encloses them"
        )
        return result

    return outcome


def test_no_row_is_without_an_event():
    """Each row of the table has a class in this CrewAI, but for the few named here.

    A started span has an end.
    """
    lacking = {kind for kind in TABLE if kind not in REAL} - ABSENT
    if lacking and tuple(map(int, version("crewai").split(".")[:3])) < COMPLETE:
        pytest.skip(f"this CrewAI is older than {', '.join(sorted(lacking))}")
    assert not lacking
    starts = {kind for kind, rule in TABLE.items() if rule.phase == "start" and kind in REAL}
    assert {start_of(kind) for kind in ENDS} | {"llm_call_started"} == starts


def test_every_scope_of_crewai_is_a_row():
    """What CrewAI opens and closes on its stack is in the table.

    One that were not would hide what happens inside it.
    """
    assert set(SCOPE_STARTING_EVENTS) <= set(TABLE)
    assert {kind for kind in VALID_EVENT_PAIRS if kind in REAL} <= set(TABLE)


@pytest.mark.parametrize("end", ENDS)
def test_a_pair_is_one_closed_span(tell, make, end):
    """A start and an end make one span of the table's kind below its run, current meanwhile, an
    error where the end says so.
    """
    source, start = Source(), start_of(end)
    outcome = tell(f"pair {end}", (source, make(start)), (source, make(end)))
    assert outcome.left_open == 0
    assert outcome.was_current
    (step,) = outcome.steps
    stem = stem_of(start)
    assert (step["kind"], step["name"]) == (TABLE[end].kind, NAMES.get(stem, stem))
    assert step["status"] == ("error" if TABLE[end].failed else "ok")
    failed = "ValueError" if end in {"method_execution_failed", "flow_failed"} else "_OTHER"
    assert step["error_type"] == (failed if TABLE[end].failed else None)
    assert outcome.calls == []


@pytest.mark.parametrize("kind", POINTS)
def test_a_point_is_a_failed_span_of_no_length(tell, make, kind):
    """A tool that could not be chosen, fed or run is a failed tool step.

    The type of its failure says which.
    """
    outcome = tell(f"point {kind}", (Source(), make(kind)))
    (step,) = outcome.steps
    expected = "ValueError" if kind == "tool_execution_error" else kind
    assert (step["kind"], step["name"], step["status"], step["error_type"]) == (
        "tool",
        NAMES[kind],
        "error",
        expected,
    )
    assert outcome.left_open == 0


@pytest.mark.parametrize("end", ENDS)
def test_a_start_without_its_end_goes_with_its_run(tell, make, end):
    """When the end never comes, the run's own end closes the span, and finds the run though
    CrewAI's pairing slips by one.
    """
    outcome = tell(f"forgotten {end}", (Source(), make(start_of(end))))
    assert [step["kind"] for step in outcome.steps] == [TABLE[end].kind]
    assert outcome.left_open == 1, "open until the run ended, and no longer"


@pytest.mark.parametrize(
    "kind", sorted(kind for kind in TABLE if kind in REAL and TABLE[kind].phase != "chunk")
)
def test_a_replayed_event_makes_nothing(tell, make, kind):
    """What a checkpoint's restore dispatches again through the bus's `replay` happened, and was
    billed, before.
    """
    outcome = tell(f"replayed {kind}", replayed=(Source(), make(kind)))
    assert (outcome.steps, outcome.calls, outcome.left_open) == ([], [], 0)


def test_a_call_is_billed_by_its_event_and_timed_by_its_first_chunk(tell, make):
    """A call whose exchange nobody saw is billed with what its event reports.

    Replaying its end does not bill it again.
    """
    usage = {"prompt_tokens": 1000, "completion_tokens": 20}
    start = make("llm_call_started", call_id="call-1", model="gpt-4o-mini")
    chunk = make("llm_stream_chunk", call_id="call-1")
    end = make(
        "llm_call_completed",
        call_id="call-1",
        model="gpt-4o-mini",
        usage=usage,
        finish_reason="stop",
        response_id="r-1",
    )
    outcome = tell(
        "call", (Source(), start), (Source(), chunk), (Source(), end), replayed=(Source(), end)
    )
    (call,) = outcome.calls
    assert (call["input_tokens"], call["output_tokens"], call["finish_reason"]) == (
        1000,
        20,
        "stop",
    )
    assert call["ttft_ns"] is not None
    assert outcome.left_open == 0


def test_a_failed_call_is_a_row(tell, make):
    """It says that it failed, and claims neither tokens nor a cost."""
    start, end = (
        make(f"llm_call_{word}", call_id="call-2", model="gpt-4o-mini")
        for word in ("started", "failed")
    )
    outcome = tell("failed call", (Source(), start), (Source(), end))
    (call,) = outcome.calls
    assert (call["status"], call["input_tokens"], call["cost_pusd"]) == ("error", None, None)


def test_a_thought_is_a_first_token(tell, make):
    """Where a model thinks aloud first, that is when its answer began."""
    start, chunk, end = (
        make(kind, call_id="call-3", model="claude-sonnet-4-5")
        for kind in ("llm_call_started", "llm_thinking_chunk", "llm_call_completed")
    )
    (call,) = tell("thinking", (Source(), start), (Source(), chunk), (Source(), end)).calls
    assert call["ttft_ns"] is not None


def test_a_tool_that_reports_failure_failed(tell, make):
    """It ran and returned, and said that the work was not done.

    CrewAI's further event about it is no second step.
    """
    reports = pytest.importorskip("crewai.tools.tool_failure")  # since CrewAI 1.15
    failure = reports.ToolFailure(
        message="no such page", reason=reports.ToolFailureReason.TOOL_REPORTED
    )
    outcome = tell(
        "reported",
        (Source(), make("tool_usage_started")),
        (Source(), make("tool_failure_detected", failure=failure, policy="warn")),
        (Source(), make("tool_usage_finished", failure=failure)),
    )
    (step,) = outcome.steps
    assert (step["status"], step["error_type"]) == ("error", "tool_failure")


def test_a_cached_result_says_so(tell, make):
    """A tool's result taken from the cache is a step, marked."""
    (step,) = tell(
        "cached",
        (Source(), make("tool_usage_started")),
        (Source(), make("tool_usage_finished", from_cache=True)),
    ).steps
    assert step["status"] == "ok"
    assert step["details"] == '{"cached": true}'


def test_a_guardrail_that_says_no_ran_well(tell, make):
    """A refusal is the guardrail's result, not its failure.

    The step tells which attempt it judged.
    """
    outcome = tell(
        "guarded",
        (Source(), make("llm_guardrail_started", retry_count=2)),
        (Source(), make("llm_guardrail_completed", success=False, error="too long", retry_count=2)),
    )
    (step,) = outcome.steps
    assert step["status"] == "ok"
    assert step["details"] == '{"attempts": 2, "passed": false}'
    assert "too long" not in str(step)


@pytest.mark.parametrize(
    ("stem", "fields", "error"),
    [
        ("a2a_delegation", {"status": "failed", "error": "refused"}, "a2a_failed"),
        ("a2a_delegation", {"status": "rejected"}, "a2a_rejected"),
        ("a2a_delegation", {"status": "input_required"}, None),
        ("a2a_conversation", {"status": "failed"}, "a2a_failed"),
        ("a2a_parallel_delegation", {"success_count": 0, "failure_count": 2}, "a2a_failed"),
        ("a2a_parallel_delegation", {"success_count": 1, "failure_count": 1}, None),
    ],
)
def test_another_agents_failure_is_one(tell, make, stem, fields, error):
    """A2A tells its failures by the status of a completed event; there is no event of failure."""
    outcome = tell(
        f"{stem} {fields}",
        (Source(), make(f"{stem}_started")),
        (Source(), make(f"{stem}_completed", **fields)),
    )
    (step,) = outcome.steps
    assert (step["status"], step["error_type"]) == ("error" if error else "ok", error)


@pytest.mark.parametrize("end", ["flow_paused", "method_execution_paused"])
def test_a_pause_is_marked(tell, make, end):
    """A flow that waits for a person has neither finished nor failed."""
    source = Source()
    (step,) = tell(f"paused {end}", (source, make(start_of(end))), (source, make(end))).steps
    assert step["status"] == "ok"
    assert step["details"] == '{"paused": true}'
