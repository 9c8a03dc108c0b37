"""Prompts, answers and keys: nowhere unless requested, and then cut and scrubbed."""

from __future__ import annotations

import json
import time

import pytest

from crewmeter.crewai.messages import messages_text
from crewmeter.redaction import Content, capture_wanted, model_name, scrub

SECRETS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-abcdefghijklmnopqrst",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-123456789012-abcdefghijkl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n-----END RSA PRIVATE KEY-----",
    # The header of a client's assertion holds its certificate.
    f"eyJ{'x5c0' * 2000}.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_known_keys_are_scrubbed(secret):
    """Keys, tokens and certificates of the usual shapes do not survive, the text round
    them does.
    """
    assert scrub(f"before {secret} after") == "before [redacted] after"


@pytest.mark.parametrize("before", ["", "token=a", "token="])
@pytest.mark.parametrize(
    "piece",
    [
        *("a-", "eyJ-", "-eyJaaaaaaaa.", "token ", "bearer ", "\\", "sk_", "://a:b"),
        *("token=\\'", 'token="\\\\\\', "token='\"", "token=[a,", "token:bearer "),
    ],
)
def test_time_to_scrub_grows_with_the_length(before, piece):
    """It doubles with the length of a text, and does not quadruple, whatever the text repeats."""
    short = _seconds_to_scrub(before + piece * (16_000 // len(piece)))
    long = _seconds_to_scrub(before + piece * (32_000 // len(piece)))
    assert long < 3 * short + 0.02


def _seconds_to_scrub(text: str) -> float:
    """Return the least CPU time of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        scrub(text)
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("sent Bearer abcdef123456789 along", "sent Bearer [redacted] along"),
        ('{"api_key": "hunter2hunter2"}', '{"api_key": "[redacted]"}'),
        ("password=correct-horse-battery", "password=[redacted]"),
        ("postgres://me:s3cret@db/x", "postgres://[redacted]@db/x"),
        (r'{"a": "{\"password\": \"hunter22\"}"}', r'{"a": "{\"password\": \"[redacted]\"}"}'),
        (r"{\"password\": \"p\\\"q, r\", \"n\": 1}", r"{\"password\": \"[redacted]\", \"n\": 1}"),
        ('"password": "my pass word", "n": 1', '"password": "[redacted]", "n": 1'),
        ('{"authorization": "Bearer abc"}', '{"authorization": "[redacted]"}'),
        ("Authorization: Bearer abc", "Authorization: [redacted]"),
        ("AWS_SECRET_ACCESS_KEY=wJalr/K7MDENG+b", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ("secretKey: abcdefghij", "secretKey: [redacted]"),
        ("passphrase=hunter2xyz pwd=hunter2xyz", "passphrase=[redacted] pwd=[redacted]"),
        ("x" * 70 + "_api_key=hunter2xyz", "x" * 70 + "_api_key=[redacted]"),
        ("x-api-key: b'abcdef1234'", "x-api-key: b'[redacted]'"),
        ('"secret": ["abcdef1", "b"]', '"secret": [redacted]'),
        (r"password=token\"abc", "password=[redacted]"),
        (r"lines\nsk-proj-abcdefghijklmnop", r"lines\n[redacted]"),
        ('{"max_tokens": 1000000}', '{"max_tokens": 1000000}'),
        ("the token count was 12", "the token count was 12"),
    ],
)
def test_secrets_by_their_name_are_scrubbed(text, clean):
    """What a name like password or api_key has is gone, and no count of tokens."""
    assert scrub(text) == clean


def test_a_key_is_no_name_of_a_model(caplog):
    """Swapped arguments put it there. Models' own names stay as they are."""
    assert model_name("openai/sk-proj-abcdefghijklmnop1234567890") == "openai/[redacted]"
    assert "[redacted]" in caplog.text
    assert "abcdefgh" not in caplog.text
    for name in (
        "gpt-5-mini",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "sk-1",
        "ft:gpt-4o:o::x",
        "pk-mini-instruct-v1-large",
    ):
        assert model_name(name) == name
    assert model_name(None) is None


def test_long_text_is_cut_with_a_marker():
    """The reader sees that, and how much, is missing; a key across the cut is not left in half."""
    content = Content(enabled=True, limit=100)
    assert content.text("a" * 150) == "a" * 100 + "…[cut, 150 characters in all]"
    assert "sk-proj" not in content.text("x" * 90 + " " + SECRETS[0])


def test_content_is_off_unless_requested():
    """Neither text nor anything else comes out of it by default.

    The caller or either variable turns it on.
    """
    assert Content().text("hello") is None
    assert not capture_wanted(False, {})
    assert not capture_wanted(
        False, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}
    )
    assert capture_wanted(True, {})
    assert capture_wanted(False, {"CREWMETER_CAPTURE_CONTENT": "1"})
    assert capture_wanted(
        False, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT"}
    )


def test_messages_share_one_limit_and_their_names_are_scrubbed():
    """A message of many parts is cut like many messages; no role, id or name carries a key."""
    content = Content(enabled=True)
    parts = [{"type": "text", "text": "x" * 9000}] * 1000
    text = messages_text([{"role": "user", "content": parts}], "user", content)
    assert text is not None
    assert len(text) < 60_000
    assert len(json.loads(text)[0]["parts"]) == 200
    key = SECRETS[0]
    call = {"id": key, "function": {"name": key, "arguments": "{}"}}
    odd = [
        {"role": key, "content": [{"type": key}], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": {(1, 2): key}, "content": "fine"},
    ]
    shaped = messages_text(odd, "user", content)
    assert shaped is not None
    assert key not in shaped
    assert [message["role"] for message in json.loads(shaped)] == ["[redacted]", "tool"]


def test_content_that_is_no_json_is_text_all_the_same():
    """Tuples as keys, circles and objects that cannot be written raise nothing."""

    class Mute:
        def __repr__(self):
            raise RuntimeError("mute")

    content = Content(enabled=True)
    circle: list[object] = []
    circle.append(circle)
    assert content.text({(1, 2): 3}) == "{(1, 2): 3}"
    assert content.text(circle) == "[[...]]"
    assert content.text(Mute()) == "<Mute>"
