"""Regions that a host names, for providers whose prices depend on them."""

from __future__ import annotations

import re

__all__ = ["bedrock_region", "geographies", "is_regional"]

_REGIONAL = {
    # OpenAI's data residency (eu.api.openai.com).
    "openai": re.compile(r"(?!api\.)[a-z]{2,4}\.api\.openai\.com"),
    # Vertex AI's regional endpoints (us-east5-aiplatform.googleapis.com).
    "gcp.vertex_ai": re.compile(
        r"[a-z]+(?:-[a-z]+\d+)?-aiplatform\.googleapis\.com"
        r"|aiplatform\.[a-z]+\.rep\.googleapis\.com"
    ),
}
_BEDROCK = re.compile(
    r"bedrock(?:-[a-z-]+?)?\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\."
    r"(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)"
)

_GEOGRAPHIES = {"ap": ("apac", "jp", "au", "in"), "eu": ("eu",), "ca": ("ca",), "sa": ("sa",)}
"""First part of an AWS region → the marks of Bedrock's profiles that may cover it."""


def geographies(region: str) -> tuple[str, ...]:
    """Return the marks of the cross-region profiles that an AWS region may be in."""
    return _GEOGRAPHIES.get(region.partition("-")[0], ())


def is_regional(provider: str, host: str | None) -> bool:
    """Return whether a call went to one of a provider's regional endpoints.

    They process a request within one region, and some providers charge more for that than at their
    worldwide endpoint. Bedrock tells it in the model's name.
    """
    pattern = _REGIONAL.get(provider)
    if host is None or pattern is None:
        return False
    return pattern.fullmatch(host.lower()) is not None


def bedrock_region(host: str | None) -> str | None:
    """Return the AWS region of a Bedrock host.

    ``bedrock-runtime.eu-west-1.amazonaws.com`` is in ``eu-west-1``.
    """
    match = _BEDROCK.search(host.lower()) if host else None
    if match is None:
        return None
    return match["region"]
