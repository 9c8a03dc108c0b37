"""Codes of the ledger in words, for people who read boards.

The command line and the page have the same words (`crewmeter_cost.formatting`); a test compares
them. Codes stay in the ledger, in filters and in addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WORDS", "in_words", "label_in_words"]

WORDS: Mapping[str, Mapping[str, str]] = {
    "status": {"error": "failed"},
    "cost_status": {
        "provider_reported": "reported by the provider",
        "lower_bound": "at least",
        "upper_bound": "at most",
        "cached": "answered from a cache, no charge",
        "free_declared": "declared free",
        "reconciled": "reconciled with the invoice",
        "unknown_model": "no price for this model",
        "usage_missing": "provider sent no usage",
        "invalid_usage": "usage contradicts itself",
        "unrouted": "endpoint not recognised",
        "may_be_billed": "may be billed, usage unknown",
        "rejected": "rejected by the provider, no charge",
    },
    "provider": {
        "openai": "OpenAI",
        "anthropic": "Anthropic",
        "gcp.gemini": "Google Gemini",
        "gcp.vertex_ai": "Google Vertex AI",
        "gcp.gen_ai": "Google Gen AI",
        "aws.bedrock": "AWS Bedrock",
        "azure.ai.openai": "Azure OpenAI",
        "azure.ai.inference": "Azure AI Foundry",
        "mistral_ai": "Mistral AI",
        "deepseek": "DeepSeek",
        "x_ai": "xAI",
        "cohere": "Cohere",
        "groq": "Groq",
        "cerebras": "Cerebras",
        "openrouter": "OpenRouter",
        "perplexity": "Perplexity",
        "together_ai": "Together AI",
        "fireworks_ai": "Fireworks AI",
        "voyageai": "Voyage AI",
        "moonshotai": "Moonshot AI",
        "ibm.watsonx.ai": "IBM watsonx.ai",
        "ollama": "Ollama",
        "hosted_vllm": "vLLM",
    },
}
"""Column → code → words. A code that is missing is its own word."""


def in_words(column: str) -> str:
    """Return SQL for a column's value in words, or the column where it holds no codes."""
    if column not in WORDS:
        return f'"{column}"'
    cases = []
    for code, words in WORDS[column].items():
        cases.append(f"WHEN '{code}' THEN '{words}'")
    return f'CASE "{column}" {" ".join(cases)} ELSE "{column}" END'


def label_in_words(label: str, column: str) -> str:
    """Return a template of Prometheus for a label's value in the words of a column."""
    text = ""
    for code, words in WORDS[column].items():
        text += f'{{{{ {"else " if text else ""}if eq $labels.{label} "{code}" }}}}{words}'
    return f"{text}{{{{ else }}}}{{{{ $labels.{label} }}}}{{{{ end }}}}"
