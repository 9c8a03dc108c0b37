"""Estimates are estimates: their error is measured against a real tokenizer and held."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crewmeter.usage.estimate import TextTally, estimate_request

TEXTS = {
    "prose": "The crew was to research the history of lighthouses on the northern coast, and to "
    "write a short and friendly "
    "report about how they were built, who ran them, and why most were automated at the end of "
    "the last century. " * 8,
    "code": Path(__file__).read_text(encoding="utf-8"),
    "json": json.dumps(
        [{"id": i, "name": f"user {i}", "active": bool(i % 2), "score": i * 1.5} for i in range(80)]
    ),
    "table": "| region | sales | growth |\n|---|---|---|\n| north | 12,345 | 3.4 % |\n| south | "
    "9,871 | -1.2 % |\n" * 20,
    "numbers": " ".join(str(i * 7919) for i in range(300)),
    "german": "Die Mannschaft sollte die Geschichte der Leuchttürme an der Nordküste "
    "untersuchen und einen kurzen, freundlichen "
    "Bericht darüber schreiben, wie sie gebaut wurden und wer sie gehütet hat. " * 6,
    "russian": "Команда должна была изучить историю маяков на северном побережье и написать "
    "короткий отчёт о том, как их строили. " * 6,
    "chinese": "团队被要求研究北部海岸灯塔的历史，并写一份简短而友好的报告，"
    "说明它们是如何建造的，谁负责看守。" * 6,
    "japanese": "チームは北海岸の灯台の歴史を調べ、どのように建てられ、誰が守ったのかについて"
    "短い報告書を書くよう求められた。" * 6,
}


@pytest.fixture(scope="module")
def tokenizer():
    """OpenAI's cl100k, from the copy that LiteLLM ships; the network is not used."""
    tiktoken = pytest.importorskip("tiktoken")
    litellm = pytest.importorskip("litellm")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(
        Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    )
    yield tiktoken.get_encoding("cl100k_base")
    del os.environ["TIKTOKEN_CACHE_DIR"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_the_stated_error_holds(tokenizer, name):
    """Within 20 % of a real tokenizer for Latin script, 25 % otherwise, however the text is cut
    into pieces.
    """
    tally = TextTally()
    for start in range(0, len(TEXTS[name]), 7):
        tally.add(TEXTS[name][start : start + 7])
    true = len(tokenizer.encode(TEXTS[name]))
    assert tally.tokens() == pytest.approx(
        true, rel=0.25 if name in ("russian", "chinese", "japanese") else 0.20
    )


def test_a_request_is_estimated_from_what_the_model_reads(tokenizer):
    """Messages, system prompt and tools count.

    An image's base64 and the sampling settings don't.
    """
    tools = [
        {
            "type": "function",
            "function": {
                "name": "search",
                "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
            },
        }
    ]
    request = {
        "model": "gpt-4o",
        "temperature": 0.7,
        "messages": [
            {"role": "system", "content": TEXTS["prose"]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": TEXTS["german"]},
                    {"type": "image_url", "image_url": {"url": "A" * 90000}},
                ],
            },
        ],
        "tools": tools,
    }
    true = len(tokenizer.encode(TEXTS["prose"] + TEXTS["german"] + json.dumps(tools)))
    assert estimate_request(json.dumps(request).encode()) == pytest.approx(true, rel=0.2)


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[1, 2]", b"{}", b'{"messages": null}', b"\xff\xfe"]
)
def test_a_body_that_tells_nothing_gives_no_estimate(body):
    """No number is made up where there is no text to count."""
    assert estimate_request(body) is None
