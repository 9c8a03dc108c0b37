"""The sample company: its models, crews, teams and people. Data only.

Speeds, token counts and failure rates are typical of public reports; prices are none of this
module's business.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMPANY", "EMBEDDER", "Crew", "Job", "Model", "Role", "Tool"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model behind a provider's API, and how it behaves."""

    provider: str
    host: str
    name: str
    answers_as: str
    """Model name in its responses."""
    first_token_s: float
    tokens_per_s: float
    cached: float = 0.0
    """Share of the input that is usually read from the provider's cache."""
    writes_cache: bool = False
    """Bills cache writes apart (Anthropic)."""
    reasoning: float = 0.0
    """Share of the output that is reasoning."""
    tier: str | None = None
    says_cost: tuple[float, float] | None = None
    """A gateway that reports what it charged: USD per million tokens in and out."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its duration, and how often it fails or answers from CrewAI's cache."""

    name: str
    seconds: float
    fails: float = 0.0
    cached: float = 0.0
    error: str = "ToolExecutionError"


@dataclass(frozen=True, slots=True)
class Role:
    """An agent: its model, usual prompt and answer (tokens), and its tools."""

    name: str
    model: Model
    tokens_in: int
    tokens_out: int
    tools: tuple[Tool, ...] = ()
    turns: int = 1
    """Model calls a task usually takes; between them it calls tools."""
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A task and who does it."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Crew:
    """A crew at work: what it does, for whom, how often and when."""

    name: str
    service: str
    team: str
    users: tuple[str, ...]
    jobs: tuple[Job, ...]
    share: float
    """Of the company's model calls."""
    rhythm: str
    """``office`` | ``always`` | ``night``."""
    flow: str | None = None
    fails: float = 0.02
    """Share of runs that end in an error."""
    embeds: int = 0
    """Memory or knowledge look-ups a task, each an embedding call."""
    customers: tuple[str, ...] = ()
    environments: tuple[str, ...] = ("production",)


_OPENAI = "api.openai.com"
_ANTHROPIC = "api.anthropic.com"
_GOOGLE = "generativelanguage.googleapis.com"
_MINI = Model("openai", _OPENAI, "gpt-4o-mini", "gpt-4o-mini-2024-07-18", 0.35, 95, cached=0.35)
_GPT5 = Model("openai", _OPENAI, "gpt-5", "gpt-5-2025-08-07", 0.9, 70, cached=0.45, reasoning=0.55)
_GPT5_FLEX = Model(
    "openai", _OPENAI, "gpt-5", "gpt-5-2025-08-07", 4.0, 45, cached=0.3, reasoning=0.6, tier="flex"
)
_SONNET = Model(
    "anthropic",
    _ANTHROPIC,
    "claude-sonnet-4-5",
    "claude-sonnet-4-5-20250929",
    0.8,
    75,
    cached=0.6,
    writes_cache=True,
)
_OPUS = Model(
    "anthropic",
    _ANTHROPIC,
    "claude-opus-4-5",
    "claude-opus-4-5-20251101",
    1.3,
    50,
    cached=0.5,
    writes_cache=True,
)
_FLASH = Model(
    "gcp.gemini",
    _GOOGLE,
    "gemini-2.5-flash",
    "gemini-2.5-flash",
    0.3,
    190,
    cached=0.2,
    reasoning=0.3,
)
_GEMINI = Model(
    "gcp.gemini", _GOOGLE, "gemini-2.5-pro", "gemini-2.5-pro", 1.6, 85, cached=0.3, reasoning=0.5
)
_LLAMA = Model(
    "groq", "api.groq.com", "llama-3.3-70b-versatile", "llama-3.3-70b-versatile", 0.12, 280
)
_AZURE = Model(
    "azure.ai.openai",
    "contoso.openai.azure.com",
    "gpt-4o",
    "gpt-4o-2024-08-06",
    0.6,
    80,
    cached=0.25,
)
_BEDROCK = Model(
    "aws.bedrock",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    0.9,
    70,
    cached=0.4,
    writes_cache=True,
)
_LOCAL = Model(
    "hosted_vllm", "gpu-3.internal", "qwen3-coder-32b-awq", "qwen3-coder-32b-awq", 0.2, 55
)
_HAIKU = Model(
    "openrouter",
    "openrouter.ai",
    "anthropic/claude-haiku-4.5",
    "anthropic/claude-haiku-4.5",
    0.6,
    120,
    says_cost=(1.0, 5.0),
)
EMBEDDER = Model(
    "openai", _OPENAI, "text-embedding-3-small", "text-embedding-3-small", 0.12, 100_000
)

_TICKETS = Tool("search_tickets", 0.4, fails=0.01, cached=0.25)
_CUSTOMER = Tool("lookup_customer", 0.15, cached=0.35)
_WEB = Tool("web_search", 1.4, fails=0.06, cached=0.1, error="ConnectTimeout")
_SCRAPE = Tool("scrape_page", 2.2, fails=0.11, error="HTTPStatusError")
_SQL = Tool("query_warehouse", 3.1, fails=0.03, error="ProgrammingError")
_CLAUSES = Tool("clause_library", 0.3, cached=0.2)
_TESTS = Tool("run_tests", 14.0, fails=0.18, error="TestsFailed")
_DIFF = Tool("read_diff", 0.2)
_OCR = Tool("read_invoice", 1.1, fails=0.02, error="UnreadableScan")
_LEDGER = Tool("post_entry", 0.3, fails=0.01, error="ValidationError")

_TRIAGE = Role("Triage Agent", _MINI, 1400, 120, (_CUSTOMER,), turns=2)
_RESOLVER = Role("Resolution Writer", _SONNET, 5200, 420, (_TICKETS,), turns=2, streams=True)
_RESEARCHER = Role("Market Researcher", _GPT5, 6800, 900, (_WEB, _SCRAPE), turns=5)
_ANALYST = Role("Analyst", _GPT5, 9400, 1300, (_SQL,), turns=3)
_EDITOR = Role("Report Editor", _SONNET, 12_500, 1900, streams=True)
_READER = Role("Contract Reader", _GEMINI, 42_000, 2600, (_CLAUSES,), turns=2)
_COUNSEL = Role("Counsel", _OPUS, 18_000, 2200, (_CLAUSES,), turns=2)
_REVIEWER = Role("Code Reviewer", _GPT5_FLEX, 14_000, 1100, (_DIFF, _TESTS), turns=3)
_LINTER = Role("Style Checker", _LOCAL, 7000, 350, (_DIFF,), turns=2)
_SCOUT = Role("Trend Scout", _LLAMA, 2600, 300, (_WEB,), turns=2)
_COPYWRITER = Role("Copywriter", _FLASH, 3400, 800, streams=True)
_TRANSLATOR = Role("Translator", _HAIKU, 2200, 1100, streams=True)
_EXTRACTOR = Role("Invoice Extractor", _AZURE, 2900, 280, (_OCR,), turns=2)
_BOOKKEEPER = Role("Bookkeeper", _BEDROCK, 4100, 260, (_LEDGER,), turns=2)
_INDEXER = Role("Indexer", _MINI, 2100, 160)

COMPANY: tuple[Crew, ...] = (
    Crew(
        "support-triage",
        "helpdesk",
        "support",
        ("ana", "ben", "chidi", "dora"),
        (Job("classify ticket", _TRIAGE), Job("write resolution", _RESOLVER)),
        0.36,
        "always",
        fails=0.015,
        embeds=1,
        customers=("acme", "globex", "initech", "umbrella", "hooli"),
    ),
    Crew(
        "market-research",
        "insights",
        "growth",
        ("eve", "farid"),
        (
            Job("gather sources", _RESEARCHER),
            Job("analyse", _ANALYST),
            Job("write report", _EDITOR),
        ),
        0.16,
        "office",
        fails=0.05,
        embeds=2,
    ),
    Crew(
        "contract-review",
        "legal-desk",
        "legal",
        ("gwen", "hiro"),
        (Job("read contract", _READER), Job("assess risks", _COUNSEL)),
        0.08,
        "office",
        flow="contract-intake",
        fails=0.03,
        customers=("acme", "initech", "stark"),
    ),
    Crew(
        "code-review",
        "devtools",
        "platform",
        ("ines", "jonas", "kira", "lev", "mei"),
        (Job("check style", _LINTER), Job("review change", _REVIEWER)),
        0.17,
        "office",
        fails=0.03,
        environments=("production", "staging"),
    ),
    Crew(
        "newsletter",
        "campaigns",
        "marketing",
        ("nora", "omar"),
        (
            Job("scout trends", _SCOUT),
            Job("write issue", _COPYWRITER),
            Job("translate", _TRANSLATOR),
        ),
        0.07,
        "office",
        flow="weekly-issue",
    ),
    Crew(
        "invoice-extraction",
        "back-office",
        "finance",
        ("pia", "quinn"),
        (Job("extract fields", _EXTRACTOR), Job("book invoice", _BOOKKEEPER)),
        0.10,
        "office",
        fails=0.02,
    ),
    Crew(
        "knowledge-index",
        "ingest",
        "data",
        ("scheduler",),
        (Job("summarise document", _INDEXER),),
        0.06,
        "night",
        embeds=6,
        fails=0.01,
    ),
)
