"""IBM watsonx.ai: text chat, generation and embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_text, first_map
from crewmeter.providers.protocols.openai_chat import OPENAI_STREAM, read_chat
from crewmeter.providers.provider_protocol import Json, ProviderProtocol, Route

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["WATSONX"]

_PATH = "/ml/v1/text/"
_COUNTS = ("input_token_count", "generated_token_count")


def _read(facts: ResponseFacts, answer: Json) -> None:
    read_chat(facts, answer)
    model = as_text(answer.get("model_id"))
    if model is not None:
        facts.response_model = model
    result = first_map(answer.get("results"))
    facts.set_finish(result.get("stop_reason"))
    for holder in (result, answer):
        if "input_token_count" in holder:
            counts = {name: holder.get(name) for name in _COUNTS}
            facts.report(counts)
            return


WATSONX = ProviderProtocol(
    name="watsonx",
    provider="ibm.watsonx.ai",
    routes=(
        Route("embeddings", semconv.EMBEDDINGS, _PATH),
        Route("chat", semconv.CHAT, _PATH),
        Route("chat_stream", semconv.CHAT, _PATH),
        Route("generation", semconv.TEXT_COMPLETION, _PATH),
        Route("generation_stream", semconv.TEXT_COMPLETION, _PATH),
        Route("rerank", semconv.RERANK, _PATH),
    ),
    stream=OPENAI_STREAM,
    read=_read,
    response_keys=frozenset({"input_token_count", "usage", "model_id"}),
)
