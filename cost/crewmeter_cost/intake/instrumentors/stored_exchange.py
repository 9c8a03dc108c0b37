"""What a span has of the request and the response beside its own attributes.

Instrumentors that store content have the provider's whole response as JSON text, and the request's
parameters. Both tell what bears on the price and has no attribute: the service tier, the usage with
all its parts, tools that the provider ran and charges for.

The same attributes hold a bare answer where an instrumentor stores no more. Those are a model's
words, also where they are JSON, and no word of theirs gets into a bill: usage and tier are read of
an object in the shape of a provider's response, at the paths where it has them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import MISSING, TokenUsage
from crewmeter_cost.intake.coerce import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "LONGEST_RESPONSE",
    "RESPONSE_NAMES",
    "charged_tools_ran",
    "refined_usage",
    "requested_geo",
    "requested_tier",
    "response_id_inside",
    "served_tier",
    "usage_inside",
]

_RESPONSES = ("output.value", "mlflow.spanOutputs", "response_data", "gen_ai.completion")
"""Attributes with a whole response, by OpenInference, MLflow, Logfire and LangSmith."""
_REQUESTS = (
    "llm.invocation_parameters",
    "langfuse.observation.model.parameters",
    "request_data",
    "mlflow.spanInputs",
)
"""Attributes with a request's parameters, by OpenInference, Langfuse, Logfire and MLflow."""
RESPONSE_NAMES = ("gen_ai.output.messages", *_RESPONSES)
"""Attributes that tell which tools the provider ran."""
LONGEST_RESPONSE = 262_144
"""Bytes read of such an attribute. The usage, and a search after a long answer, are at its end."""
_USAGE_KEYS = ("usage", "token_usage", "usageMetadata", "usage_metadata")
_LANGCHAIN = ("input_token_details", "output_token_details")
"""Keys of LangChain's own usage, which repeats the counts on the span."""
_MODALITIES = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT")
_TRAFFIC = ("", "ON_DEMAND", "PROVISIONED_THROUGHPUT", "ON_DEMAND_PRIORITY", "ON_DEMAND_FLEX")
"""Names of the numbers in Vertex AI's protocol buffers, which its first SDK prints."""
_SHORTEST_CUT = LONGEST_RESPONSE // 4
"""Characters that `LONGEST_RESPONSE` has at least, of four bytes each."""
_LISTS = ("choices", "candidates", "output", "content")
"""Keys of what a model answered, of which a response has one, with objects in a list."""
_TIER = re.compile(r'(?<!\\)"(?:service_tier|serviceTier)":\s?"(\w{1,32})"')
_SPEED = re.compile(r'(?<!\\)"speed":\s?"(\w{1,32})"')
_GEO = re.compile(r'(?<!\\)"inference_geo":\s?"(\w{1,32})"')
_CHARGED_TOOLS = re.compile(
    r'(?<!\\)"type":\s?"(?:web_search_call|file_search_call|code_interpreter_call'
    r"|image_generation_call|server_tool_use|server_tool_call|web_search_tool_result)\""
    r'|(?<!\\)"(?:webSearchQueries|web_search_queries)":\s?\[\s?"'
)
"""Marks of tools that OpenAI, Anthropic and Google run themselves, at a fee."""
_ID_AT_START = re.compile(
    r'\{"id":\s?"(?:'
    r'((?:chatcmpl-|cmpl-|gen-|resp_|msg_)[\w.:-]{6,128})"'
    r'|([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",\s?"choices":)'
)
"""Providers' ids at the start of a response. A structured answer begins with any other id."""
_IDS_INSIDE = (
    re.compile(r'"id":\s?"((?:chatcmpl-|gen-|resp_)[\w.:-]{6,128})"'),
    re.compile(r'"id":\s?"(msg_[\w.:-]{6,128})"'),
)
"""Providers' ids of responses, as LangChain and OpenInference's streams have them inside.

OpenAI calls the parts of a response ``msg_`` too, so that is Anthropic's where there is no other.
"""
_CHOICES = '"choices":'
_LONGEST_HEAD = 1_024
_NO_RESPONSE: Final[Mapping[str, object]] = {}
_HAS_ID_INSIDE = ('{"generations":', '{"choices":')


def response_id_inside(attributes: Mapping[str, object]) -> str | None:
    """Return the provider's id in the response that a span stores, or None."""
    for name in _RESPONSES:
        stored = attributes.get(name)
        if isinstance(stored, str):
            return _id_in(stored)
    return None


def _id_in(stored: str) -> str | None:
    match = _ID_AT_START.match(stored)
    if match is None and stored.startswith(_HAS_ID_INSIDE):
        for pattern in _IDS_INSIDE:
            match = match or pattern.search(stored)
    if match is None:
        return None
    return match[match.lastindex or 1]


def requested_tier(attributes: Mapping[str, object]) -> str | None:
    """Return the service tier, or Anthropic's speed, among a request's parameters."""
    found = _first_match(_TIER, attributes, _REQUESTS)
    return found or _first_match(_SPEED, attributes, _REQUESTS[:1])


def requested_geo(attributes: Mapping[str, object]) -> str | None:
    """Return where Anthropic was to run the inference, among a request's parameters."""
    return _first_match(_GEO, attributes, _REQUESTS[:1])


def served_tier(attributes: Mapping[str, object]) -> str | None:
    """Return the tier that served a call, as the stored response has it."""
    raw = _usage_object(attributes)
    speed = text(raw.get("speed"))
    if speed not in (None, "standard"):
        return speed
    for part in (*_parts(attributes), raw):
        tier = part.get("service_tier") or part.get("serviceTier")
        if isinstance(tier, str):
            return text(tier)
    return text(raw.get("traffic_type") or raw.get("trafficType"))


def _first_match(
    pattern: re.Pattern[str], attributes: Mapping[str, object], names: tuple[str, ...]
) -> str | None:
    for name in names:
        stored = attributes.get(name)
        if isinstance(stored, str):
            match = pattern.search(stored)
            if match is not None:
                return match[1]
    return None


def _usage_object(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return the usage object in the stored response, empty where there is none."""
    for part in _parts(attributes):
        for key in _USAGE_KEYS:
            found = part.get(key)
            if not isinstance(found, dict):
                continue
            if any(name in found for name in _LANGCHAIN):
                continue
            named: dict[str, object] = {}
            for name, value in found.items():
                named[name] = _named(name, value)
            return named
    return {}


def _parts(attributes: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield the objects of the stored response in which usage and tier may stand."""
    for name in _RESPONSES:
        stored = attributes.get(name)
        if not isinstance(stored, str) or not stored.startswith("{"):
            continue
        kind = attributes.get("output.mime_type")
        if name == "output.value" and kind == "text/plain":
            continue
        response = _response_in(stored)
        if response:
            yield response
            yield from _parts_by_langchain(response)


@lru_cache(maxsize=4)
def _response_in(stored: str) -> Mapping[str, object]:
    """Return a text as a provider's response, empty where it is something else.

    Several readers want one in a row. They must not change it.
    """
    try:
        response = json.loads(stored)
    except (ValueError, RecursionError):
        return _NO_RESPONSE
    if isinstance(response, dict) and _is_response(response):
        return response
    return _NO_RESPONSE


def _is_response(found: Mapping[str, object]) -> bool:
    """Return whether an object has the shape of a provider's or LangChain's response."""
    for key in _LISTS:
        parts = found.get(key)
        if not isinstance(parts, list) or not parts:
            continue
        if all(isinstance(part, dict) for part in parts):
            return key != "content" or "role" in found
    if isinstance(found.get("generations"), list):
        return True
    message = found.get("message")  # Cohere, Logfire
    output = found.get("output")
    if isinstance(output, dict):
        message = output.get("message")  # Bedrock's Converse
    if not isinstance(message, dict):
        return False
    return "role" in message


def _parts_by_langchain(response: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield LangChain's objects: of all prompts, or of one where there is only one."""
    whole = response.get("llm_output")
    if isinstance(whole, dict):
        yield whole
    generations = response.get("generations")
    if not isinstance(generations, list) or len(generations) != 1:
        return
    first = generations[0]
    if isinstance(first, list):
        first = first[0] if first else None
    if not isinstance(first, dict):
        return
    message = first.get("message")
    if isinstance(message, dict):
        fields = message.get("kwargs")
        message = fields if isinstance(fields, dict) else message
        metadata = message.get("response_metadata")
        if isinstance(metadata, dict):
            yield metadata
    information = first.get("generation_info")
    if isinstance(information, dict):
        yield information


def _named(name: str, value: object) -> object:
    """Return a value whose numbers of Vertex AI are named."""
    if name == "traffic_type" and type(value) is int:
        return _TRAFFIC[value] if 0 <= value < len(_TRAFFIC) else value
    if not name.endswith("_tokens_details") or not isinstance(value, list):
        return value
    parts: list[object] = []
    for part in value:
        number = part.get("modality") if isinstance(part, dict) else None
        if type(number) is int and 0 <= number < len(_MODALITIES):
            part = {**part, "modality": _MODALITIES[number]}
        parts.append(part)
    return parts


def usage_inside(
    attributes: Mapping[str, object], provider: str | None, operation: str
) -> TokenUsage:
    """Return the usage in the stored response, ``missing`` where there is none."""
    raw = _usage_object(attributes)
    if not raw:
        return MISSING
    return read_usage(raw, provider=provider, operation=operation)


def refined_usage(counted: TokenUsage, inside: TokenUsage) -> TokenUsage:
    """Return the better one of a span's own counts and those of its response.

    The provider's object has every part. It is not taken where it speaks of other tokens, since a
    span may sum up several responses.
    """
    if inside.status != "reported":
        return counted
    if counted.status == "missing":
        return inside
    own = (counted.input, counted.output)
    if counted.status == "reported" and own == (inside.input, inside.output):
        return inside
    return counted


def charged_tools_ran(attributes: Mapping[str, object]) -> bool:
    """Return whether the provider ran a tool with a fee, or may have where we cut."""
    for name in RESPONSE_NAMES:
        stored = attributes.get(name)
        if not isinstance(stored, str):
            continue
        if _CHARGED_TOOLS.search(stored):
            return True
        if _may_hide_tools(stored):
            return True
    return False


def _may_hide_tools(stored: str) -> bool:
    """Return whether a response was cut, so that a search may have been there."""
    if len(stored) < _SHORTEST_CUT or not stored.startswith(("{", "[")):
        return False
    if _CHOICES in stored[:_LONGEST_HEAD]:
        return False  # Chat completions name no such tool.
    try:
        json.loads(stored)
    except (ValueError, RecursionError):
        return True
    return False
