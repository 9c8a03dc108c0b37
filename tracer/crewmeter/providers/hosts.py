"""Provider names in the GenAI conventions' spelling, and providers' hosts.

Pure and stdlib only; the app's side and the money side both use it. A name here stands for one
invoice, so all of Azure's services (Azure OpenAI, AI Inference, Foundry) are ``azure.ai.openai``.
"""

from __future__ import annotations

__all__ = [
    "canonical_provider",
    "is_model_path",
    "is_provider",
    "provider_of_host",
    "resolve_provider",
]

_ALIASES: dict[str, tuple[str, ...]] = {
    "openai": (
        "custom_openai",
        "text_completion_openai",
        "openai_responses",
        "openai_chat",
        "openai_compatible",
        "open_ai",
    ),
    "anthropic": ("claude", "anthropic_text"),
    "aws.bedrock": (
        "bedrock",
        "aws",
        "amazon",
        "amazon_bedrock",
        "aws_bedrock",
        "bedrock_converse",
        "bedrock_mantle",
        "amazon.bedrock",
    ),
    "azure.ai.openai": (
        "azure",
        "azure_openai",
        "azure_ai",
        "azure_text",
        "az.ai.openai",
        "az.ai.inference",
        "azure.ai.inference",
        "azure_ai_inference",
        "azure_foundry",
        "microsoft",
        "azure_openai_responses",
    ),
    "gcp.gemini": (
        "gemini",
        "google",
        "google_genai",
        "google_generativeai",
        "google_generative_ai",
        "google_ai_studio",
        "gcp.gen_ai",
        "gcp",
    ),
    "gcp.vertex_ai": (
        "vertex",
        "vertex_ai",
        "vertexai",
        "vertex_ai_beta",
        "google_vertex",
        "google_vertexai",
        "google_vertex_ai",
    ),
    "mistral_ai": ("mistral", "mistralai", "codestral", "text_completion_codestral"),
    "x_ai": ("xai", "x.ai", "grok"),
    "together_ai": ("together", "togetherai"),
    "fireworks": ("fireworks_ai", "fireworksai"),
    "cohere": ("cohere_chat", "cohere_ai"),
    "ollama": ("ollama_chat",),
    "hosted_vllm": ("vllm",),
    "ibm.watsonx.ai": ("watsonx", "watsonx_text", "watson", "ibm", "ibm_watsonx"),
    "perplexity": ("perplexity_ai", "pplx"),
    "voyageai": ("voyage", "voyage_ai"),
    "jina_ai": ("jina", "jinaai"),
    "dashscope": ("alibaba", "qwen", "aliyun", "alibaba_cloud"),
    "moonshotai": ("moonshot", "moonshot_ai", "kimi"),
    "nvidia_nim": ("nvidia", "nim"),
    "github_copilot": ("copilot", "githubcopilot"),
    "github_models": ("github",),
    "huggingface": ("hugging_face", "hf"),
    "snowflake": ("snowflake_cortex",),
    "zai": ("z_ai", "z.ai"),
    "zhipuai": ("zhipu", "bigmodel"),
    "minimax": ("minimaxai",),
    "volcengine": ("doubao", "bytedance", "byteplus"),
    "oci": ("oracle", "oci_genai"),
    "meta": ("meta_llama", "meta_ai", "llama_api"),
    "vercel_ai_gateway": ("vercel", "gateway"),
    "sambanova": ("samba_nova",),
    "replicate": ("replicate_ai",),
}
"""Canonical name → the other names it goes by in CrewAI, LiteLLM, genai-prices and other
instrumentors.
"""

_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in (*aliases, name)}

_HOSTS: dict[str, tuple[str, ...]] = {
    "openai": ("api.openai.com",),
    "anthropic": ("api.anthropic.com",),
    "azure.ai.openai": (
        "openai.azure.com",
        "openai.azure.us",
        "openai.azure.cn",
        "cognitiveservices.azure.com",
        "cognitiveservices.azure.us",
        "services.ai.azure.com",
        "services.ai.azure.us",
        "models.ai.azure.com",
        "inference.ml.azure.com",
    ),
    "gcp.gemini": ("generativelanguage.googleapis.com",),
    "gcp.vertex_ai": ("aiplatform.googleapis.com",),
    "groq": ("api.groq.com",),
    "mistral_ai": ("api.mistral.ai", "codestral.mistral.ai"),
    "x_ai": ("api.x.ai",),
    "deepseek": ("api.deepseek.com",),
    "cohere": ("api.cohere.ai", "api.cohere.com"),
    "openrouter": ("openrouter.ai",),
    "fireworks": ("api.fireworks.ai",),
    "together_ai": ("api.together.xyz", "api.together.ai"),
    "perplexity": ("api.perplexity.ai",),
    "cerebras": ("api.cerebras.ai",),
    "deepinfra": ("api.deepinfra.com",),
    "dashscope": (
        "dashscope.aliyuncs.com",
        "dashscope-intl.aliyuncs.com",
        "dashscope-us.aliyuncs.com",
        "dashscope-finance.aliyuncs.com",
        "maas.aliyuncs.com",
    ),
    "snowflake": ("snowflakecomputing.com", "snowflakecomputing.cn"),
    "ollama": ("ollama.com", "api.ollama.com"),
    "voyageai": ("api.voyageai.com",),
    "jina_ai": ("api.jina.ai", "deepsearch.jina.ai"),
    "nvidia_nim": ("integrate.api.nvidia.com", "ai.api.nvidia.com"),
    "ibm.watsonx.ai": ("ml.cloud.ibm.com",),
    "databricks": ("cloud.databricks.com", "azuredatabricks.net", "gcp.databricks.com"),
    "huggingface": (
        "router.huggingface.co",
        "api-inference.huggingface.co",
        "endpoints.huggingface.cloud",
    ),
    "github_models": ("models.github.ai", "models.inference.ai.azure.com"),
    "github_copilot": ("githubcopilot.com",),
    "cloudflare": ("api.cloudflare.com",),
    "moonshotai": ("api.moonshot.ai", "api.moonshot.cn"),
    "minimax": ("api.minimax.io", "api.minimaxi.com", "api.minimax.chat", "api.minimax.com"),
    "zai": ("api.z.ai",),
    "zhipuai": ("open.bigmodel.cn",),
    "volcengine": ("volces.com", "bytepluses.com"),
    "sambanova": ("api.sambanova.ai",),
    "nebius": ("api.studio.nebius.ai", "api.studio.nebius.com", "api.tokenfactory.nebius.com"),
    "novita": ("api.novita.ai",),
    "hyperbolic": ("api.hyperbolic.xyz",),
    "nscale": ("inference.api.nscale.com",),
    "baseten": ("inference.baseten.co",),
    "ovhcloud": ("endpoints.kepler.ai.cloud.ovh.net",),
    "avian": ("api.avian.io",),
    "arcee": ("api.arcee.ai",),
    "meta": ("api.meta.ai", "api.llama.com"),
    "modal": ("modal.run", "modal.direct"),
    "quicksilverpro": ("api.quicksilverpro.io",),
    "typesafe": ("api.typesafe.ai",),
    "doubleword": ("api.doubleword.ai",),
    "elevenlabs": ("api.elevenlabs.io", "residency.elevenlabs.io", "api.us.elevenlabs.io"),
    "cursor": ("api.cursor.com",),
    "replicate": ("api.replicate.com",),
    "ai21": ("api.ai21.com",),
    "writer": ("api.writer.com",),
    "reka": ("api.reka.ai",),
    "upstage": ("api.upstage.ai",),
    "inception": ("api.inceptionlabs.ai",),
    "lambda_ai": ("api.lambda.ai", "api.lambdalabs.com"),
    "featherless_ai": ("api.featherless.ai",),
    "friendliai": ("api.friendli.ai",),
    "siliconflow": ("api.siliconflow.com", "api.siliconflow.cn"),
    "scaleway": ("api.scaleway.ai",),
    "gradient_ai": ("inference.do-ai.run",),
    "vercel_ai_gateway": ("ai-gateway.vercel.sh",),
    "hunyuan": ("api.hunyuan.cloud.tencent.com",),
    "qianfan": ("qianfan.baidubce.com",),
    "stepfun": ("api.stepfun.com", "api.stepfun.ai"),
}
"""Provider → host names it bills under.

Each also covers what is in front of it: ``eu.api.openai.com``, ``me.openai.azure.com``. Gateways
that may stand for anybody (``azure-api.net``, ``gateway.ai.cloudflare.com``, ``helicone``) are left
out on purpose: behind them the declared provider is assumed, and the row says so.
"""

_MODEL_PATHS: dict[str, tuple[str, ...]] = {
    "snowflake": ("/cortex/",),
    "databricks": ("/serving-endpoints/", "/ai-gateway/"),
    "cloudflare": ("/ai/",),
    "modal": (),
    "cursor": (),
    "oci": ("/actions/",),
    "gcp.vertex_ai": (
        "/publishers/",
        "/endpoints/",
        "/reasoningEngines/",
        "/interactions",
        "/cachedContents",
        "/batchPredictionJobs",
        "/tuningJobs",
        ":evaluate",
        ":retrieveContexts",
        ":generateSyntheticData",
    ),
    "azure.ai.openai": (
        "/openai/",
        "/models/",
        "/anthropic/",
        "/providers/",
        "/images",
        "/chat",
        "/threads/",
    ),
    "aws.bedrock": ("/model/", "/async-invoke", "/guardrail", "/agents/", "/flows/", "etrieve"),
    "github_copilot": ("/chat/", "/v1/", "/responses", "/embeddings"),
}
"""Providers whose hosts serve much besides models → what the path of a billed request holds."""

_PROVIDER_OF = {host: provider for provider, hosts in _HOSTS.items() for host in hosts}
_AWS_ENDS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn")


def canonical_provider(name: str | None) -> str | None:
    """Return the convention's name for a provider however a client spells it.

    An unknown name comes back in lower case.
    """
    if not name:
        return None
    known = _CANONICAL.get(name)
    if known is not None:
        return known
    lowered = name.strip().lower()
    plain = lowered.replace("-", "_").replace(" ", "_")
    return _CANONICAL.get(lowered) or _CANONICAL.get(plain) or lowered or None


def is_provider(name: str) -> bool:
    """Return whether a canonical name is a provider that the tables here know."""
    return name in _ALIASES or name in _HOSTS


def provider_of_host(host: str | None) -> str | None:
    """Return the provider that bills requests to ``host``.

    None where that can't be known. ``host`` is a host name without a port.
    """
    if not host:
        return None
    name = host.lower().rstrip(".")
    rest = name
    while rest:
        provider = _PROVIDER_OF.get(rest)
        if provider is not None:
            return provider
        rest = rest.partition(".")[2]
    if name.endswith(_AWS_ENDS):
        is_bedrock = any(label.startswith("bedrock") for label in name.split("."))
        return "aws.bedrock" if is_bedrock else None
    if name.endswith(".googleapis.com"):
        return "gcp.vertex_ai" if "aiplatform" in name else None
    if name.endswith(".oraclecloud.com"):
        return "oci" if "generativeai" in name else None
    return None


def is_model_path(provider: str, path: str) -> bool:
    """Tell whether a request to a provider's host may be one to a model.

    Some hosts serve other things as well, such as databases.
    """
    words = _MODEL_PATHS.get(provider)
    return words is None or any(word in path for word in words)


def resolve_provider(declared: str | None, host: str | None) -> tuple[str | None, bool]:
    """Return ``(provider, is assumed)``.

    A known host decides. Behind an unknown one the declared provider is assumed.
    """
    known = provider_of_host(host)
    if known is not None:
        return known, False
    provider = canonical_provider(declared)
    return provider, provider is not None and bool(host)
