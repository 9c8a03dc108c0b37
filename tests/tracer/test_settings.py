"""Arguments and environment: what each of them means, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import crewmeter
from crewmeter import semconv
from crewmeter.settings import read_settings


@pytest.mark.parametrize(
    ("environ", "arguments", "exporters"),
    [
        ({}, {}, ("crewmeter",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, {}, ("otlp",)),
        ({}, {"endpoint": "http://c:4318"}, ("otlp",)),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"},
            {"ledger": "x.db"},
            ("otlp", "crewmeter"),
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp,crewmeter"}, {}, ("otlp", "crewmeter")),
        ({"OTEL_TRACES_EXPORTER": "console"}, {"ledger": "x.db"}, ("console", "crewmeter")),
        ({"OTEL_TRACES_EXPORTER": "none"}, {}, ()),
    ],
)
def test_where_spans_go(environ, arguments, exporters):
    """Nothing configured is the ledger, an endpoint is OTLP, OTEL_TRACES_EXPORTER is obeyed,
    arguments add to it.
    """
    assert read_settings(environ, **arguments).exporters == exporters


@pytest.mark.parametrize(
    ("environ", "arguments", "protocol"),
    [
        ({}, {"endpoint": "http://c:4317"}, "grpc"),
        ({}, {"endpoint": "http://c:4318"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, {}, "grpc"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            {},
            "grpc",
        ),
    ],
)
def test_which_protocol(environ, arguments, protocol):
    """The variable decides, else the port, else the specification's default."""
    assert read_settings(environ, **arguments).protocol == protocol


def test_tags_come_from_both_sides():
    """CREWMETER_TAGS and tags= go on every span, the argument winning.

    Team, user and session are fields.
    """
    scope = read_settings(
        {"CREWMETER_TAGS": "env=dev, team=search"}, tags={"env": "prod", "n": 3}
    ).scope
    assert scope == {
        semconv.TAG_PREFIX + "env": "prod",
        semconv.TEAM: "search",
        semconv.TAG_PREFIX + "n": "3",
    }


@pytest.mark.parametrize(
    ("environ", "arguments", "culprit"),
    [
        ({}, {"endpoint": "http://"}, "endpoint 'http://'"),
        ({}, {"endpoint": "http://[bad"}, "endpoint 'http://"),
    ],
)
def test_what_cannot_be_meant_is_refused(environ, arguments, culprit):
    """The error names the setting and says what to write."""
    with pytest.raises(ValueError, match=culprit.replace("(", "\\(")):
        read_settings(environ, **arguments)


@pytest.mark.parametrize(
    "environ",
    [
        {"CREWMETER_LOG": "debug"},
        {"CREWMETER_TAGS": "team"},
        {"CREWMETER_TAGS": "=x,,a=b"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[bad"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:99999999"},
    ],
)
def test_a_malformed_environment_variable_is_ignored_with_a_warning(environ, caplog):
    """A typing error in a deployment must not stop the app: it is named, and metering goes on."""
    settings = read_settings(environ)
    assert settings.log == "off"
    assert settings.exporters == ("crewmeter",)
    assert next(iter(environ.values())).split(",")[0] in caplog.text


@pytest.mark.parametrize("name", ["CREWMETER_LOG", "CREWMETER_TAGS", "CREWMETER_BUDGETS"])
def test_no_environment_variable_makes_instrument_raise(name, monkeypatch, tmp_path, caplog):
    """`instrument()` warns and goes on, as for every other fault."""
    monkeypatch.setenv(name, "debug")
    monkeypatch.setenv("CREWMETER_LEDGER", str(tmp_path / "ledger.db"))
    crewmeter.instrument().uninstrument()
    assert name in caplog.text


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            False,
        ),
    ],
)
def test_an_endpoint_without_a_scheme_is_named(environ, named, caplog):
    """OTLP over HTTP can't use it, and only the exporter's retries said so. gRPC takes it."""
    read_settings(environ)
    assert ("has no scheme" in caplog.text) is named


def test_a_budget_without_a_guard_is_refused():
    """`budget=` never does nothing silently."""
    with pytest.raises(ValueError, match="budget"):
        crewmeter.instrument(budget=5)
    crewmeter.uninstrument()


def test_a_disabled_sdk_records_nothing(monkeypatch):
    """OTEL_SDK_DISABLED=true: the handle works and nothing is installed."""
    import threading

    start = threading.Thread.start
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    handle = crewmeter.instrument()
    assert threading.Thread.start is start
    assert handle.flush(0)
    handle.uninstrument()


def test_the_promise_of_the_module():
    """`__all__` is what people may rely on."""
    assert crewmeter.__all__ == [
        "Attribution",
        "BudgetExceeded",
        "Handle",
        "attribute",
        "flush",
        "instrument",
        "uninstrument",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [pytest.param("None", marks=pytest.mark.slow), "'5 USD/day'"])
def test_crewai_can_be_imported_after_instrument(tmp_path, budget):
    """The import that the seam waits for is nobody's to break, with and without a budget."""
    code = (
        f"import crewmeter; crewmeter.instrument(budget={budget}); import crewai; from "
        "crewai.hooks import get_before_llm_call_hooks"
    )
    env = {**os.environ, "HOME": str(tmp_path), "CREWMETER_LEDGER": str(tmp_path / "ledger.db")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
