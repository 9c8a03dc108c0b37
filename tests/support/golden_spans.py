"""Finished spans of every kind that has names of the GenAI conventions."""

from __future__ import annotations

from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from crewmeter import semconv
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder
from crewmeter.spans.span import OpenSpan

NOW = 1_800_000_000 * 10**9
SECOND = 10**9
GOLDEN_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 50},
    "completion_tokens_details": {"reasoning_tokens": 100},
}


def golden_nodes() -> list[OpenSpan]:
    """One finished span of each kind that has names of the conventions, a run outermost."""
    done: list[OpenSpan] = []
    recorder = Recorder(
        done.append,
        sampler=DEFAULT_ON,
        base_scope={semconv.USER: "ada", semconv.SESSION: "s-1"},
    )
    run = recorder.open(
        "run",
        None,
        semconv.KIND_CREW,
        "invoke_workflow demo",
        at_ns=NOW,
        scope={semconv.CREW: "demo"},
        attributes={
            semconv.OPERATION: semconv.INVOKE_WORKFLOW,
            semconv.WORKFLOW_NAME: "demo",
        },
    )
    agent = recorder.open(
        "agent",
        "run",
        semconv.KIND_AGENT,
        "invoke_agent Writer",
        at_ns=NOW,
        scope={semconv.AGENT_NAME: "Writer"},
        attributes={semconv.OPERATION: semconv.INVOKE_AGENT, semconv.AGENT_NAME: "Writer"},
    )
    call = ModelCall()
    call.model, call.declared, call.first_chunk_ns = "gpt-4o", "openai", NOW + SECOND // 4
    call.usage, call.finish_reason, call.response_id = GOLDEN_USAGE, "stop", "resp_1"
    chat = recorder.open(
        "chat",
        "agent",
        semconv.KIND_LLM,
        "chat gpt-4o",
        at_ns=NOW,
        call=call,
        attributes={semconv.REQUEST_TEMPERATURE: 0, semconv.REASONING_LEVEL: "low"},
    )
    recorder.close(chat, NOW + SECOND)
    tool = recorder.open(
        "tool",
        "agent",
        semconv.KIND_TOOL,
        "execute_tool search",
        at_ns=NOW,
        attributes={
            semconv.OPERATION: semconv.EXECUTE_TOOL,
            semconv.TOOL_NAME: "search",
            semconv.TOOL_CALL_ID: "call_1",
        },
    )
    tool.error_type = "ValueError"
    recorder.close(tool, NOW + SECOND)
    mcp = recorder.open(
        "mcp",
        "agent",
        semconv.KIND_MCP,
        "tools/call fetch",
        at_ns=NOW,
        attributes={
            semconv.MCP_METHOD: "tools/call",
            semconv.TOOL_NAME: "fetch",
            semconv.NETWORK_TRANSPORT: "pipe",
        },
    )
    recorder.close(mcp, NOW + SECOND)
    for name, kind in (
        ("memory_query", semconv.KIND_MEMORY),
        ("memory_save", semconv.KIND_MEMORY),
        ("knowledge_query", semconv.KIND_KNOWLEDGE),
        ("agent_reasoning", semconv.KIND_REASONING),
    ):
        recorder.close(recorder.open(name, "agent", kind, name, at_ns=NOW), NOW + SECOND)
    recorder.close(agent, NOW + 2 * SECOND)
    recorder.close(run, NOW + 3 * SECOND)
    return done
