"""A real sidecar, a real Prometheus, a real Alertmanager.

Every PromQL returns series, and an alert ends in a webhook.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from support.boards import program, running, sidecar, until
from support.paths import ROOT
from support.ports import free_port
from support.prometheus_server import impatient_rules, prometheus_server, query

from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.records import Span
from crewmeter_dashboards.panels import CATALOGUE

pytestmark = [pytest.mark.slow, pytest.mark.services]

RULES = ROOT / "dashboards" / "prometheus"
PROMQL = [(panel.id, text) for panel in CATALOGUE.values() for text in panel.promql.values()]
NEEDS_COLLECTOR = "otelcol_"


def _readable(span: Span) -> ReadableSpan:
    """The span as the SDK would hand it to an exporter."""
    trace, flags = int(span.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
    parent = (
        SpanContext(trace, int(span.parent_span_id, 16), is_remote=False, trace_flags=flags)
        if span.parent_span_id
        else None
    )
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace, int(span.span_id, 16), is_remote=False, trace_flags=flags),
        parent=parent,
        resource=Resource(dict(span.resource)),
        attributes=dict(span.attributes),
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
        start_time=span.started_ns,
        end_time=span.ended_ns,
    )


def send(port: int, spans: list[Span]) -> None:
    """Send OTLP/HTTP to the sidecar, which answers once the batch is committed.

    It answers once the batch is committed.
    """
    body = encode_spans([_readable(span) for span in spans]).SerializeToString()
    request = Request(
        f"http://127.0.0.1:{port}/v1/traces", body, {"Content-Type": "application/x-protobuf"}
    )
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_every_promql_returns_series(tmp_path):
    """Each live panel has an answer once a sidecar with traffic is scraped.

    The collector's own metrics parse.
    """
    spans = list(history(2, 1, datetime.now(UTC), calls_per_day=200))
    half = len(spans) // 2
    with (
        sidecar(str(tmp_path / "ledger.db"), tmp_path / "sidecar.log") as port,
        prometheus_server(tmp_path, scrape=port) as base,
    ):
        send(port, spans[:half])
        until(lambda: query(base, "crewmeter_llm_calls_total"), what="the first scrape")
        time.sleep(2)
        send(port, spans[half:])
        stored = (
            f"sum(crewmeter_llm_calls_total) > "
            f"{0.9 * len([span for span in spans if span.name.startswith(('chat', 'embeddings'))])}"
        )
        until(lambda: query(base, stored), what="the second scrape")
        time.sleep(2)
        empty = []
        for panel, text in PROMQL:
            expression = text.replace("$__rate_interval", "1m")
            found = query(base, expression)  # raises for what Prometheus cannot parse
            if not found and NEEDS_COLLECTOR not in expression:
                empty.append((panel, expression))
        assert empty == []


@contextmanager
def alertmanager(folder: Path, inbox_url: str) -> Iterator[int]:
    """The committed configuration, impatient and pointed at the test's inbox."""
    config = yaml.safe_load((RULES / "alertmanager.yml").read_text("utf-8"))
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    port = free_port()
    manager = program("prometheus-alertmanager", "alertmanager")
    command = [str(ROOT / "scripts/alertmanager.sh"), str(path), f"--storage.path={folder / 'am'}"]
    env = {"ALERTMANAGER": manager, "ALERT_WEBHOOK_URL": f"{inbox_url}/hook"}
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    log = folder / "alertmanager.log"
    with running(command, ready=f"http://127.0.0.1:{port}/-/ready", log=log, env=env):
        yield port


def test_overspending_and_looping_runs_end_in_a_webhook(tmp_path, inbox):
    """Runs that cost too much and loop end in a page with its runbook.

    The way is sidecar → Prometheus → Alertmanager → a real receiver.
    """
    quiet = list(history(1, 1, datetime.now(UTC), calls_per_day=20))
    costly = list(history(17, 1, datetime.now(UTC), calls_per_day=2000))
    with (
        sidecar(str(tmp_path / "ledger.db"), tmp_path / "sidecar.log") as port,
        alertmanager(tmp_path, inbox.url) as manager,
        prometheus_server(
            tmp_path, scrape=port, alertmanager=manager, rules=impatient_rules(tmp_path)
        ) as base,
    ):
        send(port, quiet)
        until(lambda: query(base, "crewmeter_cost_usd_total"), what="the first scrape")
        time.sleep(2)
        for start in range(0, len(costly), 5000):
            send(port, costly[start : start + 5000])

        def named() -> set[str]:
            return {
                alert["labels"]["alertname"]
                for _, body in list(inbox.got)
                if body["receiver"] == "page"
                for alert in body["alerts"]
            }

        until(lambda: "SpendPerHourHigh" in named(), seconds=60, what="the page about spend")
        page = next(
            alert
            for path, body in inbox.got
            for alert in body["alerts"]
            if alert["labels"]["alertname"] == "SpendPerHourHigh"
        )
        assert page["annotations"]["runbook_url"].endswith("/runbooks/spend-per-hour/")
        assert page["labels"]["severity"] == "page"
        assert "$" in page["annotations"]["summary"]
