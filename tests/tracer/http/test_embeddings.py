"""Embeddings and reranks.

No event tells of them, so the wire must, for every provider CrewAI's memory and knowledge can use.
"""

from __future__ import annotations

import base64
import contextvars
import json
import random
import struct

import httpx
import pytest
import requests
from support.canned_http import canned
from support.http_recording import recording

from crewmeter.http import observation
from crewmeter.usage.token_usage import TokenUsage

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDKs' own
T = TokenUsage
VECTORS = [[random.Random(i).uniform(-1, 1) for _ in range(1536)] for i in range(40)]
PACKED = [base64.b64encode(struct.pack("1536f", *vector)).decode() for vector in VECTORS]
ESTIMATED = ("usage_not_sent", "input_estimated")

# name: (path, request, answer, usage, facts); each answer is far larger than what is parsed whole
SHAPES = {
    "openai": (
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["a"]},
        {
            "object": "list",
            "data": [{"embedding": p} for p in PACKED],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 12345},
        },
        T(12345, 0),
        {"provider": "openai", "response_model": "text-embedding-3-small"},
    ),
    "azure": (
        "/openai/deployments/my-embedder/embeddings?api-version=1",
        {"input": ["a"]},
        {
            "data": [{"embedding": v} for v in VECTORS],
            "model": "text-embedding-3-large",
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        },
        T(7, 0),
        {
            "provider": "azure.ai.openai",
            "request_model": "my-embedder",
            "response_model": "text-embedding-3-large",
        },
    ),
    "jina puts the usage first": (
        "/v1/embeddings",
        {"model": "jina-embeddings-v3", "input": ["a"]},
        {
            "model": "jina-embeddings-v3",
            "usage": {"total_tokens": 9, "prompt_tokens": 9},
            "data": [{"embedding": v} for v in VECTORS],
        },
        T(9, 0),
        {"request_model": "jina-embeddings-v3"},
    ),
    "voyage has a total only": (
        "/v1/embeddings",
        {"model": "voyage-3", "input": ["a"]},
        {
            "object": "list",
            "data": [{"embedding": v} for v in VECTORS],
            "model": "voyage-3",
            "usage": {"total_tokens": 11},
        },
        T(11, 0),
        {"request_model": "voyage-3"},
    ),
    "cohere": (
        "/v2/embed",
        {"model": "embed-v4.0", "texts": ['say "usage": {"x": 1}']},
        {
            "id": "e-1",
            "embeddings": {"float": VECTORS},
            "texts": ['"usage": {}'],
            "meta": {"billed_units": {"input_tokens": 4.0}},
        },
        T(4, 0),
        {"provider": "cohere", "response_id": "e-1"},
    ),
    "ollama": (
        "/api/embed",
        {"model": "nomic-embed-text", "input": ["a"]},
        {
            "model": "nomic-embed-text",
            "embeddings": VECTORS,
            "total_duration": 14143917,
            "prompt_eval_count": 8,
        },
        T(8, 0),
        {"provider": "ollama"},
    ),
    "watsonx": (
        "/ml/v1/text/embeddings?version=1",
        {"model_id": "ibm/slate", "inputs": ["a"]},
        {
            "model_id": "ibm/slate",
            "results": [{"embedding": v} for v in VECTORS],
            "input_token_count": 6,
        },
        T(6, 0),
        {"provider": "ibm.watsonx.ai"},
    ),
    "vertex counts per text": (
        "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict",
        {"instances": [{"content": "a"}, {"content": "b"}]},
        {
            "predictions": [
                {
                    "embeddings": {
                        "values": v,
                        "statistics": {"token_count": 3.0, "truncated": False},
                    }
                }
                for v in VECTORS[:2]
            ]
        },
        T(6, 0),
        {"provider": "gcp.vertex_ai", "request_model": "text-embedding-005"},
    ),
    "vertex, many texts": (
        "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict",
        {"instances": [{"content": "a"}]},
        {
            "predictions": [
                {"embeddings": {"values": v, "statistics": {"token_count": 3, "truncated": False}}}
                for v in VECTORS
            ]
        },
        T(120, 0),
        {},
    ),
    "gemini with usage": (
        "/v1beta/models/gemini-embedding-2:batchEmbedContents",
        {"requests": []},
        {
            "embeddings": [{"values": v} for v in VECTORS],
            "usageMetadata": {"promptTokenCount": 21, "totalTokenCount": 21},
        },
        T(21, 0),
        {"provider": "gcp.gemini", "request_model": "gemini-embedding-2"},
    ),
    "gemini without usage is estimated from the texts": (
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        {
            "requests": [
                {"content": {"parts": [{"text": "The keeper lit the lamp at dusk. " * 10}]}}
            ]
        },
        {"embeddings": [{"values": v} for v in VECTORS]},
        T(72, 0, status="estimated", flags=ESTIMATED),
        {},
    ),
    "bedrock titan": (
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
        {"inputText": "a"},
        {"embedding": VECTORS[0], "inputTextTokenCount": 5},
        T(5, 0),
        {"provider": "aws.bedrock", "request_model": "amazon.titan-embed-text-v2:0"},
    ),
}


@pytest.mark.mostly_slow("openai")
@pytest.mark.parametrize("library", ["httpx", "requests"])
@pytest.mark.parametrize(("path", "ask", "answer", "usage", "facts"), SHAPES.values(), ids=SHAPES)
def test_each_embedding_protocol_says_what_it_billed(
    seen, library, path, ask, answer, usage, facts
):
    """Model and tokens of every embedding protocol, found in a large body without parsing its
    vectors.
    """
    body = json.dumps(answer).encode()
    with canned(body) as server, httpx.Client() as client, requests.Session() as session:
        poster = client.post if library == "httpx" else session.post
        assert poster(server.url + path, json=ask).content == body
    (exchange,) = seen.closed
    assert exchange.operation == "embeddings"
    assert exchange.usage == usage
    assert {name: getattr(exchange, name) for name in facts} == facts


def test_bedrock_counts_in_headers(seen):
    """Cohere's models on Bedrock have no counts in the body; the headers have."""
    body = json.dumps({"embeddings": VECTORS, "texts": ["a"]}).encode()
    with canned(body, x_amzn_bedrock_input_token_count="17") as server, httpx.Client() as client:
        client.post(f"{server.url}/model/cohere.embed-english-v3/invoke", json={"texts": ["a"]})
    assert (seen.closed[0].usage, seen.closed[0].operation) == (T(17, 0), "embeddings")


def test_openais_client(server, seen):
    """CrewAI's default embedder."""
    from crewai.rag.embeddings.factory import build_embedder

    config = {
        "api_key": "k",
        "model_name": "text-embedding-3-small",
        "api_base": server.base_url("openai"),
    }
    build_embedder({"provider": "openai", "config": config})(
        ["The keeper lit the lamp.", "Ships passed."]
    )
    (billed,) = server.billing_log.billed
    (exchange,) = seen.closed
    assert (exchange.usage, exchange.request_model) == (billed.usage, "text-embedding-3-small")


def test_googles_client(server, seen):
    """google-genai's embeddings, as CrewAI's Google embedder makes them."""
    from google import genai

    client = genai.Client(api_key="k", http_options={"base_url": server.url})
    client.models.embed_content(model="gemini-embedding-001", contents=["The keeper lit the lamp."])
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.provider, exchange.request_model) == (
        "embeddings",
        "gcp.gemini",
        "gemini-embedding-001",
    )
    assert exchange.usage.status in ("reported", "estimated")
    assert exchange.usage.input > 0


def test_bedrocks_client(server, seen):
    """CrewAI's Bedrock embedder: boto3's InvokeModel, whose body only the caller reads."""
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
    answer = boto3.client("bedrock-runtime", **keys).invoke_model(
        modelId="amazon.titan-embed-text-v2:0",
        body=json.dumps({"inputText": "The keeper lit the lamp."}),
    )
    assert json.loads(answer["body"].read())["embedding"]
    (billed,) = server.billing_log.billed
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.usage) == ("embeddings", billed.usage)


def test_memory_embeds_in_the_context_it_was_called_in(server, tmp_path):
    """Memory embeds and analyses on worker threads.

    The caller's context reaches every exchange there.
    """
    from crewai import LLM
    from crewai.memory import Memory

    scope = contextvars.ContextVar("scope", default=None)
    found = []
    scope.set("here")
    uninstall = observation.install(
        opened=lambda exchange: found.append((exchange.operation, scope.get())),
        closed=lambda _: None,
    )
    try:
        embedder = {
            "api_key": "k",
            "model_name": "text-embedding-3-small",
            "api_base": server.base_url("openai"),
        }
        memory = Memory(
            llm=LLM(model="openai/gpt-4o-mini", api_key="k", base_url=server.base_url("openai")),
            storage=str(tmp_path / "memory"),
            embedder={"provider": "openai", "config": embedder},
        )
        memory.remember("The keeper lit the lamp at dusk.")
        memory.recall("lamp")
    finally:
        uninstall()
    assert {operation for operation, _ in found} == {"chat", "embeddings"}
    assert {where for _, where in found} == {"here"}
    assert len(found) == len(server.billing_log.billed)


def test_knowledge_is_embedded(server, seen, tmp_path, monkeypatch):
    """Knowledge embeds its sources and every query; all of it is on the wire."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    from crewai.knowledge.knowledge import Knowledge
    from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource

    config = {
        "api_key": "k",
        "model_name": "text-embedding-3-small",
        "api_base": server.base_url("openai"),
    }
    knowledge = Knowledge(
        collection_name="towers",
        sources=[StringKnowledgeSource(content="Lighthouses are towers.")],
        embedder={"provider": "openai", "config": config},
    )
    knowledge.add_sources()
    knowledge.query(["towers"])
    assert [exchange.usage for exchange in seen.closed] == [
        entry.usage for entry in server.billing_log.billed
    ]
    assert len(seen.closed) >= 2


def test_a_giant_answer_is_not_held_up(seen):
    """A body far beyond what is worth keeping passes, and its usage is still found at its end."""
    body = (
        b'{"data": ['
        + b'"'
        + b"A" * (40 * 2**20)
        + b'"], "usage": {"prompt_tokens": 5, "total_tokens": 5}}'
    )
    chunks = [body[start : start + 2**20] for start in range(0, len(body), 2**20)]
    with (
        canned(*chunks) as server,
        httpx.stream("POST", f"{server.url}/v1/embeddings", content=b'{"model": "m"}') as response,
    ):
        assert sum(len(chunk) for chunk in response.iter_bytes()) == len(body)
    assert seen.closed[0].usage == T(5, 0)


def test_bedrock_rerank_bills_queries(server):
    """Bedrock's rerank says nothing of its price.

    A query for each hundred documents, counted in the request.
    """
    from crewmeter.providers.protocols.bedrock import rerank_usage

    with recording():
        assert rerank_usage({"queries": [{}], "sources": [{}] * 101}).search_units == 2
        assert rerank_usage({"queries": [{}], "sources": [{}]}).search_units == 1
