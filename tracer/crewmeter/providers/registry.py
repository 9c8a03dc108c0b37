"""Which requests are calls to a model: told by the end of the URL's path, confirmed by the rest of it. Pure, stdlib only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from crewmeter import semconv
from crewmeter.providers.hosts import provider_of_host

__all__ = ["Target", "model_in_body", "target"]


@dataclass(frozen=True, slots=True)
class Route:
    """A kind of request to a model."""

    api: str
    """The protocol: it says how the body is read, and whose name to assume behind an unknown host."""
    operation: str
    within: str = ""
    """What the path must hold besides its end."""
    sure: bool = True
    """False: other services end their paths like this too, so a model's name or a known host must confirm it."""


_ROUTES: dict[str, tuple[Route, ...]] = {
    "completions": (
        Route("openai", semconv.CHAT, "/chat/"),
        Route("openai", semconv.CHAT, "/agents/"),
        Route("openai", semconv.TEXT_COMPLETION),
    ),
    "responses": (Route("responses", semconv.CHAT, sure=False),),
    "messages": (Route("anthropic", semconv.CHAT, sure=False),),
    "embeddings": (
        Route("ollama", semconv.EMBEDDINGS, "/api/embeddings"),
        Route("watsonx", semconv.EMBEDDINGS, "/ml/v1/text/"),
        Route("openai", semconv.EMBEDDINGS, sure=False),
    ),
    "multimodalembeddings": (Route("openai", semconv.EMBEDDINGS, sure=False),),
    "contextualizedembeddings": (Route("openai", semconv.EMBEDDINGS, sure=False),),
    "embed": (
        Route("ollama", semconv.EMBEDDINGS, "/api/embed"),
        Route("cohere", semconv.EMBEDDINGS, sure=False),
    ),
    "rerank": (Route("cohere", semconv.RERANK, sure=False),),
    "chat": (
        Route("ollama", semconv.CHAT, "/api/chat", sure=False),
        Route("watsonx", semconv.CHAT, "/ml/v1/text/"),
        Route("cohere", semconv.CHAT, "/v2/chat", sure=False),
        Route("cohere", semconv.CHAT, "/v1/chat", sure=False),
    ),
    "generate": (Route("ollama", semconv.TEXT_COMPLETION, "/api/generate", sure=False),),
    "chat_stream": (Route("watsonx", semconv.CHAT, "/ml/v1/text/"),),
    "generation": (Route("watsonx", semconv.TEXT_COMPLETION, "/ml/v1/text/"),),
    "generation_stream": (Route("watsonx", semconv.TEXT_COMPLETION, "/ml/v1/text/"),),
    "generateContent": (
        Route("gemini", semconv.CHAT, "models/"),
        Route("gemini", semconv.CHAT, "endpoints/"),
    ),
    "streamGenerateContent": (
        Route("gemini", semconv.CHAT, "models/"),
        Route("gemini", semconv.CHAT, "endpoints/"),
    ),
    "embedContent": (Route("gemini", semconv.EMBEDDINGS, "models/"),),
    "batchEmbedContents": (Route("gemini", semconv.EMBEDDINGS, "models/"),),
    "predict": (
        Route("vertex", semconv.EMBEDDINGS, "embedding"),
        Route("vertex", semconv.EMBEDDINGS, "textembedding"),
    ),
    "rawPredict": (
        Route("anthropic", semconv.CHAT, "/publishers/anthropic/"),
        Route("openai", semconv.CHAT, "/publishers/"),
    ),
    "streamRawPredict": (
        Route("anthropic", semconv.CHAT, "/publishers/anthropic/"),
        Route("openai", semconv.CHAT, "/publishers/"),
    ),
    "converse": (Route("bedrock", semconv.CHAT, "/model/"),),
    "converse-stream": (Route("bedrock", semconv.CHAT, "/model/"),),
    "invoke": (Route("bedrock.invoke", semconv.CHAT, "/model/"),),
    "invoke-with-response-stream": (Route("bedrock.invoke", semconv.CHAT, "/model/"),),
    "complete": (Route("snowflake", semconv.CHAT, "/cortex/"),),
    "generations": (Route("images", semconv.GENERATE_CONTENT, "/images/"),),
    "edits": (Route("images", semconv.GENERATE_CONTENT, "/images/"),),
}
"""Last word of the path (after the last ``/`` or ``:``) → the routes it may be, first match wins."""

_DECLARED = {
    "openai": "openai",
    "responses": "openai",
    "images": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "bedrock.invoke": "aws.bedrock",
    "cohere": "cohere",
    "ollama": "ollama",
    "watsonx": "ibm.watsonx.ai",
    "snowflake": "snowflake",
}
_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Target:
    """What the address of a request says of it."""

    route: Route
    host: str | None
    port: int | None
    provider: str | None
    """The host's, else the one whose protocol it is."""
    known: bool
    """Whether the host told the provider."""
    model: str | None
    """The model asked for, where the path names one."""
    in_body: bool
    """Whether the body may name the model better."""


@lru_cache(maxsize=1024)
def target(path: str, host: str | None = None, port: int | None = None) -> Target | None:
    """What a POST to ``path``, without its query, is for; None where it is none to a model.

    Without a ``host``, ``path`` is a whole URL. Remembered, since an app asks few addresses many times.
    """
    found = _route(path)
    if found is None:
        return None
    if host is None:
        parts = urlsplit(path)
        host, port = parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    provider, known = _provider(found, path, host, port)
    return Target(
        found,
        host,
        port,
        provider,
        known,
        _model_in_path(path),
        in_body=found.api not in _NAMED_IN_PATH,
    )


_NAMED_IN_PATH = frozenset({"gemini", "vertex", "bedrock", "bedrock.invoke"})


def _route(path: str) -> Route | None:
    word = path[max(path.rfind("/"), path.rfind(":")) + 1 :]
    for candidate in _ROUTES.get(word, ()):
        if candidate.within in path:
            return candidate
    return None


def _provider(
    found: Route, path: str, host: str | None, port: int | None
) -> tuple[str | None, bool]:
    provider = provider_of_host(host)
    if provider is not None:
        return provider, True
    if "/deployments/" in path:
        return "azure.ai.openai", False
    if port == _OLLAMA_PORT:
        return "ollama", False
    if found.api == "gemini" and "/publishers/" in path:
        return "gcp.vertex_ai", False
    return _DECLARED.get(found.api), False


_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|endpoints)/([^/]+?)(?::[A-Za-z]+)?(?:/|$)")
_NAME = re.compile(rb'\s*:\s*("(?:[^"\\]|\\.){1,300}")')
_FORM_NAME = re.compile(rb'name="model"\r\n\r\n([^\r\n]{1,300})')
_KEY = b'"model"'
_PARSE_UP_TO = 4 * 2**20
"""Bytes of a request body that may be parsed whole to find the model."""


def _model_in_path(path: str) -> str | None:
    match = _MODEL_IN_PATH.search(path)
    return unquote(match.group(1)) if match else None


def model_in_body(body: bytes) -> str | None:
    """The model a request's body names.

    ``"model"`` in quotes can't stand inside a JSON string, so a single one is the key; where there are more, parse.
    """
    first = body.find(_KEY)
    if first < 0:
        match = _FORM_NAME.search(body, 0, 4096)
        return match.group(1).decode("utf-8", "replace") if match else None
    if body.find(_KEY, first + len(_KEY)) >= 0 and len(body) <= _PARSE_UP_TO:
        try:
            model = json.loads(body).get("model")
        except (ValueError, AttributeError):
            return None
        return model if isinstance(model, str) else None
    match = _NAME.match(body, first + len(_KEY))
    if match is None:
        return None
    if b"\\" not in match.group(1):
        return match.group(1)[1:-1].decode("utf-8", "replace")
    try:
        name = json.loads(match.group(1))
    except ValueError:
        return None
    return name if isinstance(name, str) else None
