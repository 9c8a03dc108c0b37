"""Hosts that the user's price file maps to providers are known when a request is sent."""

from __future__ import annotations

import pytest

from crewmeter.declared_hosts import declared_hosts
from crewmeter.providers.registry import declare_hosts, find_endpoint

TOML = """
[aliases]
"x" = "y"

[hosts]  # ours
"127.0.0.2" = "moonshotai"
'llm.acme.com:8443' = "x_ai"  # with a port
".models.acme.com" = "perplexity"

[free]
"10.0.0.1" = "openai"
"""
YAML = """
aliases:
  x: y
hosts:
  "127.0.0.2": moonshotai
  llm.acme.com: x_ai

reported:
  openrouter: book
"""


@pytest.mark.parametrize(
    ("name", "text", "hosts"),
    [
        (
            "prices.toml",
            TOML,
            {
                "127.0.0.2": "moonshotai",
                "llm.acme.com": "x_ai",
                ".models.acme.com": "perplexity",
            },
        ),
        ("prices.yaml", YAML, {"127.0.0.2": "moonshotai", "llm.acme.com": "x_ai"}),
        ("prices.toml", '[free]\n"h" = "openai"\n', {}),
        ("prices.toml", '  [ hosts ]\n"h" = "openai"\n[free]\n"g" = "x_ai"\n', {"h": "openai"}),
        ("prices.toml", '["hosts"]\r\n"h" = "openai"\r\n', {"h": "openai"}),
        (
            "prices.toml",
            'hosts = { "h" = "openai", g-1.x = "x_ai" }\n',
            {"h": "openai", "g-1.x": "x_ai"},
        ),
        ("prices.toml", 'hosts."h" = "openai"\n', {"h": "openai"}),
        ("prices.toml", '# [hosts]\n"h" = "openai"\n', {}),
        ("prices.yaml", "hosts: {h: openai, 'g:80': x_ai}\n", {"h": "openai", "g": "x_ai"}),
        (
            "prices.yaml",
            "free:\n  - x\nhosts: # ours\n  h: openai\n\n  # more\n  g: x_ai\nother:\n  f: y\n",
            {"h": "openai", "g": "x_ai"},
        ),
        ("prices.yaml", '"hosts":\n    h: "openai"', {"h": "openai"}),
        ("prices.toml", "\0not a file of prices", {}),
    ],
)
def test_the_hosts_section_is_read_alone(tmp_path, name, text, hosts):
    """TOML and YAML, with comments and ports; other sections are not taken for hosts."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert declared_hosts({"CREWMETER_PRICES": str(path)}) == hosts


def test_no_file_is_no_hosts(tmp_path):
    """A file that is missing, a folder or not named at all says nothing, and raises nothing."""
    assert declared_hosts({}) == {}
    assert declared_hosts({"CREWMETER_PRICES": str(tmp_path)}) == {}
    assert declared_hosts({"CREWMETER_PRICES": str(tmp_path / "missing.toml")}) == {}


@pytest.fixture
def declared():
    """Map two hosts, and take them back."""
    undo = declare_hosts({"127.0.0.2": "x.ai", ".acme.com": "openai", "own": "self-hosted"})
    yield
    undo()


def test_a_declared_host_is_its_providers(declared):
    """The reading of an answer depends on the provider, so a mapped host decides it."""
    found = find_endpoint("/v1/chat/completions", "127.0.0.2", 8000)
    assert found is not None
    assert found.provider == "x_ai"
    below = find_endpoint("/v1/embeddings", "llm.acme.com", 443)
    assert below is not None
    assert below.provider == "openai"
    assert below.is_sure


def test_an_unknown_address_at_a_declared_host_is_a_row(declared):
    """What may be billed is never silent, but the user's host may serve more than models."""
    found = find_endpoint("/v1/brand/new", "127.0.0.2", 8000)
    assert found is not None
    assert found.protocol.name == "unrouted"
    assert find_endpoint("/v1/traces", "127.0.0.2", 4318) is None
    assert find_endpoint("/login", "127.0.0.2", 8000) is None


def test_the_word_is_taken_back():
    """After uninstall the host is unknown again, as is one whose provider nobody knows."""
    undo = declare_hosts({"127.0.0.2": "x_ai"})
    assert find_endpoint("/v1/brand/new", "127.0.0.2", 8000) is not None
    undo()
    assert find_endpoint("/v1/brand/new", "127.0.0.2", 8000) is None
    declare_hosts({"127.0.0.2": "nobody-knows"})()
    assert find_endpoint("/v1/brand/new", "127.0.0.2", 8000) is None
