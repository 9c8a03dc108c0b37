"""What reading a provider's answer costs: ``python benchmarks/reading.py [--against TREE]``.

Each answer goes through httpx over a transport in memory. *Reading* is what turns it into tokens,
tier, ids and flags. ``--against`` names another checkout (``git worktree add /tmp/before REV``);
both are measured in turn, in processes of their own, and the ratio of minima is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

ROUNDS = 5
"""How often each tree is measured, in turn."""
CALLS = 600
PIECE = 160
"""Bytes of a stream that arrive together."""
TEXT = "The quick brown fox jumps over the lazy dog. " * 20


def answers() -> dict[str, tuple[str, str, bytes]]:
    """Return name → (URL, content type, body) of answers as providers send them."""
    chat = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp",
    }
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 500,
            "cache_read_input_tokens": 400,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
            "output_tokens": 300,
            "service_tier": "standard",
        },
    }
    gemini = {
        "candidates": [
            {"content": {"parts": [{"text": TEXT}], "role": "model"}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 180,
            "thoughtsTokenCount": 120,
            "totalTokenCount": 1300,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r",
    }
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}],
    }
    events = [chunk] * 200
    events += [{**chunk, "choices": [], "usage": chat["usage"]}]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    whole = "application/json"
    openai = "https://api.openai.com/v1/chat/completions"
    google = "https://generativelanguage.googleapis.com/v1beta/models"
    return {
        "openai": (openai, whole, json.dumps(chat).encode()),
        "anthropic": ("https://api.anthropic.com/v1/messages", whole, json.dumps(message).encode()),
        "gemini": (
            f"{google}/gemini-2.5-flash:generateContent",
            whole,
            json.dumps(gemini).encode(),
        ),
        "openai stream": (openai, "text/event-stream", stream.encode()),
    }


def line_items() -> dict[str, float]:
    """Return µs of this thread for reading each answer, with the tree that is on ``sys.path``."""
    import httpx

    from crewmeter.http import observation

    found: dict[str, float] = {}
    for name, (url, content_type, body) in answers().items():
        is_stream = "event-stream" in content_type

        calls = CALLS // 6 if is_stream else CALLS
        client = httpx.Client(transport=httpx.MockTransport(_reply(content_type, body)))
        bare = _exchange(client, url, calls, is_stream) if is_stream else 0.0
        closed: list[observation.HttpExchange] = []
        uninstall = observation.install(opened=lambda _: None, closed=closed.append)
        spent = _exchange(client, url, calls, is_stream)
        started = time.thread_time()
        for exchange in closed:
            # What a span takes.
            plain = getattr(exchange, "plain_answer", None)
            if plain is not None and plain() is not None:
                assert exchange.request_model
                continue
            assert exchange.usage.status == "reported"
            assert exchange.request_model
            assert exchange.response_model
            assert exchange.response_id
            assert exchange.reported_cost_usd is None
        read = time.thread_time() - started
        uninstall()
        total = read + spent - bare if is_stream else read
        found[name] = total / calls * 1e6
    return found


def _reply(content_type: str, body: bytes) -> Callable[[httpx.Request], httpx.Response]:
    """Return what answers each request with ``body``, a stream in pieces as a network would."""
    import httpx

    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]

    def reply(_: httpx.Request) -> httpx.Response:
        content = iter(pieces) if "event-stream" in content_type else body
        return httpx.Response(200, headers={"content-type": content_type}, content=content)

    return reply


def _exchange(client: httpx.Client, url: str, calls: int, is_stream: bool) -> float:
    """Return the CPU seconds of this thread that ``calls`` requests take."""
    request = b'{"model": "gpt-4o", "messages": []}'
    started = time.thread_time()
    for _ in range(calls):
        if is_stream:
            with client.stream("POST", url, content=request) as response:
                for _ in response.iter_bytes():
                    pass
        else:
            client.post(url, content=request)
    return time.thread_time() - started


def run(tree: Path) -> dict[str, float]:
    """Return what `measure` finds with another tree's code."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "tracer")}
    command = [sys.executable, __file__, "--worker"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(out.stdout)
    return found


def main() -> None:
    """Print what reading costs, beside another checkout's if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        json.dump(line_items(), sys.stdout)
        return
    here = Path(__file__).resolve().parents[1]
    trees = [here] if options.against is None else [options.against.resolve(), here]
    results: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for _ in range(ROUNDS):
        for tree in trees:
            results[tree].append(run(tree))
    for name in answers():
        minima = [min(round_[name] for round_ in results[tree]) for tree in trees]
        line = f"{name:<16}" + "".join(f"{minimum:>10.1f} µs" for minimum in minima)
        if len(minima) > 1:
            line += f"{(minima[1] / minima[0] - 1) * 100:>+9.1f} %"
        print(line)


if __name__ == "__main__":
    main()
