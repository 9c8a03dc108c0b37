"""The names that go out, against the packages that publish the conventions."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.semconv._incubating import attributes as published_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, mcp_metrics
from support.golden_spans import GOLDEN_USAGE, NOW, golden_nodes

from crewmeter import semconv
from crewmeter.export.genai_names import named_attributes
from crewmeter.export.metrics import ClientMetrics
from crewmeter.export.readable_span import readable
from crewmeter.semconv import generations
from crewmeter.semconv.generations import Emitted, emitted_generations
from crewmeter.settings import TracerSettings
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder
from crewmeter.spans.span import OpenSpan

REGISTRY = tomllib.loads(Path(__file__).with_name("registry.toml").read_text("utf-8"))
SECOND = 10**9

OLD, NEW = Emitted(new=False), Emitted(old=False, costs=True)
BOTH = Emitted()

UNPUBLISHED = {
    "gen_ai.client.inference.duration",
    "gen_ai.client.embeddings.duration",
    "gen_ai.client.embeddings.operation.input_tokens",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.time_per_output_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
    "gen_ai.invoke_agent.inference_calls",
    "gen_ai.invoke_agent.tool_calls",
    "gen_ai.client.operation.cost",
}
"""Metrics of the convention's repository that neither package has yet."""


@dataclass
class Published:
    """An instrument as a package declares it."""

    kind: str
    unit: str
    buckets: list[float] | None = None


class Meter:
    """A meter that notes which instruments are made."""

    def __init__(self) -> None:
        self.made: dict[str, Published] = {}

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        explicit_bucket_boundaries_advisory: Any = None,
    ) -> None:
        self.made[name] = Published("histogram", unit, explicit_bucket_boundaries_advisory)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> None:
        self.made[name] = Published("counter", unit)


def published_metrics() -> dict[str, Published]:
    """Name → instrument of the convention package and of util-genai."""
    meter = Meter()
    for module in (gen_ai_metrics, mcp_metrics):
        for name, create in vars(module).items():
            if name.startswith("create_"):
                create(meter)
    instruments = pytest.importorskip("opentelemetry.util.genai._instruments")
    instruments._Instruments(meter)
    return meter.made


def published_names() -> set[str]:
    """Every attribute name that the convention package and util-genai write."""
    names: set[str] = set()
    for module in pkgutil.iter_modules(published_attributes.__path__):
        loaded = importlib.import_module(f"{published_attributes.__name__}.{module.name}")
        names |= {value for value in vars(loaded).values() if isinstance(value, str)}
    genai = pytest.importorskip("opentelemetry.util.genai")
    for source in Path(genai.__path__[0]).glob("*.py"):
        names |= set(re.findall(r'"(gen_ai\.[\w.]+)"', source.read_text("utf-8")))
    stable = importlib.import_module("opentelemetry.semconv.attributes")
    for module in pkgutil.iter_modules(stable.__path__):
        loaded = importlib.import_module(f"{stable.__name__}.{module.name}")
        names |= {value for value in vars(loaded).values() if isinstance(value, str)}
    return names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", BOTH),
        ("gen_ai_latest_experimental", NEW),
        ("http, gen_ai_latest_experimental", NEW),
        ("gen_ai_latest_experimental/dup", Emitted(costs=True)),
        ("default", OLD),
        ("http", OLD),
    ],
)
def test_the_variable_chooses_the_generations(value, expected):
    """Both where it is unset, else what it names, as OpenTelemetry's instrumentors read it."""
    assert emitted_generations({generations.OPT_IN: value} if value else {}) == expected


def test_metrics_are_those_that_are_published():
    """A metric that a package publishes has its kind, unit and buckets with us.

    One that none publishes is on the list here: it comes off when a package has it.
    """
    published = published_metrics()
    assert {metric.name for metric in generations.METRICS} - set(published) == UNPUBLISHED
    for metric in generations.METRICS:
        theirs = published.get(metric.name)
        if theirs is None:
            continue
        assert (metric.instrument, metric.unit) == (theirs.kind, theirs.unit), metric.name
        # util-genai has the seconds' buckets for first chunks, too; the conventions have finer.
        if theirs.buckets is not None and "first_chunk" not in metric.name:
            assert list(metric.buckets) == pytest.approx(list(theirs.buckets)), metric.name


def test_attributes_are_those_that_are_published():
    """Every convention name of ours is one that a package publishes, or a named proposal."""
    published = published_names()
    assert set(REGISTRY["published"]) <= published
    assert not set(REGISTRY["proposed"]) & published
    known = set(REGISTRY["published"]) | set(REGISTRY["proposed"])
    assert {copy.name for copy in generations.COPIED_ATTRIBUTES} <= known


# --- golden spans ------------------------------------------------------------------------------

TYPES = {
    "string": lambda value: type(value) is str,
    "int": lambda value: type(value) is int,
    "double": lambda value: type(value) is float,
    "boolean": lambda value: type(value) is bool,
    "string[]": lambda value: type(value) is tuple and all(type(item) is str for item in value),
}


@pytest.mark.parametrize("emitted", [OLD, NEW, BOTH], ids=["old", "new", "both"])
def test_golden_spans_have_the_registrys_names_and_types(emitted):
    """Whatever is not ours on a span is in the registry, and of its type."""
    registry = REGISTRY["published"] | REGISTRY["proposed"]
    for node in golden_nodes():
        span = readable(node, Resource.get_empty(), emitted)
        for name, value in (span.attributes or {}).items():
            if not name.startswith("crewmeter."):
                assert name in registry, f"{name} on {span.name}"
                assert TYPES[registry[name]](value), f"{name} = {value!r} on {span.name}"


def test_spans_are_called_by_their_operations():
    """Memory, retrieval and plan spans have the new generation's names, and an operation."""
    named = [readable(node, Resource.get_empty(), NEW) for node in golden_nodes()]
    operations = {span.name: span.attributes.get(semconv.OPERATION) for span in named}
    assert operations == {
        "chat gpt-4o": "chat",
        "execute_tool search": "execute_tool",
        "tools/call fetch": "execute_tool",
        "search_memory": "search_memory",
        "upsert_memory": "upsert_memory",
        "retrieval": "retrieval",
        "plan Writer": "plan",
        "invoke_agent Writer": "invoke_agent",
        "invoke_workflow demo": "invoke_workflow",
    }
    old = {readable(node, Resource.get_empty(), OLD).name for node in golden_nodes()}
    assert {"memory_query", "memory_save", "knowledge_query", "agent_reasoning"} <= old


def call_attributes(emitted: Emitted, usage: dict[str, Any], declared: str = "openai") -> Any:
    """The attributes of a model call's span with this usage."""
    done: list[OpenSpan] = []
    recorder = Recorder(
        done.append, sampler=DEFAULT_ON, base_scope={semconv.SESSION: "s", semconv.USER: "u"}
    )
    call = ModelCall()
    call.model, call.declared, call.usage = "m", declared, usage
    node = recorder.open("c", None, semconv.KIND_LLM, "chat m", at_ns=NOW, call=call)
    recorder.close(node, NOW + SECOND)
    return dict(readable(done[0], Resource.get_empty(), emitted).attributes or {})


WRITTEN = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 40}


def test_a_renamed_attribute_goes_out_as_chosen():
    """Cache writes: the old name, the new one, or both with the same value."""
    old = call_attributes(OLD, WRITTEN, "anthropic")
    new = call_attributes(NEW, WRITTEN, "anthropic")
    both = call_attributes(BOTH, WRITTEN, "anthropic")
    names = (semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED)
    assert [old.get(name) for name in names] == [40, None]
    assert [new.get(name) for name in names] == [None, 40]
    assert [both.get(name) for name in names] == [40, 40]


def test_user_session_and_modalities_stand_beside_ours():
    """The new generation repeats what is ours under the conventions' names, the text part too."""
    new = call_attributes(NEW, GOLDEN_USAGE)
    assert (new["user.id"], new["session.id"], new["gen_ai.conversation.id"]) == ("u", "s", "s")
    assert (new[semconv.USER], new[semconv.SESSION]) == ("u", "s")
    assert (new["gen_ai.usage.audio.input_tokens"], new["gen_ai.usage.text.input_tokens"]) == (
        50,
        950,
    )
    assert "gen_ai.usage.text.output_tokens" not in new, "nothing tells the output's modalities"
    old = call_attributes(OLD, GOLDEN_USAGE)
    assert not {"user.id", "session.id", "gen_ai.usage.audio.input_tokens"} & set(old)


def test_a_listed_provider_has_the_conventions_value():
    """Moonshot is ``moonshot_ai`` in the new generation, and what it always was in the old."""
    assert call_attributes(NEW, GOLDEN_USAGE, "moonshot")[semconv.PROVIDER] == "moonshot_ai"
    assert call_attributes(OLD, GOLDEN_USAGE, "moonshot")[semconv.PROVIDER] == "moonshotai"


def test_costs_go_out_by_opt_in_only():
    """What is only proposed, and only what the provider itself said."""
    attributes = {
        semconv.USAGE_STATUS: "reported",
        semconv.PROVIDER: "openrouter",
        semconv.REPORTED_COST_USD: "0.0125",
    }
    new = named_attributes("chat m", attributes, NEW)
    assert (new[semconv.COST_AMOUNT], new[semconv.COST_CURRENCY], new[semconv.COST_SOURCE]) == (
        0.0125,
        "USD",
        "provider",
    )
    for emitted in (OLD, BOTH):
        assert semconv.COST_AMOUNT not in named_attributes("chat m", attributes, emitted)


def test_the_service_tier_is_openais_where_openai_answered():
    """OpenAI's and Azure's tier have the convention's name beside ours; others' only ours."""
    for provider, expected in (("openai", "flex"), ("azure.ai.openai", "flex"), ("groq", None)):
        attributes = {
            semconv.USAGE_STATUS: "reported",
            semconv.PROVIDER: provider,
            semconv.SERVICE_TIER: "flex",
        }
        named = named_attributes("chat m", attributes, BOTH)
        assert named.get(semconv.OPENAI_SERVICE_TIER) == expected
        assert named[semconv.SERVICE_TIER] == "flex"


# --- metrics -----------------------------------------------------------------------------------


def recorded(monkeypatch, emitted: Emitted) -> dict[str, Any]:
    """Name → data points of what the golden spans add."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: provider)
    metrics = ClientMetrics(TracerSettings(emitted=emitted), Resource.get_empty)
    for node in golden_nodes():
        readable(node, Resource.get_empty(), emitted)
        metrics.record(node)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: list(metric.data.data_points) for metric in scope.metrics}
    provider.shutdown()
    return found


def sums(points: list[Any], label: str) -> dict[object, float]:
    """Label → sum of a metric's points."""
    return {
        point.attributes.get(label): getattr(point, "sum", getattr(point, "value", None))
        for point in points
    }


def test_the_old_generation_has_its_metrics(monkeypatch):
    """Duration, tokens by type and the first chunk, with the published names and buckets."""
    found = recorded(monkeypatch, OLD)
    assert set(found) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
    }
    (duration,) = found["gen_ai.client.operation.duration"]
    assert (duration.sum, duration.explicit_bounds[0], duration.explicit_bounds[-1]) == (
        1.0,
        0.01,
        81.92,
    )
    assert duration.attributes[semconv.REQUEST_MODEL] == "gpt-4o"
    tokens = sums(found["gen_ai.client.token.usage"], semconv.TOKEN_TYPE)
    assert tokens == {"input": 1000, "output": 300}
    (first,) = found["gen_ai.client.operation.time_to_first_chunk"]
    assert first.sum == 0.25


def test_the_new_generation_has_its_metrics(monkeypatch):
    """Tokens as counters by modality, durations and calls by agent, tool and workflow."""
    found = recorded(monkeypatch, NEW)
    usage = "gen_ai.client.inference.usage"
    assert sums(found[f"{usage}.input_tokens"], semconv.TOKEN_MODALITY) == {
        "audio": 50,
        "text": 950,
    }
    assert sums(found[f"{usage}.output_tokens"], semconv.TOKEN_MODALITY) == {"unknown": 300}
    assert sums(found[f"{usage}.cache_read.input_tokens"], semconv.TOKEN_MODALITY) == {
        "unknown": 200
    }
    assert sums(found[f"{usage}.reasoning.output_tokens"], semconv.TOKEN_MODALITY) == {
        "unknown": 100
    }
    (inputs,) = found["gen_ai.client.inference.operation.input_tokens"]
    assert (inputs.sum, inputs.count) == (1000, 1)
    assert sums(found["gen_ai.client.inference.duration"], semconv.REQUEST_MODEL) == {"gpt-4o": 1.0}
    assert sums(found["gen_ai.invoke_agent.duration"], semconv.AGENT_NAME) == {"Writer": 2.0}
    assert sums(found["gen_ai.execute_tool.duration"], semconv.ERROR_TYPE) == {"ValueError": 1.0}
    assert sums(found["gen_ai.invoke_workflow.duration"], semconv.WORKFLOW_NAME) == {"demo": 3.0}
    assert sums(found["mcp.client.operation.duration"], semconv.TOOL_NAME) == {"fetch": 1.0}
    assert sums(found["gen_ai.invoke_agent.inference_calls"], semconv.AGENT_NAME) == {"Writer": 1}
    assert sums(found["gen_ai.invoke_agent.tool_calls"], semconv.AGENT_NAME) == {"Writer": 1}
    assert "gen_ai.client.operation.duration" not in found, "not for an inference"
    assert "gen_ai.client.token.usage" not in found


def test_both_generations_say_the_same(monkeypatch):
    """With both, each has its own metrics, and no metric is recorded twice."""
    both = recorded(monkeypatch, BOTH)
    old, new = recorded(monkeypatch, OLD), recorded(monkeypatch, NEW)
    assert set(both) == set(old) | set(new)
    for name, points in both.items():
        alone = old.get(name) or new[name]
        assert [point.attributes for point in points] == [point.attributes for point in alone]


def test_metrics_never_name_a_user(monkeypatch):
    """Labels are bounded: no user, no session, no id."""
    for points in recorded(monkeypatch, BOTH).values():
        for point in points:
            assert not {"user.id", "session.id", "gen_ai.conversation.id"} & set(point.attributes)
            assert not any(name.startswith("crewmeter.") for name in point.attributes)


def test_registry_is_plain_data():
    """The registry's types are those that this test can tell apart."""
    assert set(REGISTRY["published"].values()) <= set(TYPES)
    assert json.dumps(REGISTRY)
