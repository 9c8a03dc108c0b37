"""Content on spans: prompts, answers, tool arguments and error texts.

It is off unless the user wants it. Then it is cut to size and scrubbed of keys.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Content", "capture_wanted", "model_name", "scrub", "scrub_json"]

logger = logging.getLogger("crewmeter")

_TRUE = frozenset({"1", "true", "yes", "on"})
_OTEL_ON = frozenset({"span_only", "span_and_event"})

_SECRETS = re.compile(
    r"""
      # PEM
      -----BEGIN[ A-Z]*PRIVATE\ KEY-----.*?
      (?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    # JSON Web Token. A header may hold certificates, so its length has no bound. One that follows
    # a hyphen is bounded, or a text of hyphens would take the square of its length.
    | (?:(?<![\w-])|(?<=\\[nrt]))eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*
    | (?<=-)eyJ[\w-]{8,1024}+\.[\w-]{8,}+\.[\w-]*
    # In the text of JSON a line begins after the letter of an escape.
    | (?:\b|(?<=\\[nrt]))(?:
          (?:sk|pk|rk)[-_][\w-]{12,}                                # OpenAI, Anthropic, Stripe …
        | (?:AKIA|ASIA)[0-9A-Z]{16}\b                              # AWS access key id
        | xox[a-z]-[\w-]{8,}                                       # Slack
        | gh[pousr]_\w{16,} | github_pat_\w{20,} | glpat-[\w-]{16,} # GitHub, GitLab
        | AIza[\w-]{30,} | ya29\.[\w-]{20,}                       # Google
        | hf_\w{20,} | gsk_\w{20,} | xai-[\w-]{20,}               # Hugging Face, Groq, xAI
      )
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)                              # user:password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_ENDS_OF_NAMES = (
    *("apikey", "secretkey", "accesskey", "privatekey", "accountkey", "subscriptionkey"),
    *("api[_-]key", "secret[_-]key", "access[_-]key", "private[_-]key", "subscription[_-]key"),
    *("secret", "token", "passwd", "password", "passphrase", "pwd", "authorization", "credential"),
)
_IS_SECRET = "|".join(f"(?<={name})|(?<={name}s)" for name in _ENDS_OF_NAMES)
_SECRET_NAME = re.compile(f"(?s:.*)(?:{_IS_SECRET})", re.IGNORECASE)
_KEY_VALUE = re.compile(
    rf"""
    (?P<name>
        (?<![\w-])[\w-]++(?=\\*+["']?+\s*+[:=])(?:{_IS_SECRET})
        \\*+["']?+\s*+[:=]++>?+\s*+
    )
    (?:
        # A quoted value ends at the quote that follows as many backslashes as the first one.
        (?P<open>[bru]?(?P<escape>\\{{0,63}}+)(?P<quote>["']))
        (?P<quoted>(?:
              [^"'\\\n]++
            | (?P=escape)(?P=escape)\\\\                            # a backslash in the value
            | (?!(?P=escape)(?P=quote))(?:\\++["']?|["'])
        )*+)
        (?P<close>(?P=escape)(?P=quote))
      | (?P<list>\[[^\[\]\n]{{6,}}+\])
      | (?P<half>\\*+["']?+)
        (?P<bare>
            (?:bearer|basic|digest|token)[ ]++[^\s"',;}}&\\]++
          | (?:[^\s"',;}}&\\]|\\++(?:(?!["'])|["'](?=\w))){{6,}}+
        )
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""A name and its value, also inside JSON that is itself a JSON text, where backslashes precede
each quote. No part is tried twice, so the time is proportional to the length of the text.
"""
_COUNT = re.compile(r"[\d\s.,_\[\]]*")
"""What a name in ``tokens`` has where it counts them, as ``max_tokens``."""
_SHORTEST_SECRET = 6
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
    return _KEY_VALUE.sub(_redact_value, text)


def _redact_value(found: re.Match[str]) -> str:
    """Return a name and, for its value, what to write."""
    name = found["name"]
    if found["quoted"] is not None:
        if not _is_secret(name, found["quoted"]):
            return found[0]
        return f"{name}{found['open']}{_REDACTED}{found['close']}"
    if not _is_secret(name, found["bare"] or found["list"]):
        return found[0]
    return f"{name}{found['half'] or ''}{_REDACTED}"


def _is_secret(name: str, value: str) -> bool:
    """Return True unless the value is too short for a secret, or a count of tokens."""
    if len(value) < _SHORTEST_SECRET:
        return False
    return _COUNT.fullmatch(value) is None or "tokens" not in name.lower()


def scrub_json(value: Any, name: str = "") -> Any:
    """Return a value of JSON with its texts scrubbed, so that it is JSON as before.

    Args:
        value: What ``json.loads`` returned.
        name: The key that it belongs to, in whose list it is too.

    Raises:
        RecursionError: It is nested too deeply.
    """
    if isinstance(value, dict):
        return {scrub(key): scrub_json(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub_json(item, name) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.fullmatch(name) and _is_secret(name, str(value)):
        return _REDACTED
    return scrub(value) if isinstance(value, str) else value


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
