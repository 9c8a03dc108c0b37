"""What an on-call engineer is promised.

One commit for many, a stop that answers, signals that are let go, runs of other tracers.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.paths import SPAN_FIXTURES
from support.patience import patience
from support.sidecars import request

from crewmeter_cost.doctor.endpoint import check_endpoint
from crewmeter_cost.ledger.store import Ledger

pytestmark = pytest.mark.mostly_slow(
    "test_requests_that_wait_together_share_a_commit",
    "test_the_log_takes_in_what_libraries_say",
    "test_the_writer_waits_for_the_disk",
)

FIXTURES = SPAN_FIXTURES
CREWMETER = (sys.executable, "-c", "from crewmeter_cost.cli import main; main()")
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def in_threads(count: int, work) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def waited_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_requests_that_wait_together_share_a_commit(fresh):
    """Twenty requests arrive while the writer is busy.

    They cost two or three transactions, not twenty.
    """
    statuses = []
    with fresh.locked():
        threads = in_threads(20, lambda: statuses.append(fresh.post(request(3)).status))
        waited_for(lambda: fresh.metric("crewmeter_ingest_queue_spans") == 60)
        assert statuses == []  # nobody is answered before the commit
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
    assert len(fresh.stored()) == 60
    assert fresh.metric("crewmeter_ledger_write_seconds_count") <= 3


def test_the_writer_waits_for_the_disk(tmp_path):
    """What was acknowledged survives a power cut, and not only a kill.

    SQLite has to sync each commit.
    """
    ledger = Ledger.open(str(tmp_path / "ledger.db"), durable=True)
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ledger.close()


def test_stopped_it_answers_who_waits(nursery, tmp_path):
    """SIGTERM while requests wait for their commit, over HTTP and gRPC.

    Both are stored and acknowledged, then it ends.
    """
    with nursery.start(tmp_path / "ledger.db", grpc=True) as running:
        answers = []

        def over_grpc() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
                answers.append(channel.unary_unary(EXPORT)(request(5), timeout=120))

        with running.locked():
            threads = in_threads(
                1, lambda: answers.append(running.post(request(4)).status)
            ) + in_threads(1, over_grpc)
            waited_for(lambda: running.metric("crewmeter_ingest_queue_spans") >= 5)
            waited_for(lambda: running.metric("crewmeter_ingest_queue_spans") == 9)
            os.kill(running.pid, signal.SIGTERM)
            time.sleep(0.5)
        for thread in threads:
            thread.join()
        waited_for(lambda: not Path(f"/proc/{running.pid}").exists())
        running.ended = True
        assert sorted(map(str, answers)) == ["200", "b''"]
        assert len(running.stored()) == 9


def test_pruning_does_not_hold_up_senders(fresh):
    """Detail is pruned while spans keep coming: every batch is acknowledged, none waits long."""
    for _ in range(10):
        old = ExportTraceServiceRequest.FromString(request(4_000))
        for span in old.resource_spans[0].scope_spans[0].spans:
            span.start_time_unix_nano -= 100 * 86_400 * 10**9
            span.end_time_unix_nano -= 100 * 86_400 * 10**9
        assert fresh.post(old.SerializeToString()).status == 200
    slowest, done = [], threading.Event()

    def send() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert fresh.post(request(20)).status == 200
            slowest.append(time.monotonic() - began)

    threads = in_threads(2, send)
    command = [
        *CREWMETER,
        "prune",
        "--keep",
        "30d",
        "--format",
        "json",
        "--ledger",
        str(fresh.ledger),
    ]
    pruned = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, timeout=600
    )
    done.set()
    for thread in threads:
        thread.join()
    assert pruned.returncode == 0, pruned.stderr
    assert len(fresh.stored()) == 20 * len(slowest)
    assert fresh.get("/api/report").json()["total"]["calls"] == 40_000 + 20 * len(slowest)
    assert len(slowest) > 10
    assert max(slowest) < patience(2)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_stock_sdk_sends_metrics_and_logs_without_an_error(nursery, tmp_path, protocol, caplog):
    """The SDK's own exporters for the other signals report success and log nothing."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

    if protocol == "http":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    else:
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    reader, records = InMemoryMetricReader(), InMemoryLogRecordExporter()
    meters, loggers = MeterProvider([reader]), LoggerProvider()
    meters.get_meter("app").create_counter("requests").add(1)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(records))
    loggers.get_logger("app").emit(body="hello")
    with (
        nursery.start(tmp_path / "ledger.db", grpc=True) as running,
        caplog.at_level(logging.WARNING),
    ):
        address = (
            f"http://127.0.0.1:{running.port}/v1/{{}}"
            if protocol == "http"
            else f"http://127.0.0.1:{running.grpc_port}"
        )
        metric_exporter, log_exporter = (
            OTLPMetricExporter(endpoint=address.format("metrics")),
            OTLPLogExporter(address.format("logs")),
        )
        assert metric_exporter.export(reader.get_metrics_data()) is MetricExportResult.SUCCESS
        assert log_exporter.export(records.get_finished_logs()).name == "SUCCESS"
        for part in (metric_exporter, log_exporter, meters, loggers):
            part.shutdown()
        label = "http/protobuf" if protocol == "http" else "grpc"
        assert (
            running.metric(
                f'crewmeter_ingest_requests_total{{outcome="ignored",protocol="{label}"}}'
            )
            == 2
        )
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "tools"), [("openinference", {"archive": 1.0, "fact_check": 0.0}), ("openllmetry", {})]
)
def test_a_crew_without_our_tracer_has_runs_and_contexts(fresh, name, tools):
    """Captured spans of a crew under another instrumentor.

    Its run, and money and success by agent, task and tool, as far as they tell.
    """
    for part in json.loads((FIXTURES / f"{name}.json").read_text())["requests"]:
        assert fresh.post(json.dumps(part).encode(), content_type="application/json").status == 200
    (run,) = fresh.get("/api/runs").json()
    assert (run["kind"], run["name"], run["status"], run["calls"], run["tool_calls"]) == (
        "crew",
        "newsroom",
        "ok",
        5,
        len(tools),
    )
    assert run["cost_usd"] == "0.00079816"
    agents = {
        row["agent"]: (row["calls"], row["cost_usd"])
        for row in fresh.get("/api/report?by=agent").json()["rows"]
    }
    assert agents == {"Researcher": (3, "0.00060016"), "Writer": (2, "0.000198")}
    tasks = fresh.get("/api/report?by=task").json()["rows"]
    assert sorted((row["calls"], row["success_rate"]) for row in tasks) == [(2, 1.0), (3, 1.0)]
    assert {
        row["tool"]: row["success_rate"] for row in fresh.get("/api/report?by=tool").json()["rows"]
    } == tools
    assert fresh.metric('crewmeter_runs_total{kind="crew",name="newsroom",status="ok"}') == 1


def test_doctor_examines_a_running_sidecar(nursery, tmp_path):
    """It says whether the key fits and whether the ledger takes writes, and what to do
    where not.
    """
    with nursery.start(tmp_path / "ledger.db", grpc=True, token="ingest:right-key-1") as running:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{running.port}"}
        key = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20right-key-1"}
        assert any("refuses the key" in finding.says for finding in check_endpoint(environ))
        found = [finding.says for finding in check_endpoint(environ | key)]
        assert any("takes OTLP/HTTP" in message for message in found)
        assert any("ready: its ledger takes writes" in message for message in found)
        with running.locked():
            running.post(request(1), authorization="Bearer right-key-1")
            assert any(
                "isn't ready" in finding.says and "locked" in finding.says
                for finding in check_endpoint(environ | key)
            )
        grpc_environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{running.grpc_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
        assert any("speaks gRPC" in finding.says for finding in check_endpoint(grpc_environ))


def test_an_open_sidecar_is_refused_at_the_command_line(tmp_path):
    """`crewmeter serve --host 0.0.0.0` without a key ends at once, says why and what to do,
    without a traceback.
    """
    environ = {name: value for name, value in os.environ.items() if name != "CREWMETER_TOKEN"}
    command = [*CREWMETER, "serve", "--host", "0.0.0.0", "--http-port", "0", "--no-grpc"]
    done = subprocess.run(
        [*command, "--ledger", str(tmp_path / "l.db")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "without a key" in done.stderr
    assert "--insecure" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "l.db").exists()


def test_a_flipped_wal_is_survived(nursery, tmp_path):
    """Bytes of the WAL turned round.

    What came before them is stored, whole batches only, and it goes on.
    """
    ledger = tmp_path / "ledger.db"
    running = nursery.start(ledger)
    for _ in range(6):
        assert running.post(request(50)).status == 200
    running.kill()
    wal = tmp_path / "ledger.db-wal"
    damaged = bytearray(wal.read_bytes())
    for at in range(len(damaged) // 2, len(damaged), 997):
        damaged[at] ^= 0xFF
    wal.write_bytes(damaged)
    with nursery.start(ledger) as again:
        total = again.get("/api/report").json()["total"]["calls"]
        assert total == len(again.stored())
        assert total % 50 == 0
        assert again.post(request(2)).status == 200
        assert len(again.stored()) == total + 2


def test_every_line_of_the_log_is_json(nursery, tmp_path):
    """Clients that are wrong, gone or too late leave lines that a log collector can parse, or
    none.
    """
    with nursery.start(tmp_path / "ledger.db", grpc=True, limits={"connections": 5}) as running:
        running.post(b"\xff" * 100)
        running.ask("GET", "/nothing")
        running.ask("POST", "/v1/traces", b"{", {"content-type": "application/json"})
        with (
            grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary(EXPORT)(b"\xff" * 50)
        with running.locked():
            running.post(request(1))
        running.terminate()
        lines = running.raw_log().splitlines()
        assert lines
        assert {"time", "level", "logger", "message"} <= set.intersection(
            *(set(json.loads(line)) for line in lines)
        )


def test_the_log_takes_in_what_libraries_say():
    """Asyncio's complaints, warnings and exceptions with their traceback.

    One JSON object a line each, crewmeter's own at their level.
    """
    program = (
        "import logging, warnings; from crewmeter_cost.sidecar.json_logs import configure; "
        "configure()\n"
        "warnings.warn('old\\nstyle')\n"
        "logging.getLogger('crewmeter.sidecar').info('hello'); "
        "logging.getLogger('urllib3').info('chatter')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('asyncio').exception('lost')\n"
    )
    environ = {**os.environ, "CREWMETER_LOG_LEVEL": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("py.warnings", "warning"),
        ("crewmeter.sidecar", "info"),
        ("asyncio", "error"),
    ]
    assert "ZeroDivisionError" in lines[2]["exception"]
