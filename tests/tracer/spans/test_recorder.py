"""The tree builder with events as CrewAI gets them wrong.

Doubled, missing, in other threads and contexts.
"""

from __future__ import annotations

import contextvars
import gc
import os
import runpy
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from crewmeter import semconv
from crewmeter.spans import context_propagation, span_ids
from crewmeter.spans.active_spans import LOST_GRACE_NS, MAX_OPEN, TTL_NS
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder

NOW = 1_800_000_000 * 10**9
CREW, TASK, AGENT, LLM, TOOL = (
    semconv.KIND_CREW,
    semconv.KIND_TASK,
    semconv.KIND_AGENT,
    semconv.KIND_LLM,
    semconv.KIND_TOOL,
)


@pytest.fixture
def done():
    return []


@pytest.fixture
def recorder(done):
    return Recorder(done.append, sampler=DEFAULT_ON)


@pytest.fixture(autouse=True)
def own_context(empty_context):
    """A test of the recorder leaves no span current."""
    yield
    assert not trace.get_current_span().get_span_context().is_valid


def ended(recorder, kind, started_id, *, at_ns, key=None):
    """Close the open span that an end belongs to, as an event handler does."""
    node = recorder.match(kind, started_id, key)
    if node is not None:
        recorder.close(node, at_ns)
    return node


def run_in_copy(work, *arguments):
    """Run in a copy of this context, as a worker thread of CrewAI's would."""
    return contextvars.copy_context().run(work, *arguments)


def test_a_forgotten_end_does_not_swallow_what_follows(recorder):
    """A call whose end CrewAI never reports is over when the next one starts, and is no parent of
    it.
    """
    agent = recorder.open("a", None, AGENT, "agent", at_ns=NOW)
    first = recorder.open("1", "a", LLM, "chat", at_ns=NOW + 1, call=ModelCall())
    second = recorder.open("2", "1", LLM, "chat", at_ns=NOW + 2, call=ModelCall())
    tool = recorder.open("t", "2", TOOL, "tool", at_ns=NOW + 3)
    assert first.ended_ns is not None
    assert (second.parent, tool.parent) == (agent, agent)
    recorder.close(agent, NOW + 9)
    assert recorder.open_count == 0


def test_a_tool_run_inside_a_call_is_its_child(recorder):
    """Where CrewAI runs tools within the call (`available_functions`), they nest."""
    call = ModelCall()
    call.runs_tools = True
    outer = recorder.open("1", None, LLM, "chat", at_ns=NOW, call=call)
    tool = recorder.open("t", "1", TOOL, "tool", at_ns=NOW + 1)
    assert tool.parent is outer
    assert outer.ended_ns is None
    recorder.close(outer, NOW + 2)


def test_an_end_that_names_the_wrong_start_finds_its_own(recorder, done):
    """A doubled end makes CrewAI's pairing slip by one: kind and key decide, not the id."""
    recorder.open("c", None, CREW, "crew", at_ns=NOW)
    recorder.open("t", "c", TASK, "task", at_ns=NOW, key="T")
    recorder.open("a", "t", AGENT, "agent", at_ns=NOW)
    ended(recorder, AGENT, "t", at_ns=NOW + 1)
    ended(recorder, TASK, "c", at_ns=NOW + 2, key="T")
    ended(recorder, CREW, None, at_ns=NOW + 3)
    assert [node.kind for node in done] == [AGENT, TASK, CREW]
    assert ended(recorder, CREW, "c", at_ns=NOW + 4) is None


def test_a_start_and_its_end_may_be_in_different_contexts(recorder, caplog):
    """The end restores what was current where it can, and never raises or logs."""
    crew = recorder.open("c", None, CREW, "crew", at_ns=NOW)
    run_in_copy(lambda: recorder.open("x", "c", TOOL, "tool", at_ns=NOW + 1, key="x"))
    thread = threading.Thread(target=lambda: ended(recorder, TOOL, "x", at_ns=NOW + 2, key="x"))
    thread.start()
    thread.join()
    assert trace.get_current_span().get_span_context() == crew.context
    ended(recorder, CREW, "c", at_ns=NOW + 3)
    assert caplog.records == []


def test_spans_ended_elsewhere_are_no_parents(recorder):
    """A context that still holds a span which ended in another thread does not offer it as parent,
    nor keep a chain of them.
    """
    crew = recorder.open("c", None, CREW, "crew", at_ns=NOW)
    for number in range(50):
        recorder.open(f"x{number}", None, TOOL, "tool", at_ns=NOW, key=str(number))
        thread = threading.Thread(
            target=ended,
            args=(recorder, TOOL, f"x{number}"),
            kwargs={"at_ns": NOW + 1, "key": str(number)},
        )
        thread.start()
        thread.join()
    last = recorder.open("y", None, TOOL, "tool", at_ns=NOW)
    assert last.parent is crew
    recorder.close(last, NOW)
    recorder.close(crew, NOW)


def test_a_new_run_is_not_hung_below_a_finished_one(recorder):
    """CrewAI's stack may still name an old crew; a crew started now is a run of its own."""
    recorder.close(recorder.open("old", None, CREW, "crew", at_ns=NOW), NOW + 1)
    new = recorder.open("new", "old", CREW, "crew", at_ns=NOW + 2)
    assert new.parent is None
    assert new.run is new
    recorder.close(new, NOW + 3)


def test_a_late_save_belongs_to_its_finished_run(recorder):
    """A memory save on a pool thread that outlives the crew is still that run's."""
    crew = recorder.open("c", None, CREW, "crew", at_ns=NOW)
    context = contextvars.copy_context()
    recorder.close(crew, NOW + 1)
    late = context.run(
        lambda: recorder.open(
            "m", "c", semconv.KIND_MEMORY, "memory_save", at_ns=NOW + 2, current=False
        )
    )
    assert late.run is crew
    recorder.close(late, NOW + 3)


def test_abandoned_spans_are_closed_and_marked(recorder, done):
    """What nobody ends is closed after a day, or when the process ends; children before parents."""
    crew = recorder.open("c", None, CREW, "crew", at_ns=NOW, current=False)
    recorder.open("a", "c", AGENT, "agent", at_ns=NOW, current=False)
    recorder.sweep(NOW + TTL_NS)
    assert done == []
    recorder.sweep(NOW + TTL_NS + 1)
    recorder.sweep(NOW + TTL_NS + 1)
    assert [(node.kind, node.attributes[semconv.ABANDONED]) for node in done] == [
        (AGENT, True),
        (CREW, True),
    ]
    assert crew.ended_ns is not None


def test_a_cancelled_task_does_not_keep_its_span_open(recorder, done):
    """When every context that knew a span is gone, nobody can end it.

    It is abandoned soon, not after a day.
    """
    run_in_copy(lambda: recorder.open("c", None, CREW, "crew", at_ns=NOW))
    gc.collect()
    recorder.sweep(NOW + LOST_GRACE_NS + 1)
    assert [node.kind for node in done] == [CREW]


def test_open_spans_are_bounded(recorder, done):
    """Starts without ends cannot fill the memory."""
    for number in range(MAX_OPEN + 500):
        recorder.open(str(number), None, TOOL, "tool", at_ns=NOW + number, current=False)
    recorder.sweep(NOW + MAX_OPEN + 500)
    assert recorder.open_count == MAX_OPEN
    assert len(done) == 500


def test_ids_do_not_follow_the_apps_random_seed(recorder):
    """An app that seeds `random` must not give two runs the same span ids.

    The ledger would take them for one.
    """
    import random

    ids = set()
    for _ in range(2):
        random.seed(42)
        node = Recorder(lambda node: None, sampler=DEFAULT_ON).record(None, TOOL, "tool", at_ns=NOW)
        ids.add((node.context.trace_id, node.context.span_id))
    assert len(ids) == 2


def test_a_forked_child_leaves_the_parents_spans_alone(recorder):
    """The child has nothing open, other ids, and still books its calls in the run it was forked
    in.
    """
    crew = recorder.open("c", None, CREW, "crew", at_ns=NOW)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        recorder.reset_after_fork()
        node = recorder.open("k", "c", LLM, "chat", at_ns=NOW + 1, call=ModelCall(), current=False)
        os.write(
            write,
            f"{recorder.open_count} {node.run is crew} {node.context.span_id}".encode(),
        )
        os._exit(0)
    os.waitpid(pid, 0)
    said = os.read(read, 200).decode().split()
    os.close(read)
    os.close(write)
    mine = recorder.open("p", "c", LLM, "chat", at_ns=NOW + 1, call=ModelCall(), current=False)
    assert said[:2] == ["1", "True"]
    assert int(said[2]) != mine.context.span_id
    recorder.close(crew, NOW + 2)


def test_a_runtime_context_with_its_own_ways_is_used_by_them(monkeypatch):
    """OpenTelemetry's context variable is read directly only where its own class does no more."""

    class Own(ContextVarsRuntimeContext):
        def get_current(self):
            return Context({"own": True})

    monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", Own())
    read_again = runpy.run_path(context_propagation.__file__)
    assert read_again["current_values"]() == {"own": True}


def test_ids_are_inherited_from_contexts_of_another_form(recorder, done, monkeypatch):
    """A release of OpenTelemetry whose span contexts are no six fields loses nobody's parent."""
    monkeypatch.setattr(span_ids, "_HAS_SIX_FIELDS", False)
    crew = recorder.open("crew", None, CREW, "c", at_ns=NOW)
    above = crew.context
    crew.context = SimpleNamespace(
        trace_id=above.trace_id, trace_flags=above.trace_flags, trace_state=above.trace_state
    )
    task = recorder.open("task", "crew", TASK, "t", at_ns=NOW)
    assert task.context.trace_id == above.trace_id
    crew.context = above
    recorder.close(crew, NOW + 1)
