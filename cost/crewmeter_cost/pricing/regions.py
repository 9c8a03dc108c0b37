"""Hosts that process a request within one region, for which some providers charge more than for their worldwide endpoint."""

from __future__ import annotations

import re

__all__ = ["is_regional"]

_REGIONAL = {
    "openai": re.compile(r"(?!api\.)[a-z]{2,4}\.api\.openai\.com"),
    "gcp.vertex_ai": re.compile(
        r"[a-z]+(?:-[a-z]+\d+)?-aiplatform\.googleapis\.com|aiplatform\.[a-z]+\.rep\.googleapis\.com"
    ),
}
"""OpenAI's data residency (``eu.api.openai.com``) and Vertex AI's regional endpoints (``us-east5-aiplatform.googleapis.com``).
Bedrock says the region in the model's name."""


def is_regional(provider: str, host: str | None) -> bool:
    """Whether a call went to one of a provider's regional endpoints."""
    pattern = _REGIONAL.get(provider)
    return host is not None and pattern is not None and pattern.fullmatch(host.lower()) is not None
