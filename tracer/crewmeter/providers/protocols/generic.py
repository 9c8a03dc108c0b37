"""Usage of no provider in particular, and requests to unknown endpoints."""

from __future__ import annotations

import re

from crewmeter import semconv
from crewmeter.providers.protocols.openai_chat import OPENAI_KEYS, read_usage_counts
from crewmeter.providers.provider_protocol import ProviderProtocol, UsageShape, keys
from crewmeter.usage.draft import Raw, UsageDraft, count

__all__ = [
    "GENERIC",
    "UNROUTED",
    "is_collection",
    "is_free",
    "is_likely_model",
    "operation_by_path",
]

_READ_ONLY_PROVIDERS = ("voyageai", "jina_ai")
_PIXELS = {"image_pixels": "image_pixel", "video_pixels": "video_pixel"}
"""Voyage's counts of what it embedded besides text (docs.voyageai.com, "Pricing")."""


def _read_total(raw: Raw, provider: str | None) -> UsageDraft:
    """Read ``total_tokens`` alone.

    Voyage and Jina only read. Elsewhere the split is not known.
    """
    reads_only = provider in _READ_ONLY_PROVIDERS or "image_pixels" in raw or "text_tokens" in raw
    draft = UsageDraft(
        input=count(raw, "total_tokens"),
        output=0 if reads_only else None,
    )
    for name, unit in _PIXELS.items():
        pixels = count(raw, name)
        if pixels:
            # The total has the pixels in it, converted. The bill has them at a price of their own.
            draft.input = count(raw, "text_tokens") or 0
            draft.add_unit(unit, pixels)
    return draft


GENERIC = ProviderProtocol(
    name="generic",
    provider=None,
    routes=(),
    shapes=(
        UsageShape("completion_tokens", read_usage_counts, OPENAI_KEYS),
        UsageShape(
            "total_tokens",
            _read_total,
            OPENAI_KEYS | keys("image_pixels video_pixels text_tokens image_tokens"),
        ),
    ),
)
"""What is left when no protocol's usage fits: tried last."""

UNROUTED = ProviderProtocol(name="unrouted", provider=None, routes=(), is_understood=False)
"""A request to a provider's host at an endpoint that no protocol has."""

_FREE_FAMILIES = re.compile(
    r"/(?:files|uploads|assistants|threads|vector_stores|conversations|organizations?|keys|auth"
    r"|oauth2?|evals|datasets|prompts|skills|credits|feedback|telemetry|libraries|sessions"
    r"|fileSearchStores|permissions|webhooks|connectors|voice_consents)"
    r"(?:/[^:]*)?$"
)
"""Collections that cost nothing to write to."""
_BILLED_INSIDE = re.compile(r"/(?:runs|search)(?:/|$)|/sessions/[^/]+/(?:text|events)$")
"""What is billed inside them all the same."""
_FREE_ENDINGS = re.compile(
    r"[/:_](?:models|engines|tags|show|ps|pull|push|copy|create|version|health|token|tokens|login"
    r"|count_?[tT]okens|countTokens|computeTokens|input_tokens|tokenize|detokenize|token-count"
    r"|count-tokens|cancel|moderations|validate|client_secrets|transcription_sessions"
    r"|undeploy|operations|fetchPredictOperation|pause|resume|check-api-key|agents"
    r"|tokenize-text|hangup|register)$"
    r"|/chat/completions/[^/]+$"  # changes what is stored with an answer
)
"""Last words of paths that take a POST and bill nothing for it."""
_OPERATIONS = (
    ("transcri", semconv.TRANSCRIPTION),
    ("translat", semconv.TRANSCRIPTION),
    ("listen", semconv.TRANSCRIPTION),
    ("speech", semconv.SPEECH),
    ("tts", semconv.SPEECH),
    ("ocr", semconv.OCR),
    ("video", semconv.VIDEO),
    ("predictLongRunning", semconv.VIDEO),
    ("batch", semconv.BATCH),
    ("moderation", semconv.MODERATION),
    ("embed", semconv.EMBEDDINGS),
    ("rerank", semconv.RERANK),
)
_ENDPOINTS_WITHOUT_VERSION = re.compile(
    r"/(?:search|generate|generations?|predictions?|invocations|inference|workflows|completions"
    r"|runs|services/aigc/.+)$"
)
"""Endings of paths to models that name no version of an interface."""


def is_collection(path: str) -> bool:
    """Tell whether a path belongs to a collection that costs nothing to write to."""
    return _FREE_FAMILIES.search(path) is not None and not _BILLED_INSIDE.search(path)


def is_free(path: str) -> bool:
    """Tell whether a POST to ``path`` at a provider's host costs nothing."""
    return _FREE_ENDINGS.search(path) is not None or is_collection(path)


def is_likely_model(path: str) -> bool:
    """Tell whether an unknown path without a version reads like one to a model."""
    return operation_by_path(path) != semconv.UNROUTED or (
        _ENDPOINTS_WITHOUT_VERSION.search(path) is not None
    )


def operation_by_path(path: str) -> str:
    """Return the operation that the words of an unknown path suggest."""
    for word, operation in _OPERATIONS:
        if word in path:
            return operation
    return semconv.UNROUTED
