"""Every protocol in the order of trial, and the one behind an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from crewmeter.providers.hosts import (
    canonical_provider,
    is_model_path,
    is_provider,
    provider_of_host,
)
from crewmeter.providers.protocols.anthropic import ANTHROPIC
from crewmeter.providers.protocols.bedrock import BEDROCK, BEDROCK_INVOKE
from crewmeter.providers.protocols.cohere import COHERE
from crewmeter.providers.protocols.gemini import GEMINI
from crewmeter.providers.protocols.gemini_interactions import GEMINI_INTERACTIONS
from crewmeter.providers.protocols.generic import (
    GENERIC,
    UNROUTED,
    is_collection,
    is_free,
    is_likely_model,
    operation_by_path,
)
from crewmeter.providers.protocols.mistral import (
    MISTRAL_CONVERSATIONS,
    MISTRAL_MODERATION,
    MISTRAL_OCR,
)
from crewmeter.providers.protocols.ollama import OLLAMA
from crewmeter.providers.protocols.openai_audio import OPENAI_SPEECH, OPENAI_TRANSCRIPTION
from crewmeter.providers.protocols.openai_chat import OPENAI_CHAT, SNOWFLAKE
from crewmeter.providers.protocols.openai_images import OPENAI_IMAGES
from crewmeter.providers.protocols.openai_responses import OPENAI_RESPONSES
from crewmeter.providers.protocols.openai_video import OPENAI_VIDEO
from crewmeter.providers.protocols.vertex import (
    VERTEX_EMBEDDINGS,
    VERTEX_IMAGES,
    VERTEX_VIDEO,
)
from crewmeter.providers.protocols.watsonx import WATSONX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.providers.provider_protocol import ProviderProtocol, Route

__all__ = ["PROTOCOLS", "SHAPES", "Endpoint", "declare_hosts", "find_endpoint", "provider_behind"]

PROTOCOLS: tuple[ProviderProtocol, ...] = (
    BEDROCK,
    BEDROCK_INVOKE,
    GEMINI,
    GEMINI_INTERACTIONS,
    OLLAMA,
    COHERE,
    WATSONX,
    ANTHROPIC,
    SNOWFLAKE,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    OPENAI_IMAGES,
    OPENAI_TRANSCRIPTION,
    OPENAI_SPEECH,
    OPENAI_VIDEO,
    MISTRAL_OCR,
    MISTRAL_MODERATION,
    MISTRAL_CONVERSATIONS,
    VERTEX_EMBEDDINGS,
    VERTEX_IMAGES,
    VERTEX_VIDEO,
    GENERIC,
    UNROUTED,
)
"""To add a provider's protocol: its file, and a line here.

The order matters where two protocols share the ending of a path or a key of their usage: the one
that asks for more comes first.
"""

SHAPES = tuple(shape for protocol in PROTOCOLS for shape in protocol.shapes)
"""Every form of usage, in the order in which they are tried."""


def _routes_by_ending() -> dict[str, tuple[tuple[Route, ProviderProtocol], ...]]:
    found: dict[str, tuple[tuple[Route, ProviderProtocol], ...]] = {}
    for protocol in PROTOCOLS:
        for route in protocol.routes:
            found[route.ending] = (*found.get(route.ending, ()), (route, protocol))
    return found


_ROUTES = _routes_by_ending()
_declared: dict[str, str] = {}
"""Host → provider, as the user has it. Changed only while nothing is metered."""
_OLLAMA_PORT = 11434
_DEFAULT_PORTS = {"https": 443, "http": 80}
_COUNTS_TOKENS = "/models/count-tokens:rawPredict"
"""Where Anthropic's client for Vertex AI counts tokens, free of charge."""
_LONGEST_PATH = 1000
_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|endpoints)/([^/]+?)(?::[A-Za-z]+)?(?:/|$)")
_LONGEST_MODEL = 300
_VERSIONED = re.compile(r"/(?:[\w-]+/)*v\d+(?:alpha|beta)?\d*/(?!(?:traces|metrics|logs)$)")
"""Paths of providers' interfaces, and not OTLP's."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the address of a request says of it."""

    protocol: ProviderProtocol
    operation: str
    is_sure: bool
    """False where only a model's name in the body can confirm that a model is called."""
    host: str | None
    port: int | None
    provider: str | None
    """The host's, else the one whose protocol it is."""
    is_known_host: bool
    """Whether the host is a provider's own. One that only the user maps may be a gateway."""
    model: str | None
    """The model that the path names, if it names one."""
    path: str
    """The path, shortened."""


def find_endpoint(path: str, host: str | None = None, port: int | None = None) -> Endpoint | None:
    """Return what a POST to ``path`` is for.

    Returns None where it calls no model. ``path`` has no query. Without a ``host``, ``path`` is a
    whole URL. The result is cached: an app has few addresses.
    """
    return _find(
        path[:_LONGEST_PATH],
        host,
        port,
    )


@lru_cache(maxsize=1024)
def _find(path: str, host: str | None, port: int | None) -> Endpoint | None:
    if host is None:
        try:
            parts = urlsplit(path)
            host = parts.hostname
            port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return None
        path = parts.path
    path = path.rstrip("/")
    known = provider_of_host(host)
    provider = known or _declared_provider(host)
    found = _route(path, provider)
    if provider is not None and is_collection(path) and not _is_billed_collection(provider, path):
        return None  # messages of a thread are no call to a model
    if path.endswith(_COUNTS_TOKENS):
        return None
    if found is None:
        if known is None and not (_VERSIONED.match(path) or is_likely_model(path)):
            return None  # a host of the user's may serve more than models
        return _unrouted(path, host, port, provider)
    route, protocol = found
    model = _model_in_path(path)
    operation = route.operation
    if protocol.operation_of is not None:
        operation = protocol.operation_of(model)
    return Endpoint(
        protocol=protocol,
        operation=operation,
        is_sure=route.sure or provider is not None,
        host=host,
        port=port,
        provider=provider or _assumed_provider(protocol, path, port),
        is_known_host=known is not None,
        model=model,
        path=path,
    )


def provider_behind(host: str | None) -> str | None:
    """Return whose host it is: known here, or declared by the user."""
    return provider_of_host(host) or _declared_provider(host)


def declare_hosts(hosts: Mapping[str, str]) -> Callable[[], None]:
    """Take the user's word for who is behind some hosts. Return what takes it back.

    A host is given in lower case; one with a leading dot covers its subdomains.
    """
    added = {}
    for host, name in hosts.items():
        provider = canonical_provider(name)
        if provider is not None and is_provider(provider):
            added[host] = provider
    if not added:
        return _nothing
    before = dict(_declared)
    _declared.update(added)
    _find.cache_clear()

    def undo() -> None:
        _declared.clear()
        _declared.update(before)
        _find.cache_clear()

    return undo


def _is_billed_collection(provider: str, path: str) -> bool:
    """Tell whether writing to a collection runs a model: Mistral's conversations do."""
    return provider == "mistral_ai" and "/conversations" in path


def _nothing() -> None:
    """Take nothing back."""


def _declared_provider(host: str | None) -> str | None:
    if not host or not _declared:
        return None
    name = host.lower().rstrip(".")
    found = _declared.get(name)
    while found is None and "." in name:
        name = name.partition(".")[2]
        found = _declared.get("." + name)
    return found


def _route(path: str, provider: str | None) -> tuple[Route, ProviderProtocol] | None:
    ending = path[
        max(
            path.rfind("/"),
            path.rfind(":"),
        )
        + 1 :
    ]
    for route, protocol in _ROUTES.get(ending, ()):
        if route.within in path and route.provider in (None, provider):
            return route, protocol
    return None


def _unrouted(
    path: str, host: str | None, port: int | None, provider: str | None
) -> Endpoint | None:
    """Return the endpoint of a request that a provider may bill and no route knows."""
    if provider is None or not is_model_path(provider, path):
        return None
    if is_free(path) and not _is_billed_collection(provider, path):
        return None
    return Endpoint(
        protocol=UNROUTED,
        operation=operation_by_path(path),
        is_sure=True,
        host=host,
        port=port,
        provider=provider,
        is_known_host=True,
        model=_model_in_path(path),
        path=path,
    )


def _assumed_provider(protocol: ProviderProtocol, path: str, port: int | None) -> str | None:
    if "/deployments/" in path:
        return "azure.ai.openai"
    if port == _OLLAMA_PORT:
        return "ollama"
    if protocol is GEMINI and "/publishers/" in path:
        return "gcp.vertex_ai"
    return protocol.provider


def _model_in_path(path: str) -> str | None:
    match = _MODEL_IN_PATH.search(path)
    if match:
        return unquote(match.group(1))[:_LONGEST_MODEL]
    return None
