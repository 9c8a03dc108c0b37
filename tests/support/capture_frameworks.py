"""Capture what frameworks send by OTLP as fixtures: `framework_apps.py` against a fake provider.

    python tests/support/capture_frameworks.py NAME=PYTHON …

NAME is a function of `framework_apps.py`, PYTHON the interpreter of an environment with what it
imports, or ``vercel_ai=FOLDER`` with a folder in which npm installed ``ai``, ``@ai-sdk/openai``,
``@opentelemetry/sdk-node``, ``@opentelemetry/exporter-trace-otlp-proto`` and ``zod``. What else to
install, and the versions of the fixtures, are in the pages of ``docs/how-to/frameworks``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from http.server import ThreadingHTTPServer
from pathlib import Path

from crewmeter_cost.demo.fake_provider import FakeProvider
from support.capture_spans import Receiver, as_json
from support.paths import SPAN_FIXTURES, TESTS

FOLDER = SPAN_FIXTURES / "frameworks"


def command(name: str, runtime: str) -> tuple[list[str], Path | None]:
    """The command that runs an app, and the folder to run it in."""
    if name.startswith("vercel"):
        script = Path(runtime) / "vercel_ai.mjs"
        script.write_text((TESTS / "support/vercel_ai.mjs").read_text("utf-8"), "utf-8")
        return ["node", str(script)], Path(runtime)
    return [runtime, str(TESTS / "support/framework_apps.py"), name], None


def capture(name: str, runtime: str) -> None:
    """Run one app and write ``fixtures/frameworks/NAME.json``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.bodies = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words, folder = command(name, runtime)
    with FakeProvider() as fake_provider, tempfile.TemporaryDirectory() as home:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "OPENAI_BASE_URL": fake_provider.base_url("openai"),
            "OPENAI_API_KEY": "sk-fake",
            "ANTHROPIC_BASE_URL": fake_provider.base_url("anthropic").removesuffix("/v1"),
            "ANTHROPIC_API_KEY": "fake",
            "GOOGLE_GEMINI_BASE_URL": fake_provider.base_url("gcp.gemini"),
            "GOOGLE_API_KEY": "fake",
            "OPENAI_AGENTS_DISABLE_TRACING": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        }
        done = subprocess.run(
            words, env=env, capture_output=True, text=True, timeout=300, cwd=folder or home
        )
        billed = [asdict(entry) for entry in fake_provider.billing_log.billed]
    server.shutdown()
    requests = [as_json(body) for body in server.bodies]
    spans = [
        span
        for request in requests
        for group in request["resourceSpans"]
        for scoped in group["scopeSpans"]
        for span in scoped["spans"]
    ]
    print(f"{name}: exit {done.returncode}, {len(billed)} billed, {len(spans)} spans")
    if done.returncode or not spans:
        print((done.stdout + done.stderr)[-1500:])
        return
    text = json.dumps(
        {"billed": billed, "requests": requests}, separators=(",", ":"), ensure_ascii=False
    )
    # One span, and one billed exchange, a line.
    for start in ('{"traceId"', '"requests":', '{"number"'):
        text = text.replace(start, "\n" + start)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        capture(*argument.split("=", 1))
