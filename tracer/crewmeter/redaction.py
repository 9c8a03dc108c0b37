"""Content on spans: prompts, answers, tool arguments and error texts.

It is off unless the user wants it. Then it is cut to size and scrubbed of keys.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Content", "capture_wanted", "model_name", "scrub"]

logger = logging.getLogger("crewmeter")

_TRUE = frozenset({"1", "true", "yes", "on"})
_OTEL_ON = frozenset({"span_only", "span_and_event"})

_SECRETS = re.compile(
    r"""
      # PEM
      -----BEGIN[ A-Z]*PRIVATE\ KEY-----.*?
      (?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    | \beyJ[\w-]{8,1024}\.[\w-]{8,}\.[\w-]*                        # JSON Web Token
    | \b(?:sk|pk|rk)[-_][\w-]{12,}                                 # OpenAI, Anthropic, Stripe …
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                                # AWS access key id
    | \bxox[a-z]-[\w-]{8,}                                         # Slack
    | \bgh[pousr]_\w{16,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{16,} # GitHub, GitLab
    | \bAIza[\w-]{30,} | \bya29\.[\w-]{20,}                        # Google
    | \bhf_\w{20,} | \bgsk_\w{20,} | \bxai-[\w-]{20,}              # Hugging Face, Groq, xAI
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)                              # user:password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_KEY_VALUE = re.compile(
    r"""
    ((?<![\w-])[\w-]{0,64}
        (?:api[_-]?key|apikey|secret|token|passwd|password|authorization|credential)s?
     \\*["']?\s*[:=]\s*\\*["']?)
    ((?:[^\s"',;}&\\]|\\(?!\\*["'])){6,})
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Also inside JSON that is itself a JSON text, where each quote follows backslashes.

What may precede the word is bounded, or a text of hyphens would take the square of its length.
"""
_WORDS = re.compile(r"(?:sk|pk|rk)(?:[-_][^\W_]{1,11}){1,8}")
"""A model's name that begins like a key, as ``pk-mini-instruct-v1-large``. Keys are longer runs."""
_REDACTED = "[redacted]"
_SCRUBBED_BEYOND = 4096
"""Characters past the limit that are scrubbed too, so that no key survives in half at the cut."""


@dataclass(frozen=True, slots=True)
class Content:
    """What of a run's content goes on spans: none, unless the user wants it."""

    enabled: bool = False
    limit: int = 8192
    """Longest text on a span (characters). A longer one is cut with a marker."""
    as_messages: bool = True
    """Whether prompts and answers are lists of messages, as the new conventions have them."""

    def text(self, value: object, limit: int | None = None) -> str | None:
        """Return ``value`` as scrubbed text of at most ``limit`` characters, else of ours.

        None when content is off, or there is none.
        """
        limit = limit or self.limit
        if not self.enabled or value is None:
            return None
        text = value if isinstance(value, str) else _as_text(value)
        clean = scrub(text[: limit + _SCRUBBED_BEYOND])
        if len(text) <= limit and len(clean) <= limit:
            return clean
        return f"{clean[:limit]}…[cut, {len(text)} characters in all]"


def _as_text(value: object) -> str:
    """Return ``value`` as JSON, else as Python writes it. Never raises.

    JSON has no tuples as keys and no circles, and an app's object may have a ``__str__`` that
    raises. Then its type stands for it.
    """
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except Exception:  # noqa: BLE001  # whatever the app's own objects raise
        pass
    try:
        return repr(value)
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__}>"


def scrub(text: str) -> str:
    """Replace everything that looks like a key, token or password by ``[redacted]``."""
    text = _SECRETS.sub(_REDACTED, text)
    text = _BEARER.sub(rf"\1 {_REDACTED}", text)
    return _KEY_VALUE.sub(rf"\1{_REDACTED}", text)


@lru_cache(maxsize=1024)
def model_name(name: str | None) -> str | None:
    """Return a model's name, without what looks like a key in it.

    Someone who swaps two arguments sends a key as the model. The name would be on spans, in the
    ledger and in the labels of metrics.
    """
    if name is None:
        return None
    clean = _SECRETS.sub(_redact_key, name)
    if clean != name:
        logger.warning("the name of a model looks like an API key; it is recorded as %s", clean)
    return clean


def _redact_key(found: re.Match[str]) -> str:
    """Return what to write for what looks like a key in a model's name."""
    return found[0] if _WORDS.fullmatch(found[0]) else _REDACTED


def capture_wanted(requested: bool, environ: Mapping[str, str]) -> bool:
    """Return True if the caller or the environment says to capture content."""
    if requested or _value(environ, "CREWMETER_CAPTURE_CONTENT") in _TRUE:
        return True
    return _value(environ, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT") in _OTEL_ON


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip().lower()
