"""Who bills a request: names as people spell them, hosts as they are reached."""

from __future__ import annotations

import re

import pytest

from crewmeter.providers.hosts import canonical_provider, provider_of_host, resolve_provider


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("azure_openai", "azure.ai.openai"),
        ("azure", "azure.ai.openai"),
        ("az.ai.inference", "azure.ai.openai"),
        ("bedrock", "aws.bedrock"),
        ("gemini", "gcp.gemini"),
        ("google", "gcp.gemini"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("OpenAI", "openai"),
        ("claude", "anthropic"),
        ("x-ai", "x_ai"),
        ("together-ai", "together_ai"),
        ("Mistral AI", "mistral_ai"),
        ("fireworks_ai", "fireworks"),
        ("ollama_chat", "ollama"),
        ("My-Own LLM", "my-own llm"),
        ("", None),
        (None, None),
    ],
)
def test_a_provider_has_one_name(name, canonical):
    """However a client spells a provider, one name stands for its invoice.

    An unknown one passes lower-cased.
    """
    assert canonical_provider(name) == canonical


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.OpenAI.com.", "openai"),
        ("my-resource.openai.azure.com", "azure.ai.openai"),
        ("my-foundry.services.ai.azure.com", "azure.ai.openai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws.bedrock"),
        ("vpce-0a1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
        ("s3.us-east-1.amazonaws.com", None),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("storage.googleapis.com", None),
        ("openrouter.ai", "openrouter"),
        ("api.groq.com", "groq"),
        ("us-east-1.api.x.ai", "x_ai"),
        ("acme.snowflakecomputing.com", "snowflake"),
        ("us-south.ml.cloud.ibm.com", "ibm.watsonx.ai"),
        ("inference.generativeai.us-chicago-1.oci.oraclecloud.com", "oci"),
        ("dashscope-intl.aliyuncs.com", "dashscope"),
        ("127.0.0.1", None),
        ("localhost", None),
        ("::1", None),
        ("llm-gateway.acme.internal", None),
        ("api.openai.com.attacker.example", None),
        ("notapi.openai.com", None),
        ("", None),
        (None, None),
    ],
)
def test_a_known_host_names_its_provider(host, provider):
    """Regional and private names of a provider's host are known.

    Look-alikes, gateways and loopback are not.
    """
    assert provider_of_host(host) == provider


@pytest.mark.parametrize(
    ("declared", "host", "expected"),
    [
        ("openai", "openrouter.ai", ("openrouter", False)),
        ("openai", "api.openai.com", ("openai", False)),
        ("azure_openai", "gateway.acme.internal", ("azure.ai.openai", True)),
        ("openai", "127.0.0.1", ("openai", True)),
        ("openai", None, ("openai", False)),
        (None, "127.0.0.1", (None, False)),
        (None, "api.groq.com", ("groq", False)),
    ],
)
def test_a_known_host_decides_and_an_unknown_one_assumes(declared, host, expected):
    """Whatever the client says, a known host bills.

    Behind an unknown one the declared provider is taken and flagged.
    """
    assert resolve_provider(declared, host) == expected


HOSTS = {
    "aws": "bedrock-runtime.us-east-1.amazonaws.com",
    "azure": "me.openai.azure.com",
    "cohere": "api.cohere.com",
    "databricks": "me.cloud.databricks.com",
    "elevenlabs": "api.eu.residency.elevenlabs.io",
    "google": "generativelanguage.googleapis.com",
    "minimax": "api.minimax.io",
    "modal": "me.modal.run",
    "moonshotai": "api.moonshot.ai",
    "openrouter": "openrouter.ai",
}
"""One address for each catalogue entry whose pattern is more than a plain host."""


def test_every_catalogue_provider_has_a_host():
    """Each provider genai-prices knows is recognised by the host its own pattern matches."""
    data = pytest.importorskip("genai_prices.data")
    for provider in data.providers:
        plain = (
            provider.api_pattern.replace("\\", "")
            .removeprefix("https://")
            .split("(")[0]
            .split("/")[0]
        )
        host = HOSTS.get(provider.id, plain)
        assert re.match(provider.api_pattern, f"https://{host}/") or "/" in provider.api_pattern, (
            provider.id
        )
        assert provider_of_host(host) is not None, provider.id
