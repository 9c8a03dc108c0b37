"""Every endpoint of a provider through its real client: its model, what it bills, once."""

from __future__ import annotations

import io
import json

import httpx
import openai
import pytest
from support.http_recording import recording

from crewmeter.usage.token_usage import TokenUsage


@pytest.fixture
def seen():
    with recording() as recorder:
        yield recorder


def client_with(*answers):
    """An OpenAI client whose provider gives these answers in turn: JSON, bytes, or a status."""
    waiting = list(answers)

    def reply(_request):
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": "no"}})
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer, headers={"content-type": "audio/mpeg"})
        return httpx.Response(200, json=answer)

    transport = httpx.MockTransport(reply)
    return openai.OpenAI(api_key="k", max_retries=0, http_client=httpx.Client(transport=transport))


def sound():
    file = io.BytesIO(b"RIFF0000WAVE")
    file.name = "a.wav"
    return file


def test_a_transcription_by_tokens(seen):
    """gpt-4o-transcribe bills audio tokens; its form names the model."""
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        "output_tokens": 45,
        "total_tokens": 59,
    }
    client = client_with({"text": "hello", "usage": usage})
    client.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound())
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.request_model) == ("transcription", "gpt-4o-transcribe")
    assert exchange.usage == TokenUsage(14, 45, input_audio=10)


@pytest.mark.parametrize(
    ("answer", "milliseconds"),
    [
        ({"text": "x", "usage": {"type": "duration", "seconds": 9}}, 9000),
        ({"text": "x", "duration": 8.47, "language": "en"}, 8000),
    ],
)
def test_a_transcription_by_time(seen, answer, milliseconds):
    """whisper-1 bills seconds: of its usage, or of its verbose answer."""
    client_with(answer).audio.transcriptions.create(model="whisper-1", file=sound())
    (exchange,) = seen.closed
    assert exchange.request_model == "whisper-1"
    assert exchange.usage == TokenUsage(units=(("input_audio_ms", milliseconds),))


def test_a_transcription_that_says_nothing_is_not_free(seen):
    """A plain transcript tells neither time nor tokens: the usage is missing."""
    client_with({"text": "x"}).audio.translations.create(model="whisper-1", file=sound())
    assert seen.closed[0].usage.status == "missing"


def test_speech_by_characters(seen):
    """tts-1 bills the characters of its request; its answer is a sound."""
    client = client_with(b"\xff\xfb\x90sound")
    client.audio.speech.create(model="tts-1", voice="alloy", input="Grüß Gott")
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.request_model) == ("speech", "tts-1")
    assert exchange.usage == TokenUsage(units=(("character", 9),))


def test_speech_by_tokens_is_not_known_from_a_sound(seen):
    """gpt-4o-mini-tts bills audio tokens, which a sound file does not say."""
    client = client_with(b"\xff\xfb\x90sound")
    client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hello")
    assert seen.closed[0].usage.status == "missing"


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        ({"model": "dall-e-3"}, "image"),
        ({"model": "dall-e-3", "size": "1024x1024", "quality": "standard"}, "image"),
        ({"model": "dall-e-3", "size": "1792x1024", "quality": "hd"}, "image:hd:1792x1024"),
        ({"model": "dall-e-2", "size": "256x256"}, "image:standard:256x256"),
    ],
)
def test_images_by_the_piece(seen, options, unit):
    """DALL·E bills images by size and quality, which only the request names."""
    client = client_with({"created": 1, "data": [{"url": "u"}, {"url": "v"}]})
    client.images.generate(prompt="x", **options)
    assert seen.closed[0].usage == TokenUsage(units=((unit, 2),))


def test_an_edited_image_names_its_model_and_bills_image_tokens(seen):
    """An edit is a form. Without a breakdown, all of its output is image."""
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 1000,
        "total_tokens": 1050,
    }
    client = client_with({"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage})
    client.images.edit(model="gpt-image-1", image=sound(), prompt="x")
    (exchange,) = seen.closed
    assert exchange.request_model == "gpt-image-1"
    assert exchange.usage == TokenUsage(50, 1000, input_image=40, output_image=1000)


def test_a_video_is_not_exact_before_it_is_made(seen):
    """A video is a job: its seconds are ordered, and billed when it has succeeded."""
    job = {"id": "v", "object": "video", "status": "queued", "seconds": "4", "model": "sora-2"}
    client_with(job).post("/videos", body={"model": "sora-2"}, cast_to=object)
    usage = seen.closed[0].usage
    assert usage.units == (("output_video_ms", 4000),)
    assert usage.flags == ("unknown_usage:job_not_finished",)


def response(status, usage=None):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-5",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}


def test_an_answer_in_the_background_is_one_call(seen):
    """It is requested with a POST and fetched with GETs; the last of them says what it used."""
    done = response("completed", USAGE)
    client = client_with(response("queued"), response("in_progress"), 500, done, done)
    client.responses.create(model="gpt-5", input="x", background=True)
    client.responses.retrieve("resp_1")
    with pytest.raises(openai.InternalServerError):
        client.responses.retrieve("resp_1")
    assert seen.closed == []
    client.responses.retrieve("resp_1")
    client.responses.retrieve("resp_1")
    (exchange,) = seen.closed
    assert exchange.usage == TokenUsage(10, 5)
    assert (exchange.response_id, exchange.request_model) == ("resp_1", "gpt-5")
    assert exchange.finish_reason == "completed"


def test_an_answer_that_nobody_fetches_is_said_to_be_missing():
    """At the end of observation a background answer is announced without its usage."""
    with recording() as seen:
        client_with(response("queued")).responses.create(model="gpt-5", input="x", background=True)
        assert seen.closed == []
    (exchange,) = seen.closed
    assert exchange.usage.status == "missing"


def test_an_answer_at_once_is_not_waited_for(seen):
    """``background`` in a request that is answered at once holds nothing up."""
    client = client_with(response("completed", USAGE))
    client.responses.create(model="gpt-5", input='say "background"')
    assert seen.closed[0].usage == TokenUsage(10, 5)


def test_an_unknown_endpoint_is_a_call_without_a_price(seen):
    """What no protocol knows is announced once, even where its answer looks like usage."""
    client = client_with(
        {"id": "x", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    )
    client.post("/brand/new", body={"model": "gpt-9"}, cast_to=object)
    (exchange,) = seen.closed
    assert (exchange.operation, exchange.request_model) == ("unrouted", "gpt-9")
    assert exchange.usage == TokenUsage(status="missing", flags=("unrouted",))


def test_a_refused_request_to_an_unknown_endpoint_costs_nothing(seen):
    """An HTTP error is no bill."""
    with pytest.raises(openai.NotFoundError):
        client_with(404).post("/brand/new", body={}, cast_to=object)
    assert seen.closed[0].usage.flags == ("rejected",)


def test_free_endpoints_are_silent(seen):
    """Files, moderations and model lists make no call."""
    client = client_with({"id": "x", "data": [], "results": [], "model": "m"})
    client.models.list()
    client.moderations.create(input="x")
    client.post("/files", body={}, cast_to=object)
    assert seen.opened == []


def test_an_unknown_header_of_a_bill_is_flagged(seen):
    """A header named like a charge that no reader knows makes the usage inexact; limits do not."""
    chat = {
        "id": "c",
        "model": "gpt-4o",
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }

    def reply(_request):
        headers = {"X-Extra-Billed-Tokens": "9", "x-ratelimit-remaining-tokens": "99"}
        return httpx.Response(200, content=json.dumps(chat).encode(), headers=headers)

    with httpx.Client(transport=httpx.MockTransport(reply)) as client:
        client.post("https://api.openai.com/v1/chat/completions", json={"model": "gpt-4o"})
    flags = seen.closed[0].usage.flags
    assert flags == ("unknown_usage:header.x-extra-billed-tokens",)
