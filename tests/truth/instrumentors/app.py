"""One call by one framework under two instrumentors: python app.py WAY PROVIDER_URL OTLP_URL."""

import asyncio
import os
import sys

way, provider_url, otlp_url = sys.argv[1:]
os.environ.update(
    OPENAI_API_KEY="k",
    ANTHROPIC_API_KEY="k",
    OTEL_SERVICE_NAME="app",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{otlp_url}/v1/traces",
)


def langchain_openai(**more):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o-mini", base_url=f"{provider_url}/v1", max_retries=0, **more)


def langchain_claude():
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model="claude-sonnet-4-5", base_url=provider_url, max_retries=0)


def agent():
    import openai
    from agents import Agent, OpenAIChatCompletionsModel, Runner

    async def run():
        client = openai.AsyncOpenAI(base_url=f"{provider_url}/v1", max_retries=0)
        await Runner.run(Agent("A", model=OpenAIChatCompletionsModel("gpt-4o-mini", client)), "hi")

    asyncio.run(run())


def logfire_stream():
    import openai

    client = openai.OpenAI(base_url=f"{provider_url}/v1", max_retries=0)
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    list(stream)


def two_alike():
    from concurrent.futures import ThreadPoolExecutor

    model = langchain_openai()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(model.invoke, ["hi", "hi"]))


WAYS = {
    "langchain-openai": lambda: langchain_openai().invoke("hi"),
    "langchain-openai-stream": lambda: list(langchain_openai(stream_usage=True).stream("hi")),
    "langchain-claude": lambda: langchain_claude().invoke("hi"),
    "openai-agents": agent,
    "logfire-stream": logfire_stream,
    "two-alike": two_alike,
}


def main():
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    if way.startswith("logfire"):
        import logfire

        processor = BatchSpanProcessor(OTLPSpanExporter())
        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[processor]
        )
        logfire.instrument_openai()
        WAYS[way]()
        logfire.force_flush()
        return
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    provider = TracerProvider()
    # Each span is sent alone, children first: the hardest order.
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    for instrumentor in (
        AnthropicInstrumentor,
        LangChainInstrumentor,
        OpenAIInstrumentor,
        OpenAIAgentsInstrumentor,
    ):
        instrumentor().instrument(tracer_provider=provider)
    WAYS[way]()
    provider.force_flush()


main()
