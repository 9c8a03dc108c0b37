"""Words and amounts in messages.

Counts, statuses and providers as people read them.

Codes stay in JSON and CSV. Imports nothing of the project.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COST_LEGEND",
    "COST_STATUS_TEXT",
    "FLAG_TEXT",
    "PROVIDER_TEXT",
    "RUN_STATUS_TEXT",
    "UNPRICED_LEGEND",
    "cost_status_text",
    "counted",
    "flag_text",
    "provider_text",
    "run_status_text",
    "short_count",
    "signed_percent",
    "usd",
]

COST_LEGEND = "* not exact: without calls that have no price, or with bounds and estimates"
"""What the star of an amount means; printed below a table that has one."""
UNPRICED_LEGEND = "* without calls that have no price"
"""The same where no bound or estimate is in an amount."""

COST_STATUS_TEXT: Mapping[str, str] = {
    "priced": "priced",
    "provider_reported": "reported by the provider",
    "estimated": "estimated",
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
}

RUN_STATUS_TEXT: Mapping[str, str] = {
    "ok": "ok",
    "error": "failed",
    "abandoned": "abandoned",
    "running": "running",
}
"""Status of runs and steps, as filters call it too (`status=failed`)."""

PROVIDER_TEXT: Mapping[str, str] = {
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
}


FLAG_TEXT: Mapping[str, str] = {
    "provider_assumed": "provider assumed from the model's name",
    "litellm_price": "price from LiteLLM's catalogue",
    "regional_uplift": "with the surcharge of a regional endpoint",
    "region_price_missing": "no list has this region's price",
    "tier_assumed": "no price for this tier, the standard price stands",
    "cache_ttl_assumed": "cache writes taken for the 5 minute kind",
    "cache_read_rate_missing": "cached tokens at the input rate",
    "search_context_assumed": "searches at the most expensive fee",
}
"""What was assumed for a price. The other flags read well enough without their underscores."""


def flag_text(flag: str) -> str:
    """Return what a charge's flag means, in words."""
    return FLAG_TEXT.get(flag, flag.replace("_", " "))


def signed_percent(change: float) -> str:
    """Return a change in percent with its sign, such as ``+12 %`` or ``−3 %``."""
    sign = "−" if change <= -0.5 else "+"
    return f"{sign}{abs(change):,.0f} %"


_UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def counted(amount: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 call``, ``2 calls``, ``12,345 calls``.

    `plural` where an s is not enough.
    """
    word = noun
    if amount != 1:
        word = plural or noun + "s"
    return f"{amount:,} {word}"


def short_count(amount: int) -> str:
    """Return a count in at most five characters, rounded: ``950``, ``1.2k``, ``15M``."""
    for unit, name in _UNITS:
        # From these bounds on, the smaller form would be rounded up to the next larger one.
        if amount >= 9.95 * unit:
            return f"{amount / unit:,.0f}{name}"
        if amount >= 0.9995 * unit:
            return f"{amount / unit:.1f}{name}"
    return str(amount)


def cost_status_text(status: str) -> str:
    """Return a cost status in words.

    A status that has none as it is, with spaces.
    """
    return COST_STATUS_TEXT.get(status, status.replace("_", " "))


def run_status_text(status: str) -> str:
    """Return the status of a run or step in words."""
    return RUN_STATUS_TEXT.get(status, status)


def provider_text(provider: str | None) -> str:
    """Return a provider's own name: ``Google Gemini`` for ``gcp.gemini``."""
    if provider is None:
        return "unknown provider"
    return PROVIDER_TEXT.get(provider, provider)


def usd(pusd: int | None) -> str:
    """Return pico-USD for people, a dash where it is unknown.

    Two decimals from a dollar up, four significant digits below.
    """
    if pusd is None:
        return "–"
    value = Decimal(pusd).scaleb(-12)
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    digits = max(2, 3 - value.adjusted())
    return f"${value:.{digits}f}"
