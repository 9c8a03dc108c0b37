"""OpenAI's images: generation, edits and variations, by tokens or by the piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map
from crewmeter.providers.protocol import Json, ProviderProtocol, Route, StreamFormat

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["OPENAI_IMAGES"]

_DEFAULT_SIZE = "1024x1024"
_OTHER_SIZES = frozenset({"auto", "", None})


def _read(facts: ResponseFacts, answer: Json) -> None:
    """Report the tokens with what the output is made of, or count the images."""
    usage = as_map(answer.get("usage"))
    if usage and "output_tokens_details" not in usage:
        # The endpoint gives no breakdown of the output: all of it is image.
        facts.report({"output_tokens_details": {"image_tokens": usage.get("output_tokens")}})
    if not usage:
        facts.count_units("image", len(as_list(answer.get("data"))))


def _read_request(facts: ResponseFacts, request: Json) -> None:
    """Name size and quality, on which the price of an image without tokens depends."""
    if not facts.unit("image"):
        return
    size = request.get("size")
    size = _DEFAULT_SIZE if size in _OTHER_SIZES else str(size)[:16]
    quality = request.get("quality")
    quality = "standard" if quality in _OTHER_SIZES else str(quality)[:16]
    if (quality, size) != ("standard", _DEFAULT_SIZE):
        facts.rename_unit("image", f"image:{quality}:{size}")


OPENAI_IMAGES = ProviderProtocol(
    name="images",
    provider="openai",
    routes=(
        Route("generations", semconv.GENERATE_CONTENT, "/images/"),
        Route("edits", semconv.GENERATE_CONTENT, "/images/"),
        Route("variations", semconv.GENERATE_CONTENT, "/images/"),
    ),
    stream=StreamFormat(
        marks=(b'.completed"', b'"error"'),
        is_last=lambda event: str(event.get("type")).endswith(".completed"),
        is_whole=lambda event: str(event.get("type")).endswith(".completed"),
    ),
    read=_read,
    read_request=_read_request,
    response_keys=frozenset(
        ["created", "data", "usage", "background", "output_format", "quality", "size"]
    ),
)
