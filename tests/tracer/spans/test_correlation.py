"""Events and exchanges.

Each exchange is billed exactly once, whatever CrewAI says or forgets to say.
"""

from __future__ import annotations

import gc

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from crewmeter import lifecycle, semconv
from crewmeter.attribution import attribute
from crewmeter.export import readable_span
from crewmeter.export.readable_span import final_values, readable
from crewmeter.http.observation import HttpExchange
from crewmeter.providers.protocols.openai_chat import OPENAI_CHAT
from crewmeter.semconv.generations import Emitted
from crewmeter.spans.active_spans import MAX_CLOSED_CALLS
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder
from crewmeter.usage.token_usage import TokenUsage

NOW = 1_800_000_000 * 10**9
LLM, TOOL, AGENT = semconv.KIND_LLM, semconv.KIND_TOOL, semconv.KIND_AGENT


class Bench:
    """A recorder, its merger, and what was billed."""

    def __init__(self) -> None:
        self.done = []
        self.recorder = Recorder(self.done.append, sampler=DEFAULT_ON)

    def call(self, event_id="1", **fields):
        call = ModelCall()
        call.declared, call.model = "openai", "gpt-4o"
        return self.recorder.open(
            event_id,
            None,
            LLM,
            "chat gpt-4o",
            at_ns=NOW,
            key=f"key-{event_id}",
            call=call,
            **fields,
        )

    def exchange(self, usage=None, *, operation="chat", response_id=None, error=None, done=True):
        """Send a request and, unless `done` is False, get its answer."""
        exchange = HttpExchange(
            operation=operation,
            protocol=OPENAI_CHAT,
            provider="openai",
            host="h",
            port=1,
            request_model="gpt-4o",
        )
        self.recorder.exchange_opened(exchange)
        exchange.response_id, exchange.error_type = response_id, error
        if usage is not None:
            exchange.usage = TokenUsage(*usage)
        if done:
            self.finish(exchange)
        return exchange

    def finish(self, exchange):
        exchange.done, exchange.ended_ns = True, NOW + 5
        self.recorder.exchange_closed(exchange)

    def end(self, node, usage=None, response_id=None):
        node.call.usage, node.call.response_id = usage, response_id
        self.recorder.close(node, NOW + 10)

    def billed(self):
        """(input, output, origin, source) of every billed span."""
        spans = [
            readable(node, Resource.get_empty(), Emitted())
            for node in self.done
            if node.call is not None
        ]
        names = (
            semconv.INPUT_TOKENS,
            semconv.OUTPUT_TOKENS,
            semconv.CALL_ORIGIN,
            semconv.USAGE_SOURCE,
        )
        return [tuple(span.attributes.get(name) for name in names) for span in spans]


@pytest.fixture
def bench():
    return Bench()


PLAIN_ANSWER = ("id", "gpt-4o", None, "stop", (7, 3, 0, 0))
EVENT = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_the_wire_is_believed_before_the_event(bench):
    """Both report a usage: one span, with the provider's own count."""
    node = bench.call()
    bench.exchange((100, 30))
    bench.end(node, EVENT)
    assert bench.billed() == [(100, 30, "event", "wire")]


def test_without_a_wire_the_event_counts(bench):
    """No exchange was seen: the event's usage is taken."""
    bench.end(bench.call(), EVENT)
    assert bench.billed() == [(7, 3, "event", "event")]


def test_every_paid_exchange_of_a_call_is_billed(bench):
    """A second parse call or a tool loop.

    The span takes the exchange its event names, the others get spans of their own.
    """
    node = bench.call()
    bench.exchange((100, 30), response_id="first")
    bench.exchange((200, 60), response_id="second")
    bench.end(node, EVENT, response_id="first")
    assert sorted(bench.billed()) == [(100, 30, "event", "wire"), (200, 60, "wire", "wire")]


def test_refused_attempts_are_not_billed(bench):
    """Two refusals and an answer are one call."""
    node = bench.call()
    bench.exchange(error="429")
    bench.exchange(error="500")
    bench.exchange((100, 30))
    bench.end(node, EVENT)
    assert bench.billed() == [(100, 30, "event", "wire")]
    assert node.error_type is None


def test_a_call_waits_for_its_open_stream(bench):
    """The event has no usage and the stream is still open.

    The span is delivered when the stream ends, with its usage.
    """
    node = bench.call()
    exchange = bench.exchange(done=False)
    bench.end(node)
    assert bench.done == []
    exchange.usage = TokenUsage(100, 30)
    bench.finish(exchange)
    assert bench.billed() == [(100, 30, "event", "wire")]
    assert node.ended_ns == NOW + 10


def test_a_stream_that_never_ends_is_missing_not_zero(bench):
    """At exit such a call is delivered without tokens."""
    bench.end(bench.call())
    node = bench.call("2")
    bench.exchange(done=False)
    bench.end(node)
    bench.recorder.abandon_all(NOW + 20)
    assert bench.billed() == [(None, None, "event", "event"), (None, None, "event", "wire")]


def test_an_exchange_in_a_tool_is_a_call_of_that_tool(bench):
    """Embeddings and direct SDK use have no event.

    They are billed where they happen, failed ones too.
    """
    tool = bench.recorder.open("t", None, TOOL, "tool", at_ns=NOW, scope={semconv.TOOL: "search"})
    bench.exchange((50, 0), operation="embeddings")
    bench.exchange(error="500")
    bench.recorder.close(tool, NOW + 9)
    assert bench.billed() == [(50, 0, "wire", "wire"), (None, None, "wire", "wire")]
    embedding, failed = (node for node in bench.done if node.call is not None)
    assert (embedding.kind, embedding.parent, embedding.scope[semconv.TOOL]) == (
        semconv.KIND_EMBEDDING,
        tool,
        "search",
    )
    assert failed.error_type == "500"


def test_an_exchange_of_nobodys_is_left_alone(bench):
    """The app's own use of an SDK, outside any run, is none of our business unless an account
    encloses it.
    """
    bench.exchange((50, 5))
    assert bench.billed() == []
    with attribute(team="search"):
        bench.exchange((60, 6))
    assert bench.billed() == [(60, 6, "wire", "wire")]
    assert bench.done[0].scope[semconv.TEAM] == "search"


def test_a_second_end_of_one_call_is_billed_only_if_nothing_else_had_it(bench):
    """Bedrock's tool loop ends one call twice.

    A doubled failure or an exchange that was seen adds nothing.
    """
    node = bench.call()
    bench.end(node)
    assert bench.recorder.find_ended_call("key-1", None) is node
    assert bench.recorder.find_ended_call("key-1", EVENT) is None
    seen = bench.call("2")
    bench.exchange((100, 30))
    bench.end(seen, None)
    assert bench.recorder.find_ended_call("key-2", EVENT) is seen


class Model:
    """An LLM object with a counter, as CrewAI's."""

    def __init__(self) -> None:
        self.prompt_tokens = self.completion_tokens = self.cached_prompt_tokens = (
            self.cache_creation_tokens
        ) = self.reasoning_tokens = 0

    def get_token_usage_summary(self):
        return self

    def used(self, prompt, completion):
        self.prompt_tokens += prompt
        self.completion_tokens += completion


def test_the_counter_speaks_where_all_else_is_silent(bench):
    """Neither event nor exchange has a usage, but the LLM object counted one.

    The call takes it, marked reconciled.
    """
    model, node = Model(), bench.call()
    bench.recorder.watch_counter(model, node.call)
    model.used(80, 20)
    bench.end(node)
    assert bench.billed() == [(80, 20, "event", "counter")]


def test_the_counter_never_doubles_what_is_known(bench):
    """The counter grows with every call; a call that has its usage takes nothing from it."""
    model = Model()
    for number in range(3):
        node = bench.call(str(number))
        bench.recorder.watch_counter(model, node.call)
        bench.exchange((100, 30))
        model.used(100, 30)
        bench.end(node, EVENT)
    assert bench.billed() == [(100, 30, "event", "wire")] * 3


def test_overlapping_calls_leave_one_residual(bench):
    """Two calls of one object at once, one silent.

    What the counter has beyond the other's usage is a residual span.
    """
    model, loud, silent = Model(), bench.call("1", current=False), bench.call("2", current=False)
    for node in (loud, silent):
        bench.recorder.watch_counter(model, node.call)
    model.used(100, 30)
    model.used(40, 10)
    bench.end(silent)
    bench.end(loud, {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130})
    assert sorted(bench.billed(), key=str) == [
        (100, 30, "event", "event"),
        (40, 10, "residual", "counter"),
        (None, None, "event", "event"),
    ]


def test_counters_keep_no_model_alive(bench):
    """An LLM object that is gone is gone for us, too."""
    import gc
    import weakref

    model, node = Model(), bench.call()
    bench.recorder.watch_counter(model, node.call)
    bench.end(node)
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None
    assert not bench.recorder._correlator.counters._windows


def test_a_forgotten_call_on_another_thread_ends_with_its_agent(bench):
    """LiteLLM with tools reports no end.

    Its exchange is over, so the agent's end is the call's end too.
    """
    from threading import Thread

    agent = bench.recorder.open("agent", None, AGENT, "invoke_agent Writer", at_ns=NOW)

    def work():
        call = ModelCall()
        call.declared, call.model = "openai", "gpt-4o"
        bench.recorder.open("forgotten", "agent", LLM, "chat gpt-4o", at_ns=NOW, key="k", call=call)
        bench.exchange((10, 5))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    bench.recorder.close(agent, NOW + 20)
    assert bench.billed() == [(10, 5, "event", "wire")]


def test_an_answer_is_read_where_it_is_exported(bench):
    """The app's thread never parses a short answer whose event has its usage.

    The span has the wire's word all the same.
    """
    node = bench.call()
    exchange = bench.exchange(done=False)
    read = []

    def later(answer):
        read.append(1)
        answer.usage = TokenUsage(11, 6)

    exchange.read_later(later)
    bench.finish(exchange)
    bench.end(node, usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    assert read == []
    assert bench.billed() == [(11, 6, "event", "wire")]
    assert read == [1]


def test_an_answer_that_cannot_be_read_late_costs_no_span(bench):
    """It is flagged, and the event's usage counts."""

    def broken(_):
        raise RuntimeError("no")

    node = bench.call()
    exchange = bench.exchange(done=False)
    exchange.read_later(broken)
    bench.finish(exchange)
    bench.end(node, usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    assert bench.billed() == [(10, 5, "event", "event")]


def _calls_alive() -> list[ModelCall]:
    return [found for found in gc.get_objects() if type(found) is ModelCall]


def test_ended_calls_are_freed_but_for_the_last():
    """No garbage collector is needed for it, and so an app's memory does not grow with its calls.

    A call, its request and the note of whose that is held each other.
    """
    bench = Bench()
    gc.collect()
    gc.disable()
    earlier = _calls_alive()  # those of other tests, which this list keeps alive
    try:
        for number in range(2 * MAX_CLOSED_CALLS):
            node = bench.call(f"call-{number}")
            exchange = bench.exchange(done=False)
            exchange.read_later(lambda _: None, lambda _: PLAIN_ANSWER)
            bench.finish(exchange)
            bench.end(node, EVENT)
            final_values(node)
            bench.done.clear()
        del node, exchange
        alive = _calls_alive()
    finally:
        gc.enable()
    assert len(alive) - len(earlier) <= MAX_CLOSED_CALLS


def test_a_forked_child_has_locks_of_its_own():
    """A lock that another thread held at the fork stays held, and would stop the child."""
    bench = Bench()
    node = bench.call()
    correlator = bench.recorder._correlator
    held = (correlator._lock, correlator.counters._lock, readable_span._lock)
    for lock in held:
        lock.acquire()
    lifecycle._after_fork()
    bench.recorder.reset_after_fork()
    for fresh in (correlator._lock, correlator.counters._lock, readable_span._lock):
        assert not fresh.locked()
    bench.recorder.close(node, NOW + 1)
    assert not bench.done
