"""Run the cases that are calls on the wire: a provider's real client against a fake server.

PYTHONPATH=tests python -m truth.run_wire CASES.json ROWS.json
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from truth.sidecar_process import exported

# A loopback address for each provider, which the price file maps to it.
HOSTS = {
    provider: f"127.0.0.{number}"
    for number, provider in enumerate(
        (
            "openai",
            "anthropic",
            "gcp.gemini",
            "gcp.vertex_ai",
            "azure.ai.openai",
            "aws.bedrock",
            "mistral_ai",
            "x_ai",
            "perplexity",
            "moonshotai",
            "openrouter",
            "deepinfra",
            "deepseek",
            "groq",
            "cohere",
            "together_ai",
            "fireworks",
            "voyageai",
            "cerebras",
            "zai",
        ),
        2,
    )
}


class FakeServer(BaseHTTPRequestHandler):
    """Answer every request with the current case's answer."""

    protocol_version = "HTTP/1.1"
    case: dict[str, Any]
    count = 0

    def do_POST(self) -> None:
        """Read the request and send the answer."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        case = FakeServer.case
        FakeServer.count += 1
        body, kind = encoded(case["answer"], case.get("stream", False), FakeServer.count)
        self.send_response(int(case.get("status", 200)))
        headers = {"content-type": kind, **case.get("headers", {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def encoded(answer: Any, streamed: bool, number: int) -> tuple[bytes, str]:
    """Return the body and its type. ``$ID`` in an answer is a new id."""
    if streamed:
        events = [_event(event) for event in answer]
        return "".join(events).replace("$ID", _id(number)).encode(), "text/event-stream"
    text = json.dumps(answer).replace("$ID", _id(number))
    return text.encode(), "application/json"


def _event(event: Any) -> str:
    if isinstance(event, str):
        return f"data: {event}\n\n"
    named = f"event: {event['type']}\n" if "type" in event else ""
    return f"{named}data: {json.dumps(event)}\n\n"


def _id(number: int) -> str:
    return f"truth-{number:012d}-abcdefgh"


class Clients:
    """The providers' own clients, each pointed at the fake server."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls

    def openai(self, provider: str) -> Any:
        """Return OpenAI's client for a provider that speaks its protocol."""
        import openai

        return openai.OpenAI(base_url=self._urls[provider] + "/v1", api_key="k", max_retries=0)

    def azure(self) -> Any:
        """Return OpenAI's client for Azure."""
        import openai

        return openai.AzureOpenAI(
            azure_endpoint=self._urls["azure.ai.openai"],
            api_key="k",
            api_version="2024-10-21",
            max_retries=0,
        )

    def call(self, case: dict[str, Any]) -> None:
        """Make the call of a case."""
        getattr(self, f"call_{case['call']}")(case["provider"], dict(case["args"]))

    def call_chat(self, provider: str, args: dict[str, Any]) -> None:
        """Call chat completions."""
        client = self.azure() if provider == "azure.ai.openai" else self.openai(provider)
        args.setdefault("messages", [{"role": "user", "content": "hi"}])
        made = client.chat.completions.create(**args)
        if args.get("stream"):
            list(made)

    def call_responses(self, provider: str, args: dict[str, Any]) -> None:
        """Call Responses."""
        args.setdefault("input", "hi")
        made = self.openai(provider).responses.create(**args)
        if args.get("stream"):
            list(made)

    def call_embeddings(self, provider: str, args: dict[str, Any]) -> None:
        """Call embeddings."""
        args.setdefault("input", "hi")
        args.setdefault("encoding_format", "float")
        self.openai(provider).embeddings.create(**args)

    def call_image(self, provider: str, args: dict[str, Any]) -> None:
        """Call image generation."""
        client = self.azure() if provider == "azure.ai.openai" else self.openai(provider)
        client.images.generate(prompt="x", **args)

    def call_image_edit(self, provider: str, args: dict[str, Any]) -> None:
        """Call image editing, whose request is multipart."""
        image = io.BytesIO(b"\x89PNG")
        image.name = "a.png"
        self.openai(provider).images.edit(prompt="x", image=image, **args)

    def call_transcription(self, provider: str, args: dict[str, Any]) -> None:
        """Call transcription, whose request is multipart."""
        audio = io.BytesIO(b"RIFF")
        audio.name = "a.wav"
        self.openai(provider).audio.transcriptions.create(file=audio, **args)

    def call_speech(self, provider: str, args: dict[str, Any]) -> None:
        """Call speech."""
        self.openai(provider).audio.speech.create(**args).read()

    def call_messages(self, provider: str, args: dict[str, Any]) -> None:
        """Call Anthropic's messages."""
        import anthropic

        client = anthropic.Anthropic(base_url=self._urls[provider], api_key="k", max_retries=0)
        args.setdefault("messages", [{"role": "user", "content": "hi"}])
        args.setdefault("max_tokens", 9)
        made = client.messages.create(**args)
        if args.get("stream"):
            list(made)

    def call_gemini(self, provider: str, args: dict[str, Any]) -> None:
        """Call Gemini by Google's client."""
        from google import genai

        options: dict[str, Any] = {"base_url": self._urls[provider]}
        vertex = provider == "gcp.vertex_ai"
        client_arguments: dict[str, Any] = {"vertexai": vertex, "http_options": options}
        client = genai.Client(api_key="k", **client_arguments)
        streamed = args.pop("stream", False)
        args.setdefault("contents", "hi")
        if streamed:
            list(client.models.generate_content_stream(**args))
        else:
            client.models.generate_content(**args)

    def call_converse(self, provider: str, args: dict[str, Any]) -> None:
        """Call Bedrock Converse by boto3."""
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=self._urls[provider],
            aws_access_key_id="k",
            aws_secret_access_key="k",
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.converse(
            messages=[{"role": "user", "content": [{"text": "hi"}]}], modelId=args["model"]
        )

    def call_boto(self, provider: str, args: dict[str, Any]) -> None:
        """Call an operation of any of AWS's services for models, and read its body."""
        import boto3
        from botocore.config import Config

        client = boto3.client(
            args["service"],
            region_name=args["region"],
            endpoint_url=self._urls[provider],
            aws_access_key_id="k",
            aws_secret_access_key="k",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made = getattr(client, args["op"])(**args["params"])
        if hasattr(made.get("body"), "read"):
            made["body"].read()

    def call_urllib(self, provider: str, args: dict[str, Any]) -> None:
        """Post JSON by urllib, which has no reader."""
        body = json.dumps(args["body"]).encode()
        url = self._urls[provider] + args["path"]
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=30).read()

    def call_post(self, provider: str, args: dict[str, Any]) -> None:
        """Post JSON by httpx, as clients without a package of their own do."""
        import httpx

        headers = {"authorization": "Bearer k"}
        url = self._urls[provider] + args["path"]
        httpx.post(url, json=args["body"], headers=headers, timeout=30).read()


def serve() -> dict[str, str]:
    """Start a fake server at every provider's address, and return the URLs."""
    urls = {}
    for provider, host in HOSTS.items():
        server = ThreadingHTTPServer((host, 0), FakeServer)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        urls[provider] = f"http://{host}:{server.server_address[1]}"
    return urls


def main(cases_file: str, rows_file: str) -> None:
    """Make every call, and write the rows of each case by its name."""
    cases = json.loads(Path(cases_file).read_text("utf-8"))
    folder = Path(rows_file).with_name("home")  # goes with the folder of the case files
    folder.mkdir()
    prices = folder / "prices.toml"
    listed = "".join(f'"{host}" = "{provider}"\n' for provider, host in HOSTS.items())
    prices.write_text(f"[hosts]\n{listed}")
    os.environ.update(
        HOME=str(folder),
        CREWMETER_PRICES=str(prices),
        CREWAI_DISABLE_TELEMETRY="true",
        CREWAI_TRACING_ENABLED="false",
        CREWAI_TESTING="true",
        AWS_EC2_METADATA_DISABLED="true",
    )
    ledger = f"sqlite:///{folder / 'wire.db'}"
    import crewmeter

    handle = crewmeter.instrument(ledger=ledger, summary=False)
    clients = Clients(serve())
    for case in cases:
        FakeServer.case = case
        # A client may refuse an answer after it was billed.
        with crewmeter.attribute(case=case["name"]), contextlib.suppress(Exception):
            clients.call(case)
    handle.flush(60)
    rows: dict[str, list[Any]] = {case["name"]: [] for case in cases}
    for row in exported(ledger):
        name = row["tags"].get("case")
        if name in rows:
            rows[name].append(row)
    Path(rows_file).write_text(json.dumps(rows), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
