"""Scripted answers: the same `Reply` for the same prompt.

A test or demo steers it with directives in the prompt's text, so that the script needs no code in
the server's process:

    [[tool:NAME {"argument": 1}]]   call this tool next (several: one call each, in order)
    [[say:TEXT]]                    the final answer
    [[usage:in=1000 read=400 w5m=0 w1h=0 out=300 reasoning=120 searches=0]]   tokens to bill
    [[fail:429 x2]]                 refuse the first two such requests with this HTTP status
    [[drop]] [[cut]] [[slow:0.2]]   close unanswered, cut the stream (billed), wait (s)
    [[garbage]]                     a billed answer that is no JSON where JSON was requested for
    [[tier:flex]] [[model:NAME]]    service tier and model to report in the response
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.demo.fake_provider.json_schema import sample

__all__ = ["Directed", "Prompt", "Reply", "Script", "ToolUse", "default_usage"]

_DIRECTIVE = re.compile(r"\[\[([a-z]+)(?::(.*?))?\]\]", re.DOTALL)
_USAGE_FIELDS = {
    "in": "input",
    "out": "output",
    "read": "cache_read",
    "w5m": "cache_write_5m",
    "w1h": "cache_write_1h",
    "reasoning": "reasoning",
    "searches": "web_searches",
}
_REASONING_MODELS = re.compile(r"(^|/)(o[134]|gpt-5|gemini-2\.5)")
_STRUCTURED = "structured_output"
"""CrewAI's name for the tool through which Gemini and Bedrock hand in a structured answer."""
_CHARS_PER_TOKEN = 4
"""A rule of thumb for English; the fake provider only has to count the same way every time."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call the model asks for."""

    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, as far as a script cares, whatever protocol it came in."""

    dialect: str
    provider: str
    operation: str
    model: str
    text: str
    """All text of all messages, newline-separated; for embeddings the inputs."""
    stream: bool = False
    tools: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Tool name → JSON schema of its arguments."""
    forced_tool: str | None = None
    """The tool the request insists on (how some protocols ask for structured output)."""
    schema: Mapping[str, object] | None = None
    """JSON schema the answer must follow."""
    json_mode: bool = False
    tool_results: int = 0
    """How many tool results the conversation already holds."""
    inputs: int = 1
    """Texts to embed."""
    tier: str | None = None
    body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the fake provider sends back. `usage` None means "count it from the texts"."""

    text: str = ""
    tool_calls: tuple[ToolUse, ...] = ()
    usage: TokenUsage | None = None
    status: int = 200
    """An HTTP status other than 200 refuses the request; nothing is billed."""
    drop: bool = False
    """Close the connection without an answer; nothing is billed."""
    cut_after: int | None = None
    """Close a streamed answer after so many chunks. The provider bills it all the same."""
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    tier: str | None = None
    model: str | None = None
    """Model name in the response; default: the one requested."""


Script = Callable[[Prompt], Reply | None]
"""Decides a reply; None leaves the decision to the directives in the text."""


def default_usage(prompt: Prompt, reply: Reply) -> TokenUsage:
    """Return tokens counted from the texts.

    Four characters a token, the cached part in steps of 64, reasoning where the model reasons.
    """
    tokens_in = 8 + len(prompt.text) // _CHARS_PER_TOKEN
    if prompt.operation == "embeddings":
        return TokenUsage(input=tokens_in, output=0)
    called = sum(len(use.name) + len(json.dumps(dict(use.arguments))) for use in reply.tool_calls)
    reasoning = 64 if _REASONING_MODELS.search(prompt.model) else 0
    return TokenUsage(
        input=tokens_in,
        output=1 + (len(reply.text) + called) // _CHARS_PER_TOKEN + reasoning,
        cache_read=tokens_in // 128 * 64,
        reasoning=reasoning,
    )


class Directed:
    """The default script: follows the prompt's directives, else answers in its form."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()

    def __call__(self, prompt: Prompt) -> Reply:
        """Return the reply to `prompt`.

        Deterministic, except that ``[[fail:… xN]]`` counts the requests it has refused.
        """
        orders = list(dict.fromkeys(_DIRECTIVE.findall(prompt.text)))
        if (
            prompt.operation == "embeddings"
        ):  # the texts embedded quote the prompts; their directives are not meant here
            return Reply()
        for verb, value in orders:
            if verb == "fail" and (status := self._refusal(value)):
                return Reply(status=status)
            if verb == "drop" and self._refusal(f"0 x{value or 1} drop") is not None:
                return Reply(drop=True)
        return _dress(_answer(prompt, orders), orders)

    def _refusal(self, value: str) -> int | None:
        """Return the status to refuse with, or None once the directive is used up."""
        status, _, times = value.partition(" x")
        with self._lock:
            self._refused[value] += 1
            if times and self._refused[value] > int(times.split()[0]):
                return None
        return int(status)


def _dress(reply: Reply, orders: list[tuple[str, str]]) -> Reply:
    """Apply the directives for usage, pace, tier, model and cut to `reply`."""
    for verb, value in orders:
        if verb == "usage":
            reply = replace(reply, usage=_usage(value))
        elif verb == "slow":
            reply = replace(reply, delay_s=float(value))
        elif verb == "cut":
            reply = replace(
                reply,
                cut_after=int(value or 3),
            )
        elif verb == "tier":
            reply = replace(reply, tier=value)
        elif verb == "model":
            reply = replace(reply, model=value)
    return reply


def _usage(value: str) -> TokenUsage:
    """Return ``in=1000 out=300`` as usage, with 0 for what is not named."""
    counts = {
        _USAGE_FIELDS[key]: int(number)
        for key, number in (pair.split("=") for pair in value.split())
    }
    return TokenUsage(
        input=counts.get("input", 0),
        output=counts.get("output", 0),
        cache_read=counts.get("cache_read", 0),
        cache_write_5m=counts.get("cache_write_5m", 0),
        cache_write_1h=counts.get("cache_write_1h", 0),
        reasoning=counts.get("reasoning", 0),
        web_searches=counts.get("web_searches", 0),
    )


def _answer(prompt: Prompt, orders: list[tuple[str, str]]) -> Reply:
    """Return the text or the tool calls that move the conversation on."""
    if prompt.forced_tool is not None:
        return Reply(
            tool_calls=(
                ToolUse(prompt.forced_tool, _instance(prompt.tools.get(prompt.forced_tool, {}))),
            )
        )
    react = not prompt.tools and "Action Input:" in prompt.text
    said = next(
        (value for verb, value in orders if verb == "say"),
        None,
    )
    wanted = [_tool_use(value) for verb, value in orders if verb == "tool"]
    if prompt.tool_results < len(wanted):
        use = wanted[prompt.tool_results]
        if use.name in prompt.tools:
            return Reply(tool_calls=(use,))
        if react:
            return Reply(
                text=f"Thought: I need a tool.\nAction: {use.name}\nAction Input: "
                f"{json.dumps(dict(use.arguments))}"
            )
    if _STRUCTURED in prompt.tools:
        return Reply(
            tool_calls=(
                ToolUse(
                    _STRUCTURED,
                    _instance(prompt.tools[_STRUCTURED]),
                ),
            )
        )
    if any(verb == "garbage" for verb, _ in orders):
        return Reply(text="this is not the JSON you are looking for")
    if prompt.schema is not None or prompt.json_mode:
        return Reply(text=json.dumps(_instance(prompt.schema or {"type": "object"})))
    answer = said if said is not None else "The work is done, and it took a moment."
    if react or "Final Answer:" in prompt.text:
        return Reply(text=f"Thought: I now can give a great answer\nFinal Answer: {answer}")
    return Reply(text=answer)


def _tool_use(value: str) -> ToolUse:
    name, _, arguments = value.partition(" ")
    return ToolUse(
        name,
        json.loads(arguments) if arguments.strip() else {},
    )


def _instance(schema: Mapping[str, object]) -> Mapping[str, object]:
    made = sample(schema)
    if isinstance(made, dict):
        return made
    return {"value": made}
