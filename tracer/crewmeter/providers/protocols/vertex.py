"""Google's ``:predict``: embeddings, images (Imagen) and videos (Veo).

Vertex AI and AI Studio share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map
from crewmeter.providers.protocols.gemini import report_statistics
from crewmeter.providers.provider_protocol import Json, ProviderProtocol, Route, UsageShape, keys
from crewmeter.usage.draft import Raw, UsageDraft, count

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["VERTEX_EMBEDDINGS", "VERTEX_IMAGES", "VERTEX_VIDEO"]

_DEFAULT_VIDEO_SECONDS = 8
"""What Veo makes where the request names no length (ai.google.dev/gemini-api/docs/video)."""


def _read_one_number(raw: Raw, _: str | None) -> UsageDraft:
    """Read an embedding's one count: watsonx, Titan, Vertex."""
    return UsageDraft(
        input=count(raw, "input_token_count", "inputTextTokenCount", "token_count"),
        output=count(raw, "generated_token_count") or 0,
    )


_ONE_NUMBER_KEYS = keys(
    "input_token_count inputTextTokenCount token_count generated_token_count "
    "tokenCount completionReason truncated"
)
ONE_NUMBER_SHAPES = tuple(
    UsageShape(key, _read_one_number, _ONE_NUMBER_KEYS)
    for key in ("input_token_count", "inputTextTokenCount", "token_count")
)


def _read_embeddings(facts: ResponseFacts, answer: Json) -> None:
    texts = [
        as_map(as_map(prediction).get("embeddings")).get("statistics")
        for prediction in as_list(answer.get("predictions"))
    ]
    report_statistics(facts, texts)
    characters = as_map(answer.get("metadata")).get("billableCharacterCount")
    if type(characters) is int:
        facts.count_units("character", characters)


def _read_images(facts: ResponseFacts, answer: Json) -> None:
    """Count the images made. A prediction that was filtered out is not billed."""
    predictions = as_list(answer.get("predictions"))
    made = sum("bytesBase64Encoded" in as_map(item) for item in predictions)
    made += sum("gcsUri" in as_map(item) for item in predictions)
    facts.count_units("image", made)


def _read_video_request(facts: ResponseFacts, request: Json) -> None:
    """Count the seconds ordered: the answer is a job, billed when it has succeeded."""
    parameters = as_map(request.get("parameters"))
    seconds = parameters.get("durationSeconds", _DEFAULT_VIDEO_SECONDS)
    samples = parameters.get("sampleCount", 1)
    if isinstance(seconds, int) and isinstance(samples, int):
        facts.count_units(
            "output_video_ms",
            seconds * samples * 1000,
        )
    facts.flag("unknown_usage:job_not_finished")


VERTEX_EMBEDDINGS = ProviderProtocol(
    name="vertex",
    provider="gcp.vertex_ai",
    routes=(
        Route("predict", semconv.EMBEDDINGS, "embedding"),
        Route("predict", semconv.EMBEDDINGS, "textembedding"),
    ),
    shapes=ONE_NUMBER_SHAPES,
    read=_read_embeddings,
    model_in_path=True,
    counts_without_text=True,
)
VERTEX_IMAGES = ProviderProtocol(
    name="vertex_images",
    provider="gcp.vertex_ai",
    routes=(
        Route("predict", semconv.GENERATE_CONTENT, "/imagen"),
        Route("predict", semconv.GENERATE_CONTENT, "/imagegeneration"),
    ),
    read=_read_images,
    model_in_path=True,
)
VERTEX_VIDEO = ProviderProtocol(
    name="vertex_video",
    provider="gcp.vertex_ai",
    routes=(Route("predictLongRunning", semconv.VIDEO, "models/"),),
    read_request=_read_video_request,
    model_in_path=True,
)
