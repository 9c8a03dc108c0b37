"""The fake provider against the providers' own SDKs.

What they read is what its billing log says.
"""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from support.patience import patience

from crewmeter_cost.demo.fake_provider import FakeProvider, Reply, ToolUse

USAGE = "[[usage:in=1000 read=400 out=300 reasoning=120]]"
CACHED = "[[usage:in=1000 read=400 w5m=200 w1h=100 out=300]]"


@pytest.fixture
def openai_client(fake_provider):
    """OpenAI's SDK, pointed at the fake provider."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(
        base_url=fake_provider.base_url(), api_key="sk-fake", max_retries=2
    ) as client:
        yield client


def _ask(text):
    return [{"role": "user", "content": text}]


def test_openai_chat_reports_what_the_books_say(fake_provider, openai_client):
    """Prompt, cached, completion and reasoning tokens come through the SDK as billed."""
    usage = openai_client.chat.completions.create(model="gpt-5", messages=_ask(USAGE)).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (1000, 400)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (300, 120)
    assert [
        (entry.usage.input, entry.usage.output, entry.delivered)
        for entry in fake_provider.billing_log.billed
    ] == [(1000, 300, True)]


@pytest.mark.parametrize("requested", [True, False])
def test_a_stream_reports_usage_only_on_request(fake_provider, openai_client, requested):
    """OpenAI sends the usage chunk for ``include_usage`` only.

    The exchange is billed either way.
    """
    options = {"stream_options": {"include_usage": True}} if requested else {}
    chunks = list(
        openai_client.chat.completions.create(
            model="gpt-4o", messages=_ask("[[say:one two three]]"), stream=True, **options
        )
    )
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == "one two three"
    )
    assert any(chunk.usage for chunk in chunks) is requested
    assert fake_provider.billing_log.calls == 1


def test_tools_are_called_in_turn(openai_client):
    """Each tool directive is one call, in order; then comes the answer."""
    messages = _ask('Go. [[tool:first {"a": 1}]] [[tool:second]] [[say:done]]')
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {}}}
        for name in ("first", "second")
    ]
    names = []
    for _ in range(2):
        message = (
            openai_client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
            .choices[0]
            .message
        )
        names.append(message.tool_calls[0].function.name)
        messages += [
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "ok"},
        ]
    assert names == ["first", "second"]
    assert (
        openai_client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
        .choices[0]
        .message.content
        == "done"
    )


def test_a_refusal_is_not_billed(fake_provider, openai_client):
    """``[[fail:429 x1]]`` refuses once; the SDK's own retry is the one exchange billed."""
    openai_client.chat.completions.create(model="gpt-4o", messages=_ask("[[fail:429 x1]]"))
    assert (
        fake_provider.billing_log.calls,
        [refused.status for refused in fake_provider.billing_log.refused],
    ) == (1, [429])


def test_a_cut_stream_is_billed_but_not_delivered(fake_provider, openai_client):
    """The client sees a broken connection; the books see an exchange whose usage never arrived."""
    httpx = pytest.importorskip("httpx")
    stream = openai_client.chat.completions.create(
        model="gpt-4o", messages=_ask("[[say:a long story]] [[cut:2]]"), stream=True
    )
    with pytest.raises(httpx.RemoteProtocolError):
        list(stream)
    assert [(entry.delivered, entry.streamed) for entry in fake_provider.billing_log.billed] == [
        (False, True)
    ]


def test_openai_responses_stream_and_whole_agree(fake_provider, openai_client):
    """The Responses API bills the same, streamed or not."""
    whole = openai_client.responses.create(model="gpt-5", input=USAGE).usage
    last = list(openai_client.responses.create(model="gpt-5", input=USAGE, stream=True))[-1]
    assert whole == last.response.usage
    assert (
        whole.input_tokens,
        whole.input_tokens_details.cached_tokens,
        whole.output_tokens_details.reasoning_tokens,
    ) == (1000, 400, 120)


def test_structured_answers_follow_the_schema(openai_client):
    """A JSON schema in the request gives an instance of it."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"$ref": "#/$defs/Name"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        },
        "$defs": {"Name": {"anyOf": [{"type": "null"}, {"type": "string"}]}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = (
        openai_client.chat.completions.create(
            model="gpt-4o", messages=_ask("x"), response_format=form
        )
        .choices[0]
        .message.content
    )
    assert json.loads(answer) == {"name": "plain words", "tags": ["a"]}


def test_anthropic_counts_cache_apart(fake_provider):
    """Anthropic's ``input_tokens`` leave the cache out, and writes are split by time to live.

    Streamed or not.
    """
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(
        base_url=fake_provider.base_url("anthropic"), api_key="fake-key"
    ) as client:
        usage = client.messages.create(
            model="claude-sonnet-4-5", max_tokens=9, messages=_ask(CACHED)
        ).usage
        with client.messages.stream(
            model="claude-sonnet-4-5", max_tokens=9, messages=_ask(CACHED)
        ) as stream:
            streamed = stream.get_final_message().usage
    for seen in (usage, streamed):
        assert (
            seen.input_tokens,
            seen.cache_read_input_tokens,
            seen.cache_creation_input_tokens,
            seen.output_tokens,
        ) == (
            300,
            400,
            300,
            300,
        )
        assert (
            seen.cache_creation.ephemeral_5m_input_tokens,
            seen.cache_creation.ephemeral_1h_input_tokens,
        ) == (200, 100)
    assert {entry.usage.input for entry in fake_provider.billing_log.billed} == {1000}


def test_gemini_counts_thoughts_apart(fake_provider):
    """Gemini's candidates leave thoughts out; streamed or not."""
    genai = pytest.importorskip("google.genai")
    client = genai.Client(
        api_key="fake-key", http_options={"base_url": fake_provider.base_url("gcp.gemini")}
    )
    usage = client.models.generate_content(model="gemini-2.5-pro", contents=USAGE).usage_metadata
    streamed = list(client.models.generate_content_stream(model="gemini-2.5-pro", contents=USAGE))[
        -1
    ].usage_metadata
    client.close()
    for seen in (usage, streamed):
        assert (seen.prompt_token_count, seen.cached_content_token_count) == (1000, 400)
        assert (seen.candidates_token_count, seen.thoughts_token_count, seen.total_token_count) == (
            180,
            120,
            1300,
        )


def test_bedrock_frames_are_binary(fake_provider, monkeypatch):
    """Converse and its event stream come through botocore's parser, checksums and all."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=fake_provider.url,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    ask = {
        "modelId": "us.amazon.nova-pro-v1:0",
        "messages": [{"role": "user", "content": [{"text": CACHED}]}],
    }
    usage = client.converse(**ask)["usage"]
    events = list(client.converse_stream(**ask)["stream"])
    client.close()
    assert events[-1]["metadata"]["usage"] == usage
    assert (
        usage["inputTokens"],
        usage["cacheReadInputTokens"],
        usage["cacheWriteInputTokens"],
        usage["totalTokens"],
    ) == (
        300,
        400,
        300,
        1300,
    )
    assert fake_provider.billing_log.billed[0].request_model == "us.amazon.nova-pro-v1:0"


def test_azure_names_the_deployment(fake_provider):
    """A chat through Azure's SDK is Azure's in the books."""
    inference = pytest.importorskip("azure.ai.inference")
    from azure.core.credentials import AzureKeyCredential

    with inference.ChatCompletionsClient(
        endpoint=fake_provider.base_url("azure.ai.openai"),
        credential=AzureKeyCredential("fake-key"),
    ) as client:
        assert client.complete(messages=_ask(USAGE)).usage.prompt_tokens == 1000
    assert [(entry.provider, entry.model) for entry in fake_provider.billing_log.billed] == [
        ("azure.ai.openai", "gpt-4o")
    ]


def test_one_server_plays_many_providers(openai_client):
    """``base_url("openrouter")`` speaks OpenAI's protocol under another name, and says what it
    charged.
    """
    openai = pytest.importorskip("openai")
    with (
        FakeProvider(gateway_rate_usd=0.000001) as server,
        openai.OpenAI(base_url=server.base_url("openrouter"), api_key="k") as client,
    ):
        usage = client.chat.completions.create(
            model="anthropic/claude-sonnet-4.5", messages=_ask("[[usage:in=900 out=100]]")
        ).usage
        assert usage.model_extra["cost"] == pytest.approx(0.001)
        assert [
            (entry.provider, entry.reported_cost_usd) for entry in server.billing_log.billed
        ] == [("openrouter", "0.001000000000")]


def test_a_script_decides_before_the_text(openai_client):
    """A Python script may answer; where it declines, the text's directives do."""
    openai = pytest.importorskip("openai")

    def script(prompt):
        return Reply(tool_calls=(ToolUse("dig", {}),)) if prompt.model == "scripted" else None

    with (
        FakeProvider(script) as server,
        openai.OpenAI(base_url=server.base_url(), api_key="k") as client,
    ):
        scripted = (
            client.chat.completions.create(model="scripted", messages=_ask("[[say:no]]"))
            .choices[0]
            .message
        )
        plain = (
            client.chat.completions.create(model="gpt-4o", messages=_ask("[[say:yes]]"))
            .choices[0]
            .message
        )
    assert (scripted.tool_calls[0].function.name, plain.content) == ("dig", "yes")


def test_embeddings_are_vectors(fake_provider, openai_client):
    """As many unit vectors as texts, in either encoding."""
    vectors = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", "b"]).data
    assert [sum(vector.embedding) for vector in vectors] == [1.0, 1.0]
    assert fake_provider.billing_log.billed[0].operation == "embeddings"


def test_nonsense_does_not_stop_the_server(fake_provider, openai_client):
    """Bytes that are no HTTP, an unknown path and a client that hangs up leave it serving."""
    for noise in (
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99\r\n\r\n{",
        b"GET /else HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", fake_provider.port), timeout=60) as connection:
            connection.sendall(noise)
    assert (
        openai_client.chat.completions.create(model="gpt-4o", messages=_ask("[[say:still here]]"))
        .choices[0]
        .message.content
        == "still here"
    )


def test_closing_waits_for_nobody():
    """A server with an idle keep-alive connection closes at once and leaves no thread behind."""
    before = threading.active_count()
    server = FakeProvider().__enter__()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    began = time.perf_counter()
    server.close()
    connection.close()
    assert time.perf_counter() - began < patience(2)
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
