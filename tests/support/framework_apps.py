"""A small agent with one tool in each framework that sends OTLP; `capture_frameworks.py` runs it.

    python framework_apps.py FRAMEWORK

with OPENAI_BASE_URL and the like (a fake provider) and OTEL_EXPORTER_OTLP_ENDPOINT (a receiver).
Each sets its tracing up as its own guide says, and nothing of crewmeter is in the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable

ENDPOINT = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
MODEL = "gpt-4o-mini"
PROMPT = (
    'Will it rain? [[tool:lookup {"city": "Rome"}]] [[say:It rains]] '
    "[[usage:in=1000 read=400 out=300 reasoning=120]]"
)
PLAIN = "Will it rain? [[say:It rains]] [[usage:in=1000 read=400 out=300]]"
Flush = Callable[[], object]


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: rain"


def provider():
    """A global SDK provider that exports to the receiver."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    made = TracerProvider(resource=Resource.create({"service.name": "forecast"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{ENDPOINT}/v1/traces")))
    trace.set_tracer_provider(made)
    return made


def _langgraph_agent() -> None:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    agent = create_agent(
        f"openai:{MODEL}", tools=[tool(lookup)], system_prompt="Be brief.", name="forecaster"
    )
    agent.invoke({"messages": [{"role": "user", "content": PROMPT}]})


def langgraph_langsmith() -> Flush:
    """LangSmith's own export by OpenTelemetry, without LangSmith."""
    os.environ["LANGSMITH_TRACING"] = "true"
    os.environ["LANGSMITH_OTEL_ENABLED"] = "true"
    os.environ["LANGSMITH_OTEL_ONLY"] = "true"
    os.environ["LANGSMITH_TRACING_MODE"] = "otel"
    made = provider()
    _langgraph_agent()
    from langchain_core.tracers.langchain import wait_for_all_tracers

    wait_for_all_tracers()
    return made.force_flush


def langgraph_openinference() -> Flush:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    made = provider()
    LangChainInstrumentor().instrument(tracer_provider=made)
    _langgraph_agent()
    return made.force_flush


def langgraph_genai() -> Flush:
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

    made = provider()
    LangChainInstrumentor().instrument(tracer_provider=made)
    _langgraph_agent()
    return made.force_flush


def _openai_agent() -> None:
    from agents import Agent, Runner, function_tool

    agent = Agent(
        name="forecaster", instructions="Be brief.", model=MODEL, tools=[function_tool(lookup)]
    )
    Runner.run_sync(agent, PROMPT)


def openai_agents_openinference() -> Flush:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    made = provider()
    OpenAIAgentsInstrumentor().instrument(tracer_provider=made)
    _openai_agent()
    return made.force_flush


def openai_agents_genai() -> Flush:
    """OpenTelemetry's instrumentor of the agents, and that of the SDK for their model calls."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

    made = provider()
    OpenAIInstrumentor().instrument(tracer_provider=made)
    OpenAIAgentsInstrumentor().instrument(tracer_provider=made)
    _openai_agent()
    return made.force_flush


def pydantic_ai_agent() -> Flush:
    from pydantic_ai import Agent

    made = provider()
    Agent.instrument_all()
    agent = Agent(f"openai-chat:{MODEL}", instructions="Be brief.", name="forecaster")
    agent.tool_plain(lookup)
    agent.run_sync(PROMPT)
    return made.force_flush


def openai_genai() -> Flush:
    """OpenTelemetry's instrumentor of the bare SDK: chat, stream, Responses, embeddings."""
    from openai import OpenAI
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    made = provider()
    OpenAIInstrumentor().instrument(tracer_provider=made)
    client = OpenAI()
    usage = "[[usage:in=1000 read=400 out=300 reasoning=120]]"
    messages = [{"role": "user", "content": f"Hello {usage}"}]
    client.chat.completions.create(model=MODEL, messages=messages)
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    for _ in stream:
        pass
    client.responses.create(model=MODEL, input=f"Hello {usage}")
    client.embeddings.create(model="text-embedding-3-small", input="Hello")
    return made.force_flush


def anthropic_genai() -> Flush:
    from anthropic import Anthropic
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

    made = provider()
    AnthropicInstrumentor().instrument(tracer_provider=made)
    client = Anthropic()
    text = "Hello [[usage:in=1000 read=400 w5m=200 out=300]]"
    message = {"role": "user", "content": text}
    client.messages.create(model="claude-sonnet-4-5", max_tokens=500, messages=[message])
    with client.messages.stream(
        model="claude-sonnet-4-5", max_tokens=500, messages=[message]
    ) as stream:
        stream.get_final_message()
    return made.force_flush


def anthropic_sdk() -> Flush:
    """The spans that anthropic's own SDK writes, whole and streamed, with both lifetimes."""
    from anthropic import Anthropic

    made = provider()
    client = Anthropic()
    text = "Hello [[usage:in=1000 read=400 w5m=200 w1h=100 out=300]]"
    message = {"role": "user", "content": text}
    client.messages.create(model="claude-sonnet-4-5", max_tokens=500, messages=[message])
    with client.messages.stream(
        model="claude-sonnet-4-5", max_tokens=500, messages=[message]
    ) as stream:
        stream.get_final_message()
    return made.force_flush


def google_genai() -> Flush:
    from google import genai
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

    made = provider()
    GoogleGenAiSdkInstrumentor().instrument(tracer_provider=made)
    client = genai.Client(
        api_key="fake", http_options={"base_url": os.environ["GOOGLE_GEMINI_BASE_URL"]}
    )
    text = "Hello [[usage:in=1000 read=400 out=300 reasoning=120]]"
    client.models.generate_content(model="gemini-2.5-flash", contents=text)
    for _ in client.models.generate_content_stream(model="gemini-2.5-flash", contents=text):
        pass
    return made.force_flush


def llama_index() -> Flush:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.llms.openai import OpenAI
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    made = provider()
    LlamaIndexInstrumentor().instrument(tracer_provider=made)
    agent = FunctionAgent(
        tools=[lookup],
        llm=OpenAI(
            model=MODEL,
            api_base=os.environ["OPENAI_BASE_URL"],
            # Without it a streamed answer, as an agent's are, tells no usage.
            additional_kwargs={"stream_options": {"include_usage": True}},
        ),
        system_prompt="Be brief.",
        name="forecaster",
    )

    async def main() -> None:
        await agent.run(PROMPT)

    asyncio.run(main())
    return made.force_flush


def google_adk() -> Flush:
    from google.adk.agents import Agent
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    made = provider()
    agent = Agent(
        name="forecaster", model="gemini-2.5-flash", instruction="Be brief.", tools=[lookup]
    )

    async def main() -> None:
        runner = InMemoryRunner(agent=agent, app_name="forecast")
        session = await runner.session_service.create_session(app_name="forecast", user_id="ada")
        message = types.Content(role="user", parts=[types.Part(text=PROMPT)])
        async for _ in runner.run_async(user_id="ada", session_id=session.id, new_message=message):
            pass

    asyncio.run(main())
    return made.force_flush


def strands() -> Flush:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel
    from strands.telemetry import StrandsTelemetry

    telemetry = StrandsTelemetry()
    telemetry.setup_otlp_exporter()
    agent = Agent(
        model=OpenAIModel(model_id=MODEL),
        tools=[tool(lookup)],
        system_prompt="Be brief.",
        name="forecaster",
        callback_handler=None,
    )
    agent(PROMPT)
    return telemetry.tracer_provider.force_flush


def ag2_agent() -> Flush:
    from ag2 import Agent, tool
    from ag2.config import OpenAIConfig
    from ag2.middleware import TelemetryMiddleware

    made = provider()
    agent = Agent(
        "forecaster",
        prompt="Be brief.",
        config=OpenAIConfig(model=MODEL),
        tools=[tool(lookup)],
        middleware=[TelemetryMiddleware(tracer_provider=made, agent_name="forecaster")],
    )

    async def main() -> None:
        await agent.ask(PROMPT)

    asyncio.run(main())
    return made.force_flush


def _langchain_chat(model: str) -> None:
    """Two calls by LangChain, of which the second is streamed."""
    from langchain.chat_models import init_chat_model
    from opentelemetry import trace

    chat = init_chat_model(model)
    with trace.get_tracer("app").start_as_current_span("answer"):
        chat.invoke(PLAIN)
        for _ in chat.stream(PLAIN):
            pass


def two_langchain_openai() -> Flush:
    """OpenInference's instrumentors of LangChain and of OpenAI's client, both on each call."""
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    made = provider()
    LangChainInstrumentor().instrument(tracer_provider=made)
    OpenAIInstrumentor().instrument(tracer_provider=made)
    _langchain_chat(f"openai:{MODEL}")
    return made.force_flush


def two_langchain_anthropic() -> Flush:
    """LangChain on Claude beside the spans that anthropic's own SDK writes."""
    from openinference.instrumentation.langchain import LangChainInstrumentor

    made = provider()
    LangChainInstrumentor().instrument(tracer_provider=made)
    _langchain_chat("anthropic:claude-sonnet-4-5")
    return made.force_flush


def two_logfire_streams() -> Flush:
    """Logfire on OpenAI's client: a stream is a span of its start and a log of its end."""
    import logfire
    from openai import OpenAI

    logfire.configure(send_to_logfire=False, console=False)
    logfire.instrument_openai()
    client = OpenAI()
    for _ in range(2):
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": PLAIN}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for _ in stream:
            pass
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": PLAIN}])
    return logfire.force_flush


def semantic_kernel() -> Flush:
    """Semantic Kernel's own spans, which it writes where an environment variable asks for them."""
    os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"] = "true"
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    from semantic_kernel.functions import kernel_function

    class Weather:
        @kernel_function(name="lookup", description="Look up the weather of a city.")
        def lookup(self, city: str) -> str:
            return lookup(city)

    made = provider()
    agent = ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id=MODEL),
        name="forecaster",
        instructions="Be brief.",
        plugins=[Weather()],
    )
    # It calls a plugin's function by both their names.
    asyncio.run(agent.get_response(messages=PROMPT.replace("lookup", "Weather-lookup")))
    return made.force_flush


def mlflow_openai() -> Flush:
    """MLflow's tracing of OpenAI's client inside a traced agent, by MLflow's own OTLP export."""
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    os.environ["OTEL_SERVICE_NAME"] = "forecast"
    import mlflow
    from openai import OpenAI

    mlflow.openai.autolog()
    client = OpenAI()
    looked_up = mlflow.trace(lookup, span_type="TOOL")
    tool = {
        "type": "function",
        "function": {
            "name": "lookup",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }

    @mlflow.trace(span_type="AGENT")
    def forecaster(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        while True:
            answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[tool])
            message = answer.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.append(message)
            for call in message.tool_calls:
                content = looked_up(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": content})

    forecaster(PROMPT)
    return mlflow.flush_trace_async_logging


def mlflow_genai() -> Flush:
    """The same under the names of the GenAI conventions, which MLflow writes on request."""
    os.environ["MLFLOW_ENABLE_OTEL_GENAI_SEMCONV"] = "true"
    return mlflow_openai()


def _vertexai() -> None:
    import vertexai
    from google.auth.credentials import AnonymousCredentials
    from vertexai.generative_models import GenerativeModel

    vertexai.init(
        project="forecast",
        location="us-central1",
        api_endpoint=os.environ["GOOGLE_GEMINI_BASE_URL"],
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    model = GenerativeModel("gemini-2.5-flash")
    text = "Hello [[usage:in=1000 read=400 out=300 reasoning=120]]"
    model.generate_content(text)
    for _ in model.generate_content(text, stream=True):
        pass


def vertexai_genai() -> Flush:
    """OpenTelemetry's instrumentor of Vertex AI's first SDK."""
    from opentelemetry.instrumentation.vertexai import VertexAIInstrumentor

    made = provider()
    VertexAIInstrumentor().instrument(tracer_provider=made)
    _vertexai()
    return made.force_flush


def vertexai_openllmetry() -> Flush:
    """OpenLLMetry's, a package of the same name with a version below 1."""
    return vertexai_genai()


def vertexai_openinference() -> Flush:
    from openinference.instrumentation.vertexai import VertexAIInstrumentor

    made = provider()
    VertexAIInstrumentor().instrument(tracer_provider=made)
    _vertexai()
    return made.force_flush


if __name__ == "__main__":
    globals()[sys.argv[1]]()()
