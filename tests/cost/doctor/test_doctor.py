"""`crewmeter doctor`: what is broken is named, with the way out; what is fine passes."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint, PackageNotFoundError
from pathlib import Path

import pytest
from support.ledger_build import call, frozen, priced
from support.paths import ROOT

from crewmeter_cost.doctor import FAILED, NOTE, OK
from crewmeter_cost.doctor.endpoint import check_endpoint
from crewmeter_cost.doctor.host import VARIABLES, check_instrumentors, check_variables
from crewmeter_cost.doctor.ledger import check_ledger, check_overrides, check_prices
from crewmeter_cost.doctor.versions import check_python, check_versions
from crewmeter_cost.ledger.store import Ledger


def doctor(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("crewmeter"), "doctor", *options]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def by_check(done: subprocess.CompletedProcess[str]) -> dict[str, dict]:
    return {row["check"]: row for row in json.loads(done.stdout)["checks"]}


@pytest.fixture
def server():
    """Starts HTTP servers that answer each path with a status, and returns the port.

    ``server({"/v1/traces": 200})``
    """
    running = []

    def start(answers: dict[str, int]) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def do_GET(self) -> None:
                self.send_response(answers.get(self.path, 404))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        running.append(httpd)
        return httpd.server_address[1]

    yield start
    for httpd in running:
        httpd.shutdown()
        httpd.server_close()


@pytest.mark.slow
def test_a_healthy_environment_passes(tmp_path):
    """Nothing set, nothing wrong: exit 0, and the meter was really switched on beside CrewAI."""
    done = doctor("--format", "json", CREWMETER_LEDGER=str(tmp_path / "ledger.db"))
    assert done.returncode == 0, done.stdout + done.stderr
    checks = by_check(done)
    assert {
        "python",
        "crewai",
        "opentelemetry",
        "seam",
        "ledger",
        "prices",
        "environment",
        "endpoint",
    } <= set(checks)
    assert checks["seam"]["status"] == OK
    assert not (tmp_path / "ledger.db").exists(), "looking leaves nothing behind"


def test_what_is_broken_is_named_and_the_exit_code_says_so(tmp_path):
    """A ledger that isn't one, a misspelt variable, a dead endpoint.

    Each with a hint, exit 1, no traceback.
    """
    broken = tmp_path / "ledger.db"
    broken.write_text("this is a letter, not a database" * 100)
    done = doctor(
        "--quick",
        "--format",
        "json",
        CREWMETER_LEDGER=str(broken),
        CREWMETER_TAG="team=x",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    checks = by_check(done)
    assert json.loads(done.stdout)["failed"] == 3
    for name in ("ledger", "environment", "endpoint"):
        assert checks[name]["status"] == FAILED
        assert checks[name]["hint"]
    assert "CREWMETER_TAGS" in checks["environment"]["hint"]
    assert "nobody listens" in checks["endpoint"]["says"]
    for_people = doctor("--quick", CREWMETER_LEDGER=str(broken))
    assert for_people.returncode == 1
    assert "1 failed" in for_people.stdout


def test_versions_outside_the_tested_range_are_reported():
    """Too old fails, too new is a note, mixed OpenTelemetry releases name the repair."""

    def installed(versions: dict[str, str]):
        def version(name: str) -> str:
            try:
                return versions[name]
            except KeyError:
                raise PackageNotFoundError(name) from None

        return version

    telemetry = {
        "opentelemetry-api": "1.45.2",
        "opentelemetry-sdk": "1.45.2",
        "opentelemetry-exporter-otlp": "1.45.2",
    }
    status = {
        finding.check: finding
        for finding in check_versions(installed(telemetry | {"crewai": "1.12.9"}))
    }
    assert status["crewai"].status == FAILED
    status = {
        finding.check: finding
        for finding in check_versions(installed(telemetry | {"crewai": "2.0"}))
    }
    assert status["crewai"].status == NOTE
    status = {
        finding.check: finding
        for finding in check_versions(installed(telemetry | {"opentelemetry-sdk": "1.34.1"}))
    }
    assert status["crewai"].status == NOTE
    assert status["opentelemetry"].status == FAILED
    assert "opentelemetry-sdk==1.45.2" in (status["opentelemetry"].hint or "")
    assert check_python((3, 10, 1)).status == FAILED
    assert check_python((3, 14, 0)).status == NOTE


def test_the_price_book_and_the_overrides_file(tmp_path):
    """A stale book is reported with its date; a malformed overrides file is named."""
    from datetime import date

    assert check_prices(date(2031, 1, 1)).status == NOTE
    overrides = tmp_path / "prices.toml"
    overrides.write_text("[[models]\n")
    [finding] = check_overrides({"CREWMETER_PRICES": str(overrides)})
    assert finding.status == FAILED
    assert "prices.toml" in finding.says
    assert [finding.status for finding in check_overrides({})] == []


def test_the_ledger_is_opened_as_an_app_would(tmp_path):
    """A URL that is none is refused; a fresh path is fine and stays fresh."""
    assert check_ledger("nonsense://x", {}).status == FAILED
    assert check_ledger(str(tmp_path / "a/b.db"), {}).status == OK
    assert not (tmp_path / "a").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_cannot_be_created_is_a_failure(tmp_path):
    """It is tried, not guessed from permissions, which root passes: a file is no folder."""
    (tmp_path / "file").write_text("")
    found = check_ledger(str(tmp_path / "file" / "ledger.db"), {})
    assert found.status == FAILED
    assert "is a file, not a folder" in found.says
    nowhere = check_ledger("/proc/crewmeter/ledger.db", {})
    assert nowhere.status == FAILED
    assert nowhere.hint


def test_a_damaged_ledger_is_a_failure_and_stays_as_it_is(ledger_path):
    """The bytes are checked before SQLite opens them, and nothing is moved by a check."""
    with Ledger.open(str(ledger_path)) as ledger:
        ledger.write([(call(number), priced()) for number in range(300)], [], frozen)
    content = bytearray(ledger_path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"x" * 8192
    ledger_path.write_bytes(content)
    finding = check_ledger(str(ledger_path), {})
    assert finding.status == FAILED
    assert "damaged" in finding.says
    assert ledger_path.read_bytes() == content


@pytest.mark.parametrize(
    ("answers", "status", "says"),
    [
        ({"/v1/traces": 200}, OK, "takes OTLP/HTTP"),
        ({"/v1/traces": 401}, FAILED, "refuses the key"),
        ({}, FAILED, "isn't an OTLP endpoint"),
        ({"/v1/traces": 503}, NOTE, "503"),
    ],
)
def test_http_endpoints(server, answers, status, says):
    """Who answers, and how: fine, wrong key, wrong port, busy."""
    url = f"http://127.0.0.1:{server(answers)}"
    finding = next(check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": url}))
    assert finding.status == status
    assert says in finding.says


def test_a_sidecar_that_is_not_ready_is_reported(server):
    """`/readyz` 503: the sidecar lives, but its ledger doesn't take writes."""
    url = f"http://127.0.0.1:{server({'/v1/traces': 200, '/readyz': 503})}"
    findings = list(check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": url}))
    assert [finding.status for finding in findings] == [OK, FAILED]


def test_grpc_ports_are_distinguished(server):
    """A gRPC endpoint that is an HTTP server is occupied by something else; a real one passes."""
    import grpc

    [finding] = check_endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server({})}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
    )
    assert finding.status == FAILED
    assert "doesn't speak gRPC" in finding.says
    from concurrent.futures import ThreadPoolExecutor

    real = grpc.server(ThreadPoolExecutor(1))
    port = real.add_insecure_port("127.0.0.1:0")
    real.start()
    [finding] = check_endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
    )
    assert finding.status == OK
    [finding] = check_endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
    )
    assert finding.status == FAILED
    assert "4318" in (finding.hint or "")
    real.stop(0).wait()


def test_a_port_somebody_else_has_is_named():
    """Something listens that speaks no protocol of ours: named, not hung on."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def hang_up() -> None:
        connection, _ = listener.accept()
        connection.close()

    thread = threading.Thread(target=lambda: [hang_up() for _ in range(2)])
    thread.start()
    findings = list(check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}))
    assert findings[0].status == FAILED
    assert str(port) in findings[0].says
    thread.join(timeout=5)
    listener.close()


def test_an_endpoint_without_a_scheme_is_named():
    """OTLP over HTTP needs one; nothing is connected to, the scheme is what is missing."""
    (finding,) = check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"})
    assert finding.status == FAILED
    assert finding.says == "the endpoint localhost:4318 has no scheme, and OTLP over HTTP needs one"
    assert finding.hint == "write http://localhost:4318"


def test_unknown_hosts_and_non_urls():
    """A host nobody knows, and text that is no URL."""
    [finding] = check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://no-such-host.invalid:4318"})
    assert finding.status == FAILED
    assert "no-such-host.invalid" in finding.says
    [finding] = check_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"})
    assert finding.status == FAILED


def test_misspelt_variables_get_a_suggestion():
    """A name nobody reads fails with the nearest one that exists.

    The switch that turns everything off is reported.
    """
    [finding] = check_variables({"CREWMETER_LEGDER": "x"})
    assert (finding.status, finding.hint) == (FAILED, "did you mean CREWMETER_LEDGER?")
    [finding] = check_variables({"OTEL_SDK_DISABLED": "true"})
    assert finding.status == FAILED
    [finding] = check_variables({"CREWMETER_LEDGER": "x"})
    assert finding.status == OK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREWMETER_CONTENT", "maybe"),
        ("CREWMETER_KEEP", "soon"),
        ("CREWMETER_KEEP_CONTENT", "soon"),
        ("CREWMETER_TZ", "Nowhere"),
    ],
)
def test_a_value_that_means_nothing_is_named(name, value):
    """A variable that is set but not understood does not pass."""
    [finding] = check_variables({name: value})
    assert finding.status == FAILED
    assert name in finding.says
    assert value in finding.says
    assert finding.hint


def test_the_list_of_variables_is_complete():
    """Every CREWMETER_* name the packages read is known to doctor, and every one it knows is
    read.
    """
    import re

    pattern = re.compile(r'environ[^\n]*["\'](CREWMETER_[A-Z_]+)["\']')
    sources = [
        path
        for root in ("tracer", "cost", "dashboards")
        for path in (ROOT / root).rglob("*.py")
        if "doctor" not in path.parts
    ]
    text = "\n".join(path.read_text() for path in sources)
    assert set(pattern.findall(text)) <= VARIABLES
    assert {name for name in VARIABLES if name not in text} == set()


def test_other_instrumentors_are_a_note():
    """Two tracers on one call is worth knowing, not a failure: a response is billed once."""
    other = EntryPoint(
        "openai",
        "openinference.instrumentation.openai:OpenAIInstrumentor",
        "opentelemetry_instrumentor",
    )
    ours = EntryPoint(
        "crewmeter", "crewmeter.instrumentor:CrewMeterInstrumentor", "opentelemetry_instrumentor"
    )
    [finding] = check_instrumentors([other, ours])
    assert finding.status == NOTE
    assert list(check_instrumentors([ours])) == []
