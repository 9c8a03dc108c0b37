"""Real crews → agent collector → gateway collector → sidecar → report.

Everything that goes wrong in between is tried.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.app import run_app
from support.collector_parts import ROOT, Collector, TraceBackend, post, wait_until
from support.collector_sidecar import KEY, Sidecar
from support.collector_traffic import run
from support.invoice import billed_lines, ledger_lines
from support.rows import call_rows

pytestmark = pytest.mark.services
APPS = ROOT / "tests/e2e/apps"


@pytest.fixture
def sidecar(tmp_path: Path):
    """A running sidecar."""
    part = Sidecar(tmp_path / "sidecar").start()
    yield part
    part.stop()


@pytest.fixture
def line(collectors, sidecar: Sidecar, trace_end: TraceBackend) -> Collector:
    """Yield the agent of a line agent → gateway → sidecar.

    The line samples 1 % of healthy traces.

    The agent, where apps send to.
    """
    gateway = collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=sidecar.url,
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
        CREWMETER_TRACE_PERCENT="1",
        CREWMETER_DECISION_WAIT="2s",
        CREWMETER_DECISION_WAIT_AFTER_ROOT="1s",
        CREWMETER_TOKEN=KEY,
    )
    agent = collectors("agent", CREWMETER_GATEWAY=gateway.http)
    agent.gateway = gateway
    return agent


def play(fake_provider, line: Collector, folder: Path, *apps: str, **environment: str):
    """Run end-to-end apps with only the standard variable pointing at the agent."""
    local = folder / "not-used.db"
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": line.http} | environment
    ran = run_app(
        APPS / "play.py", *apps, ledger=local, provider_url=fake_provider.url, env=environment
    )
    assert not local.exists(), "with an endpoint set the app keeps no ledger of its own"
    return ran


def delivered(fake_provider) -> int:
    return sum(billed_lines(fake_provider.billing_log.billed).values())


def test_real_crews_arrive_exactly_although_traces_are_sampled(
    fake_provider, line, sidecar, trace_end, tmp_path
):
    """The ledger equals the provider's records to the pico-dollar under sampling.

    The app samples 1 % at the head and the gateway 1 % at the tail.

    The ledger equals the provider's books, to the pico-dollar.
    """
    apps = ("simple", "with_tool", "streaming", "flow", "agent_kickoff", "for_each", "bare_call")
    play(
        fake_provider,
        line,
        tmp_path,
        *apps,
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.01",
    )
    wait_until(
        lambda: sidecar.calls() >= delivered(fake_provider),
        seconds=20,
        what="every billed call in the ledger",
    )
    assert ledger_lines(call_rows(sidecar.ledger)) == billed_lines(fake_provider.billing_log.billed)
    time.sleep(3)  # every trace is decided
    assert len({span.trace_id for span in trace_end.spans}) <= 3, (
        "the trace back end got more than the sample"
    )
    total = sidecar.report("crew", "agent")["total"]
    assert total["unpriced_calls"] == 0
    assert total["calls"] == len(fake_provider.billing_log.billed)


def test_what_the_apps_sampler_drops_is_billed_and_not_traced(
    collectors, fake_provider, sidecar, trace_end, tmp_path
):
    """Spans that OTEL_TRACES_SAMPLER=always_off drops are billed and not traced.

    Nothing for a trace back end that keeps 100 %, everything for the ledger.
    """
    gateway = collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=sidecar.url,
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
        CREWMETER_TRACE_PERCENT="100",
        CREWMETER_DECISION_WAIT="1s",
        CREWMETER_DECISION_WAIT_AFTER_ROOT="1s",
        CREWMETER_TOKEN=KEY,
    )
    play(fake_provider, gateway, tmp_path, "simple", OTEL_TRACES_SAMPLER="always_off")
    wait_until(lambda: sidecar.calls() >= delivered(fake_provider), seconds=20)
    assert ledger_lines(call_rows(sidecar.ledger)) == billed_lines(fake_provider.billing_log.billed)
    time.sleep(3)
    assert trace_end.spans == []


def test_an_outage_with_crashes_in_it_leaves_the_ledger_exact(
    fake_provider, line, sidecar, tmp_path
):
    """An outage with killed collectors leaves the ledger exact.

    The sidecar is down, collectors are killed with -9 meanwhile, and apps run on.

    Then everything back, and the books agree.
    """
    play(fake_provider, line, tmp_path, "simple")
    sidecar.stop()
    play(fake_provider, line, tmp_path, "simple", "streaming")
    line.gateway.kill()
    play(fake_provider, line, tmp_path, "simple")
    line.kill()
    line.start()
    line.gateway.start()
    sidecar.start()
    wait_until(
        lambda: sidecar.calls() >= delivered(fake_provider),
        seconds=60,
        what="every billed call in the ledger",
    )
    time.sleep(2)  # what was sent twice has arrived twice by now
    assert ledger_lines(call_rows(sidecar.ledger)) == billed_lines(fake_provider.billing_log.billed)


def test_opentelemetry_instrument_works_through_it(fake_provider, line, sidecar, tmp_path):
    """`opentelemetry-instrument python app.py` arrives through both collectors.

    The app has no line of ours in it.

    An app without a line of ours in it, through both collectors.
    """
    app = tmp_path / "plain.py"
    app.write_text(f"import sys\nsys.path.insert(0, {str(APPS)!r})\nimport simple\nsimple.main()\n")
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    starter = tmp_path / "start.py"
    starter.write_text(
        f"import os, sys\nos.execv({str(launcher)!r}, [{str(launcher)!r}, sys.executable, "
        f"{str(app)!r}])\n"
    )
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": line.http,
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(_other_instrumentors()),
    }
    run_app(
        starter, ledger=tmp_path / "not-used.db", provider_url=fake_provider.url, env=environment
    )
    assert fake_provider.billing_log.billed
    wait_until(lambda: sidecar.calls() >= delivered(fake_provider), seconds=20)
    assert ledger_lines(call_rows(sidecar.ledger)) == billed_lines(fake_provider.billing_log.billed)


def _other_instrumentors() -> list[str]:
    from importlib.metadata import entry_points

    return sorted(
        {entry.name for entry in entry_points(group="opentelemetry_instrumentor")} - {"crewmeter"}
    )


_JAVASCRIPT = """
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
const provider = new BasicTracerProvider({
  spanProcessors: [
    new BatchSpanProcessor(new OTLPTraceExporter({ url: process.argv[2] + '/v1/traces' })),
  ],
});
const tracer = provider.getTracer('a-javascript-app');
for (let i = 0; i < 7; i++) {
  tracer.startSpan('chat gpt-4o-mini', { attributes: {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'gpt-4o-mini',
    'gen_ai.usage.input_tokens': 1000, 'gen_ai.usage.output_tokens': 500,
  } }).end();
}
provider.shutdown().then(() => console.log('sent'));
"""


def test_a_javascript_client_works_through_it(line, sidecar):
    """Spans of the OpenTelemetry SDK for JavaScript are priced like any others."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crewmeter/javascript"
    if not (home / "node_modules/@opentelemetry/exporter-trace-otlp-http").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"name": "crewmeter-test-client", "private": true}')
        packages = [
            "@opentelemetry/sdk-trace-base@2.12.1",
            "@opentelemetry/exporter-trace-otlp-http@0.223.1",
            "@opentelemetry/api@~1.9.0",
        ]
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *packages],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    script = home / "client.cjs"
    script.write_text(_JAVASCRIPT)
    done = subprocess.run(
        ["node", str(script), line.http], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "sent", done.stderr
    wait_until(lambda: sidecar.calls() == 7, seconds=20)
    [row] = sidecar.report("model")["rows"]
    assert (row["model"], row["cost_usd"]) == ("gpt-4o-mini", "0.00315")


def test_lag_from_span_end_to_ledger_row(line, sidecar, record_property):
    """95 % of the calls are in the ledger within 3 s, through both collectors.

    Batching is at its defaults.
    """
    sent: dict[str, int] = {}
    lags: list[float] = []

    def watch() -> bool:
        now = time.time_ns()
        arrived = [
            ended
            for row in call_rows(sidecar.ledger)
            if (ended := sent.pop(str(row["span_id"]), None))
        ]
        lags.extend((now - ended) / 1e9 for ended in arrived)
        return not sent

    for _ in range(40):
        body, ids = run(1)
        sent |= dict.fromkeys(ids, time.time_ns())
        post(f"{line.http}/v1/traces", body)
        time.sleep(0.1)
        watch()
    wait_until(watch, seconds=20)
    p95 = statistics.quantiles(lags, n=20)[-1]
    print(json.dumps({"lag_p95_seconds": round(p95, 2), "calls": len(lags)}))
    record_property("lag_p95_seconds", round(p95, 2))
    assert p95 < 3
