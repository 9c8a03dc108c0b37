"""How a model's name finds its catalogue entry, exactly or by named rules.

genai-prices matches many models by prefix, so that ``claude-sonnet-4-5-future`` gets a price. Here
a name must be listed, or become a listed name by taking off marks that are known to mean no other
price; the marks taken off are the match's `rules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RULES", "Match", "find", "spellings"]

_DATE = r"20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"
_SNAPSHOT = r"(?:2[3-9](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01]))"
_VENDORS = (
    "ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshotai?|nvidia|openai|"
    "qwen|stability|twelvelabs|writer|zai"
)
_ROUTES = "converse|converse_like|invoke|llama|nova|responses|chat|batch|global|completions"
"""Prefixes by which gateways choose an endpoint: ``bedrock/converse/MODEL``."""
_GEO = "us|eu|apac|au|jp|ca|in|sa|me|us-gov"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One mark that may be taken off (or rewritten), and where."""

    name: str
    pattern: re.Pattern[str]
    put: str = ""
    providers: frozenset[str] | None = None
    """Only at these providers; None is everywhere."""
    open_only: bool = False
    """Only where the catalogue itself matches the remaining name as a prefix or part."""


def _rule(
    name: str, pattern: str, *, put: str = "", at: str = "", open_only: bool = False
) -> _Rule:
    return _Rule(
        name,
        re.compile(pattern),
        put,
        frozenset(at.split()) if at else None,
        open_only,
    )


RULES: tuple[_Rule, ...] = (
    _rule(
        "routing_prefix",
        rf"^(?:models|(?:{_ROUTES}))/",
    ),
    _rule(
        "publisher_path",
        r"^(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/",
        at="gcp.vertex_ai gcp.gemini",
    ),
    _rule(
        "arn",
        r"^arn:aws[\w-]*:bedrock:[\w-]*:\d*:(?:foundation-model|inference-profile)/",
        at="aws.bedrock",
    ),
    _rule("region_path", r"^[a-z]{2}-[a-z]+-\d/", at="aws.bedrock"),
    _rule("account_path", r"^accounts/fireworks/models/", at="fireworks"),
    _rule("account_path", r"^(?!accounts/)", put="accounts/fireworks/models/", at="fireworks"),
    _rule(
        "vendor_path",
        r"^[a-z0-9-]+/",
        at="deepinfra together_ai groq vertex_ai gcp.vertex_ai",
        open_only=True,
    ),
    _rule("geo_profile", rf"^(?:{_GEO})\.", at="aws.bedrock"),
    _rule("geo_profile", r"^global\.", at="aws.bedrock", open_only=True),
    _rule("vendor_prefix", rf"^(?:{_VENDORS})\.", at="aws.bedrock"),
    _rule("fine_tuned", r"^(ft:[^:]+):.*$", put=r"\1"),
    _rule("fine_tuned", r"(\.ft)-.*$", put=r"\1", open_only=True),
    _rule("fine_tuned", r"^(ft:.+)-\d{4}$", put=r"\1", open_only=True),
    _rule("date_suffix", rf"[-@]{_DATE}$"),
    _rule("latest_alias", r"(?:-latest|@latest|@default|:latest)$"),
    _rule("bedrock_version", r":\d+(?::\d+k|:mm)?$", at="aws.bedrock"),
    _rule("context_version", r":\d+k$", at="aws.bedrock"),
    _rule("bedrock_version", r"-v\d+(?::\d+)?$", at="aws.bedrock"),
    _rule("stable_version", r"[-@]0\d\d$", at="gcp.gemini gcp.vertex_ai"),
    _rule("regional_uplift", rf"^(?:{_GEO})\.", put="global.", at="aws.bedrock"),
    _rule("preview_date", r"-(?:\d\d-\d\d|\d\d-20\d\d)$", open_only=True),
    _rule(
        "preview",
        r"-(?:preview|exp|experimental)(?:-\d\d-\d\d|-\d\d-20\d\d|-\d{4})?$",
        open_only=True,
    ),
    _rule("snapshot", rf"-{_SNAPSHOT}$", open_only=True),
    _rule(
        "dashed_date", r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", put=r"-\1-\2-\3"
    ),
)
"""In the order they are tried; `docs/pricing.md` explains each by its name."""
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Match:
    """A catalogue name, and the rules that led to it. The very name has none."""

    provider: str
    name: str
    rules: tuple[str, ...] = ()


def spellings(provider: str, name: str) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Yield every name that `name` may be listed under, nearest first.

    Each is (name, rules used, whether it needs an open entry).
    """
    seen = {name}
    layer: list[tuple[str, tuple[str, ...], bool]] = [(name, (), False)]
    for _ in range(_DEEPEST + 1):
        yield from layer
        following: list[tuple[str, tuple[str, ...], bool]] = []
        for text, used, needs_open in layer:
            for rule in RULES:
                if rule.providers is not None and provider not in rule.providers:
                    continue
                shorter = rule.pattern.sub(rule.put, text, count=1)
                if not shorter or shorter in seen:
                    continue
                seen.add(shorter)
                rules = (*used, rule.name)
                is_open = needs_open or rule.open_only
                following.append((shorter, rules, is_open))
        layer = following


def find(provider: str, name: str, *, has: Callable[[str, str, bool], bool]) -> Match | None:
    """Return the catalogue name of a model at one provider, or None.

    ``has(provider, name, open_only)`` looks into the catalogue.
    """
    for spelled, rules, needs_open in spellings(provider, name):
        if has(provider, spelled, needs_open):
            return Match(
                provider,
                spelled,
                tuple(dict.fromkeys(rules)),
            )
    return None
