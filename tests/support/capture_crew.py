"""A small real crew under one foreign instrumentor; `capture.py` runs it in that instrumentor's
own environment.

    python capture_crew.py INSTRUMENTOR

The environment has OPENAI_BASE_URL (a fake provider) and OTEL_EXPORTER_OTLP_ENDPOINT (a receiver).
"""

from __future__ import annotations

import os
import sys
import time

ENDPOINT = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]


def provider():
    """A global SDK provider that exports to the receiver, as the instrumentors' own guides set it
    up.
    """
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    made = TracerProvider(
        resource=Resource.create(
            {"service.name": "newsroom", "deployment.environment.name": "staging"}
        )
    )
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=ENDPOINT + "/v1/traces")))
    trace.set_tracer_provider(made)
    return made


def openinference():
    from openinference.instrumentation.crewai import CrewAIInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    made = provider()
    CrewAIInstrumentor().instrument(tracer_provider=made)
    OpenAIInstrumentor().instrument(tracer_provider=made)
    return made.force_flush


def openllmetry():
    from opentelemetry.instrumentation.crewai import CrewAIInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    made = provider()
    CrewAIInstrumentor().instrument(tracer_provider=made)
    OpenAIInstrumentor().instrument(tracer_provider=made)
    return made.force_flush


def genai():
    """OpenTelemetry's own instrumentor, in the GenAI conventions' present names."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    return genai_old()


def genai_old():
    """The same in the names it still writes unless requested: ``gen_ai.system`` and its like."""
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    made = provider()
    OpenAIInstrumentor().instrument(tracer_provider=made)
    return made.force_flush


def mixed():
    """Two instrumentors on one client, as people have it by accident.

    Every call is reported twice.
    """
    from openinference.instrumentation.openai import OpenAIInstrumentor as Inference
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Llmetry

    made = provider()
    Inference().instrument(tracer_provider=made)
    Llmetry().instrument(tracer_provider=made)
    return made.force_flush


def openlit():
    import openlit as product

    made = provider()
    product.init(
        otlp_endpoint=ENDPOINT,
        environment="staging",
        application_name="newsroom",
        disable_metrics=True,
    )
    return made.force_flush


def logfire():
    import logfire as product

    product.configure(
        send_to_logfire=False, service_name="newsroom", environment="staging", console=False
    )  # exports as OTEL_* says
    product.instrument_openai()
    return product.force_flush


def pydantic_ai():
    flush = logfire()
    import logfire as product

    product.instrument_pydantic_ai()
    return flush


def litellm():
    os.environ["OTEL_EXPORTER"] = "otlp_http"
    os.environ["OTEL_ENDPOINT"] = ENDPOINT + "/v1/traces"
    import litellm as product

    product.callbacks = ["otel"]
    return lambda: time.sleep(7)  # it logs from a thread and exports every five seconds


def run_litellm() -> None:
    """LiteLLM called directly.

    Under CrewAI its callbacks are replaced at every call, and it exports nothing.
    """
    import litellm as product

    base = os.environ["OPENAI_BASE_URL"]
    for text in (
        "Tea? [[usage:in=1000 read=400 out=300 reasoning=20]]",
        "Coffee? [[usage:in=500 out=40]]",
    ):
        product.completion("openai/gpt-4o-mini", [{"role": "user", "content": text}], api_base=base)
    product.embedding("openai/text-embedding-3-small", input=["tea"], api_base=base)


def langfuse():
    import langfuse as product
    import langfuse.openai  # the import is what instruments

    client = product.Langfuse(
        public_key="pk-lf-fake",
        secret_key="sk-lf-fake",
        host=ENDPOINT,
        environment="staging",
    )
    return client.flush


def crewai_native():
    """CrewAI's own tracing, sent where CrewAI's hosted product would have it."""
    return lambda: None


def crew(model: str, **llm):
    """Two agents, two tasks, one tool that also embeds a text, one tool that fails."""
    import openai
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool

    @tool("archive")
    def archive(query: str) -> str:
        """Search the archive."""
        openai.OpenAI().embeddings.create(model="text-embedding-3-small", input=query)
        return f"three notes on {query}"

    @tool("fact_check")
    def fact_check(claim: str) -> str:
        """Check a claim."""
        raise RuntimeError("the fact checker is asleep")

    brain = LLM(model=model, **llm)
    researcher = Agent(
        role="Researcher",
        goal="find facts",
        backstory="curious",
        llm=brain,
        tools=[archive],
        max_retry_limit=0,
    )
    writer = Agent(
        role="Writer",
        goal="write",
        backstory="terse",
        llm=brain,
        tools=[fact_check],
        max_retry_limit=0,
    )
    research = Task(
        name="research",
        description='Research tea. [[tool:archive {"query": "tea"}]] [[say:Tea is a drink.]] '
        "[[usage:in=1000 read=400 out=300 reasoning=20]]",
        expected_output="facts",
        agent=researcher,
    )
    write = Task(
        name="write",
        description='Write on tea. [[tool:fact_check {"claim": "tea"}]] [[say:Tea, at last.]] '
        "[[usage:in=500 out=40]]",
        expected_output="a line",
        agent=writer,
        context=[],
    )
    return Crew(name="newsroom", agents=[researcher, writer], tasks=[research, write])


def run_pydantic_ai() -> None:
    from pydantic_ai import Agent

    agent = Agent("openai:gpt-4o-mini", name="Researcher")

    @agent.tool_plain
    def archive(query: str) -> str:
        """Search the archive."""
        return f"three notes on {query}"

    agent.run_sync(
        '[[tool:archive {"query": "tea"}]] [[say:Tea is a drink.]] [[usage:in=1000 read=400 '
        "out=300]]"
    )


def run_native() -> None:
    from crewai.telemetry.tracing import telemetry_session
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    fake_provider = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
    models = [
        ("openai/gpt-4o-mini", {}),
        (
            "gemini/gemini-2.5-flash",
            {"client_params": {"http_options": {"base_url": fake_provider}}, "api_key": "fake"},
        ),
        (
            "bedrock/amazon.nova-lite-v1:0",
            {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"},
        ),
    ]
    for number, (model, options) in enumerate(models):
        made = crew(model, **options)
        with telemetry_session(
            f"00000000-0000-0000-0000-00000000000{number}",
            "newsroom",
            [OTLPSpanExporter(endpoint=ENDPOINT + "/v1/traces")],
        ):
            made.kickoff()


def main(instrumentor: str) -> None:
    flush = globals()[instrumentor]()
    if instrumentor == "pydantic_ai":
        run_pydantic_ai()
    elif instrumentor == "litellm":
        run_litellm()
    elif instrumentor == "crewai_native":
        run_native()
    else:
        crew("openai/gpt-4o-mini").kickoff()
    flush()


if __name__ == "__main__":
    main(sys.argv[1])
