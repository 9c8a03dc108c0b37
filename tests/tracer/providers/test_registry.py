"""Which requests are calls: known endpoints by protocol, unknown ones never in silence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewmeter.providers.registry import find_endpoint
from crewmeter.providers.request_model import model_in_body

OPENAI, ANTHROPIC = "api.openai.com", "api.anthropic.com"
GEMINI, VERTEX = "generativelanguage.googleapis.com", "us-central1-aiplatform.googleapis.com"
MODEL = "/v1/projects/p/locations/us-central1/publishers/google/models"

ROUTED = [
    (OPENAI, "/v1/chat/completions", "openai", "chat"),
    (OPENAI, "/v1/chat/completions/", "openai", "chat"),
    (OPENAI, "/v1/responses", "responses", "chat"),
    (OPENAI, "/v1/responses/compact", "responses", "chat"),
    (OPENAI, "/v1/images/generations", "images", "generate_content"),
    (OPENAI, "/v1/images/edits", "images", "generate_content"),
    (OPENAI, "/v1/audio/transcriptions", "transcription", "transcription"),
    (OPENAI, "/v1/audio/translations", "transcription", "transcription"),
    (OPENAI, "/v1/audio/speech", "speech", "speech"),
    (OPENAI, "/v1/videos", "video", "video_generation"),
    ("me.openai.azure.com", "/openai/deployments/d/audio/speech", "speech", "speech"),
    (ANTHROPIC, "/v1/messages", "anthropic", "chat"),
    (GEMINI, "/v1beta/models/gemini-2.5-flash:generateContent", "gemini", "chat"),
    (GEMINI, "/v1beta/interactions", "gemini_interactions", "chat"),
    (GEMINI, "/v1beta/models/imagen-4:predict", "vertex_images", "generate_content"),
    (VERTEX, f"{MODEL}/text-embedding-005:predict", "vertex", "embeddings"),
    (VERTEX, f"{MODEL}/imagen-4:predict", "vertex_images", "generate_content"),
    (VERTEX, f"{MODEL}/veo-3:predictLongRunning", "vertex_video", "video_generation"),
    ("api.mistral.ai", "/v1/ocr", "mistral_ocr", "ocr"),
    ("api.mistral.ai", "/v1/moderations", "mistral_moderation", "moderation"),
    ("api.mistral.ai", "/v1/audio/transcriptions", "transcription", "transcription"),
    ("api.groq.com", "/openai/v1/audio/transcriptions", "transcription", "transcription"),
    ("localhost", "/api/embed", "ollama", "embeddings"),
    ("api.cohere.com", "/v2/rerank", "cohere", "rerank"),
]
UNROUTED = [
    (OPENAI, "/v1/batches", "batch"),
    (OPENAI, "/v1/brand/new", "unrouted"),
    (OPENAI, "/v1/threads/t/runs", "unrouted"),
    (OPENAI, "/v1/vector_stores/v/search", "unrouted"),
    (ANTHROPIC, "/v1/sessions/s/events", "unrouted"),
    (
        "bedrock-agent-runtime.us-east-1.amazonaws.com",
        "/agents/a/agentAliases/b/sessions/s/text",
        "unrouted",
    ),
    ("x.services.ai.azure.com", "/api/projects/p/threads/t/runs", "unrouted"),
    (OPENAI, "/v1/fine_tuning/jobs", "unrouted"),
    (OPENAI, "/v1/realtime/calls", "unrouted"),
    (ANTHROPIC, "/v1/messages/batches", "batch"),
    (GEMINI, "/v1beta/models/x:batchGenerateContent", "batch"),
    (GEMINI, "/v1beta/models/x:brandNew", "unrouted"),
    (VERTEX, f"{MODEL}/x:brandNew", "unrouted"),
    ("api.replicate.com", "/v1/models/a/b/predictions", "unrouted"),
    ("api.elevenlabs.io", "/v1/text-to-speech/voice", "speech"),
    ("router.huggingface.co", "/hf-inference/models/org/m", "unrouted"),
    ("x.snowflakecomputing.com", "/api/v2/cortex/new", "unrouted"),
]
FREE = [
    (OPENAI, "/v1/files"),
    (OPENAI, "/v1/uploads/u/parts"),
    (OPENAI, "/v1/moderations"),
    (OPENAI, "/v1/batches/b/cancel"),
    (OPENAI, "/v1/responses/r/cancel"),
    (OPENAI, "/v1/responses/input_tokens"),
    (OPENAI, "/v1/threads/t/messages"),
    (OPENAI, "/v1/realtime/client_secrets"),
    (ANTHROPIC, "/v1/messages/count_tokens"),
    (GEMINI, "/v1beta/models/gemini-2.5-flash:countTokens"),
    (GEMINI, "/upload/v1beta/files"),
    (VERTEX, f"{MODEL}/gemini-2.5-flash:countTokens"),
    (VERTEX, "/v1/projects/p/locations/l/datasets"),
    ("x.snowflakecomputing.com", "/queries/v1/query-request"),
    ("dbc.cloud.databricks.com", "/api/2.0/sql/statements"),
    ("api.cloudflare.com", "/client/v4/zones"),
    ("someone.modal.run", "/submit"),
]


@pytest.mark.parametrize(("host", "path", "protocol", "operation"), ROUTED)
def test_known_endpoints_have_their_protocol(host, path, protocol, operation):
    """An endpoint that is known is read by its protocol, under its operation."""
    found = find_endpoint(path, host, 443)
    assert found is not None
    assert (found.protocol.name, found.operation) == (protocol, operation)


@pytest.mark.parametrize(("host", "path", "operation"), UNROUTED)
def test_an_unknown_endpoint_of_a_provider_is_a_call(host, path, operation):
    """It may be billed, so it is never silent; its path suggests what it does."""
    found = find_endpoint(path, host, 443)
    assert found is not None
    assert (found.protocol.name, found.operation) == ("unrouted", operation)


@pytest.mark.parametrize(("host", "path"), FREE)
def test_free_endpoints_are_no_calls(host, path):
    """What costs nothing, and what is no model at all, makes no row."""
    assert find_endpoint(path, host, 443) is None


@pytest.mark.parametrize("path", ["/v1/brand/new", "/v1/batches", "/v1/files", "/"])
def test_an_unknown_host_has_no_unknown_endpoints(path):
    """Elsewhere a path that nobody knows is the app's own business."""
    assert find_endpoint(path, "example.com", 443) is None


@given(
    st.text(max_size=300),
    st.sampled_from([OPENAI, VERTEX, "example.com", None, ""]),
    st.sampled_from(["", "/v1/chat/completions", ":predict", "/models/%00:generateContent"]),
)
@settings(max_examples=300, deadline=None)
def test_no_path_whatever_raises(path, host, ending):
    """Hostile paths find an endpoint or none, and what is held of them is short."""
    found = find_endpoint(path * 20 + ending, host, 443)
    assert found is None or len(found.path) <= 1000
    assert found is None or len(found.model or "") <= 300


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n%b\r\ngpt-image-1\r\n--b--\r\n'
)


@pytest.mark.parametrize("header", [b"", b"Content-Type: text/plain\r\n"])
@pytest.mark.parametrize("filling", [b"", b"\xff" * 300_000])
def test_a_form_names_its_model(header, filling):
    """Multipart requests (image edits, transcriptions) say their model in a field."""
    assert model_in_body(FORM % header + filling) == "gpt-image-1"
    head = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + filling + b"\r\n"
    assert model_in_body(head + FORM % header) == "gpt-image-1"
