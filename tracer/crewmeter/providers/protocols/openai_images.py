"""OpenAI's images: generation, edits and variations, by tokens or by the piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map
from crewmeter.providers.provider_protocol import Json, ProviderProtocol, Route, StreamFormat

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["OPENAI_IMAGES"]

_DEFAULT_SIZE = "1024x1024"
_DEFAULT_QUALITY = "standard"
_LONGEST_NAME = 16


def _read(facts: ResponseFacts, answer: Json) -> None:
    """Report the tokens with what the output is made of, or count the images."""
    usage = as_map(answer.get("usage"))
    if not usage:
        images = as_list(answer.get("data"))
        facts.count_units("image", len(images))
    elif "output_tokens_details" not in usage:
        # The endpoint gives no breakdown of the output: all of it is image.
        made = {"image_tokens": usage.get("output_tokens")}
        facts.report({"output_tokens_details": made})


def _read_request(facts: ResponseFacts, request: Json) -> None:
    """Name size and quality, on which the price of an image without tokens depends."""
    if not facts.unit("image"):
        return
    size = _named(request.get("size"), _DEFAULT_SIZE)
    quality = _named(request.get("quality"), _DEFAULT_QUALITY)
    if (quality, size) != (_DEFAULT_QUALITY, _DEFAULT_SIZE):
        facts.rename_unit(
            "image",
            f"image:{quality}:{size}",
        )


def _named(value: object, default: str) -> str:
    if value in (None, "", "auto"):
        return default
    return str(value)[:_LONGEST_NAME]


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
