"""Where finished spans go: the user's provider, our own exporters, metrics, log lines, the summary.

Sampled or not.
"""

from __future__ import annotations

import json
import logging
import threading
import time

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, TraceIdRatioBased
from support.patience import patience
from support.rows import call_rows, step_rows

import crewmeter
from crewmeter import semconv
from crewmeter.console.kickoff_summary import KickoffSummary
from crewmeter.console.run_log import RunLog
from crewmeter.export import import_wait
from crewmeter.export.batch_processor import LOADED_SPANS, LONGEST_DELAY_S, BatchProcessor
from crewmeter.settings import TracerSettings
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder

NOW = 1_800_000_000 * 10**9


@pytest.mark.parametrize("theirs", [True, False])
def test_usage_is_never_sampled_away(ledger_path, llm, fake_provider, monkeypatch, theirs):
    """A 1 % sampler, the user's or ours.

    The ledger has every call all the same, and the user's own exporter what was sampled.
    """
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=TraceIdRatioBased(0.01))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.01")
    handle = crewmeter.instrument(
        ledger=str(ledger_path), summary=False, tracer_provider=provider if theirs else None
    )
    for _ in range(60):
        llm.call("hello")
    assert handle.flush(patience(60))
    handle.uninstrument()
    rows = call_rows(ledger_path)
    assert len(rows) == len(fake_provider.billing_log.billed) == 60
    assert len(memory.get_finished_spans()) < 20


def test_spans_of_the_users_provider_are_the_ledgers(ledger_path, worker, job, team):
    """With a provider of the user's, its processors see the very spans that are in the ledger,
    attributes, resource and all.
    """
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False, tracer_provider=provider)
    team(job(worker(), name="t"), name="demo").kickoff()
    handle.uninstrument()
    spans = {f"{span.context.span_id:016x}": span for span in memory.get_finished_spans()}
    rows = [*call_rows(ledger_path), *step_rows(ledger_path)]
    assert {row["span_id"] for row in rows} == set(spans)
    assert {row["parent_span_id"] for row in rows} - {None} <= set(spans)
    (call,) = call_rows(ledger_path)
    theirs = spans[call["span_id"]]
    assert theirs.name == "chat gpt-4o-mini"
    assert theirs.attributes[semconv.INPUT_TOKENS] == call["input_tokens"]
    assert call["service"] == "shop"


def finished(kind=semconv.KIND_CREW, *, error=None):
    """A finished run with one call, as the export thread gets it: (call node, run node)."""
    done = []
    recorder = Recorder(done.append, sampler=DEFAULT_ON)
    run = recorder.open(
        "r", None, kind, "invoke_workflow demo", at_ns=NOW, scope={semconv.CREW: "demo"}
    )
    call = ModelCall()
    call.model, call.declared, call.first_chunk_ns = "gpt-4o", "openai", NOW + 250_000_000
    call.usage = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}
    node = recorder.open("1", "r", semconv.KIND_LLM, "chat gpt-4o", at_ns=NOW, call=call)
    recorder.close(node, NOW + 10**9)
    run.error_type = error
    recorder.close(run, NOW + 2 * 10**9)
    return done


class Keeper:
    """An exporter that keeps what it gets, fails as often as set, and knows costs."""

    def __init__(self, failures=0):
        self.failures = failures
        self.spans = []
        self.batches = []
        self.closed = False

    def export(self, spans):
        if self.failures:
            self.failures -= 1
            return SpanExportResult.FAILURE
        self.spans += spans
        self.batches.append(len(spans))
        return SpanExportResult.SUCCESS

    def run_cost(self, run_id):
        class Cost:
            cost_pusd = 5_000_000_000
            unpriced_calls = 0

        return Cost

    def shutdown(self):
        self.closed = True


def batch_processor(exporter, **more):
    processor = BatchProcessor("test", lambda: exporter, Resource.get_empty)
    for name, hook in more.items():
        setattr(processor, name, hook)
    return processor


def test_a_refused_batch_is_sent_again():
    """What an exporter refuses stays in order and tried again, and counted once."""
    exporter, seen = Keeper(failures=1), []
    post = batch_processor(exporter, before_export=seen.append)
    nodes = finished()
    for node in nodes:
        post.put(node)
    assert post.flush(10)
    assert [span.name for span in exporter.spans] == ["chat gpt-4o", "invoke_workflow demo"]
    assert seen == nodes
    assert post.close(5)
    assert exporter.closed


def test_a_flush_never_returns_early():
    """However put and the worker interleave, what was put before a flush is exported after it."""
    exporter = Keeper()
    post = batch_processor(exporter)
    (node, _) = finished()
    for number in range(1, 400):
        post.put(node)
        assert post.flush(10)
        assert len(exporter.spans) == number
    post.close(5)


def test_a_full_queue_loses_and_says_so(caplog, monkeypatch):
    """The queue is bounded; what does not fit is counted in one log line."""
    monkeypatch.setattr("crewmeter.export.batch_processor.CAPACITY", 1)
    monkeypatch.setattr(BatchProcessor, "start", lambda self: None)
    post = batch_processor(Keeper())
    nodes = finished()
    for node in nodes * 3:
        post.put(node)
    monkeypatch.undo()
    post.start()
    assert post.flush(10)
    post.close(5)
    (record,) = caplog.records
    assert record.getMessage() == (
        "the queue to test was full; lost since the last message: 5 spans"
    )


def test_a_missing_exporter_is_named(caplog):
    """OTEL_TRACES_EXPORTER with a name nothing answers to: the log says what there is."""
    handle = crewmeter.instrument(summary=False)
    handle.uninstrument()
    from crewmeter.export.exporters import make_exporter

    with pytest.raises(LookupError, match=r"no span exporter 'nonesuch'.*crewmeter"):
        make_exporter("nonesuch", TracerSettings())


@pytest.mark.parametrize("mode", ["text", "json"])
def test_the_log_has_a_line_per_run_and_failure(caplog, mode):
    """A run's line has status, duration, tokens, cost and trace id; a successful call has none."""
    log, exporter = RunLog(mode), Keeper()
    post = batch_processor(exporter, after_export=log.write)
    nodes = finished(error="RateLimitError")
    nodes[-1].run_usage.input_tokens = 1000
    with caplog.at_level(logging.INFO, logger="crewmeter.log"):
        for node in nodes:
            post.put(node)
        post.flush(10)
        post.close(5)
    (record,) = [record for record in caplog.records if record.name == "crewmeter.log"]
    assert record.levelno == logging.WARNING
    line = record.getMessage()
    fields = (
        json.loads(line)
        if mode == "json"
        else dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
    )
    assert (fields["event"], fields["status"], fields["error"], fields["crew"]) == (
        "crew",
        "error",
        "RateLimitError",
        "demo",
    )
    assert (
        str(fields["duration_seconds"]),
        str(fields["input_tokens"]),
        str(fields["cost_usd"]),
    ) == ("2.0", "1000", "0.005")
    assert fields["trace_id"] == f"{nodes[0].context.trace_id:032x}"


def test_the_summary_says_what_a_run_cost(capsys):
    """One line on stderr with cost, tokens, calls, time and where to see more.

    None when not wanted or not on a terminal.
    """
    node = finished()[-1]
    node.run_usage.calls, node.run_usage.input_tokens, node.run_usage.output_tokens = 2, 1500, 20
    KickoffSummary(True).write(node, Keeper())
    run_id = f"{node.context.span_id:016x}"
    assert (
        capsys.readouterr().err
        == "crewmeter: demo · $0.00500 · 1,500 in + 20 out tokens · 2 calls · 2.0 s · "
        f"crewmeter show {run_id}\n"
    )
    KickoffSummary(False).write(node, Keeper())
    KickoffSummary(None).write(node, Keeper())
    assert capsys.readouterr().err == ""


def test_the_instrumentor_does_what_instrument_does(ledger_path, llm):
    """`opentelemetry-instrument` finds it by its entry point.

    Kwargs it does not know are not ours.
    """
    from importlib.metadata import entry_points

    pytest.importorskip("crewai")
    (point,) = [
        point
        for point in entry_points(group="opentelemetry_instrumentor")
        if point.name == "crewmeter"
    ]
    instrumentor = point.load()()
    instrumentor.instrument(ledger=str(ledger_path), summary=False, meter_provider=None)
    llm.call("hello")
    instrumentor.uninstrument()
    assert len(call_rows(ledger_path)) == 1


@pytest.mark.slow
def test_batches_grow_under_load():
    """A span waits a tenth of a second in an idle app, up to four tenths where spans come thick."""
    exporter = Keeper()
    post = batch_processor(exporter)
    (node, _) = finished()

    def seconds_until_exported(spans):
        began, batches = time.monotonic(), len(exporter.batches)
        for _ in range(spans):
            post.put(node)
        deadline = began + patience(10)
        while len(exporter.batches) == batches and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(exporter.batches) > batches
        return time.monotonic() - began

    # The longest and the shortest of several, since a busy machine may stretch or split any one.
    thick = max(seconds_until_exported(2 * LOADED_SPANS) for _ in range(8))
    idle = min(seconds_until_exported(1) for _ in range(8))
    post.close(5)
    assert thick >= LONGEST_DELAY_S - 0.01
    assert idle < LONGEST_DELAY_S / 2 < thick


def test_spans_that_come_during_an_export_wait_for_company():
    """Else a large batch would be followed by many small ones, each with its own transaction."""
    (node, _) = finished()

    class Slow(Keeper):
        """Receives two more spans while it exports its first batch."""

        def export(self, spans):
            if not self.batches:
                post.put(node)
                post.put(node)
            return super().export(spans)

    exporter = Slow()
    post = batch_processor(exporter)
    for _ in range(5):
        post.put(node)
    deadline = time.monotonic() + patience(20)
    while sum(exporter.batches) < 7 and time.monotonic() < deadline:
        time.sleep(0.005)
    post.close(5)
    first, *others = exporter.batches
    assert others == [7 - first]


def test_the_end_of_a_run_is_delivered_at_once(monkeypatch):
    """However long a batch would wait for company."""
    monkeypatch.setattr("crewmeter.export.batch_processor.DELAY_S", 600.0)
    monkeypatch.setattr("crewmeter.export.batch_processor.LONGEST_DELAY_S", 600.0)
    exporter = Keeper()
    post = batch_processor(exporter)
    for node in finished():
        post.put(node)
    until = time.monotonic() + patience(10)
    while not exporter.batches and time.monotonic() < until:
        time.sleep(0.01)
    assert exporter.batches
    post.close(5)


def test_an_exit_waits_for_an_import_and_for_nothing_that_hangs(monkeypatch):
    """One deadline serves all exporters, and without processor time nothing is imported."""
    monkeypatch.setattr(import_wait, "IMPORTING_S", 3600)
    released = threading.Event()

    def hang():
        released.wait(600)
        return Keeper()

    def work():
        while not released.is_set():
            sum(range(1000))
        return Keeper()

    hanging = BatchProcessor("test", hang, Resource.get_empty)
    working = BatchProcessor("test", work, Resource.get_empty)
    for processor in (hanging, working):
        processor.put(finished()[0])
        began = time.monotonic()
        until = None if processor is hanging else began + 2
        assert not processor.close(0.01, until)
        assert (time.monotonic() >= began + 2) or processor is hanging
        assert time.monotonic() - began < patience(300)
    released.set()
