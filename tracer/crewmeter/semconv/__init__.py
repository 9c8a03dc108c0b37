"""Every attribute, metric and span name that crewmeter writes or reads, once.

This module imports nothing. Which generation of the conventions a name belongs to, and what is
emitted of each, is in `crewmeter.semconv.generations`.

Names without the ``crewmeter.`` prefix follow the OpenTelemetry GenAI semantic conventions
(repository ``open-telemetry/semantic-conventions-genai``, status "development", read in 2026);
``crewmeter.*`` names say what the conventions have no word for yet.
"""

from __future__ import annotations

# --- GenAI conventions: the operation ----------------------------------------------------------
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_SEED = "gen_ai.request.seed"
REASONING_LEVEL = "gen_ai.request.reasoning.level"
"""How much the model was requested to reason, as the provider spells it: ``low``, ``high`` …"""
AGENT_NAME = "gen_ai.agent.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_FUNCTION = "function"
"""Value of the tool's type: a tool that the app runs itself, as all of CrewAI's are."""
TOOL_CALL_ID = "gen_ai.tool.call.id"
CONVERSATION_ID = "gen_ai.conversation.id"
USER_ID = "user.id"
SESSION_ID = "session.id"
OPENAI_SERVICE_TIER = "openai.response.service_tier"
NETWORK_TRANSPORT = "network.transport"
MCP_METHOD = "mcp.method.name"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# --- GenAI conventions: usage (tokens). Input includes cached tokens, output includes reasoning ---
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
CACHE_WRITE_TOKENS_RENAMED = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TEXT_INPUT_TOKENS = "gen_ai.usage.text.input_tokens"
TEXT_OUTPUT_TOKENS = "gen_ai.usage.text.output_tokens"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens"
IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens"
AUDIO_CACHE_READ_TOKENS = "gen_ai.usage.audio.cache_read.input_tokens"
IMAGE_CACHE_READ_TOKENS = "gen_ai.usage.image.cache_read.input_tokens"
COST_AMOUNT = "gen_ai.usage.cost.amount"
"""What the provider itself said the call cost (double), proposed for the conventions (#443)."""
COST_CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
"""``provider``: the amount stood in the response."""

# --- crewmeter: usage the conventions do not split ---------------------------------------------
CACHE_WRITE_5M_TOKENS = "crewmeter.usage.cache_write_5m.input_tokens"
CACHE_WRITE_1H_TOKENS = "crewmeter.usage.cache_write_1h.input_tokens"
INPUT_AUDIO_TOKENS = "crewmeter.usage.input_audio_tokens"
OUTPUT_AUDIO_TOKENS = "crewmeter.usage.output_audio_tokens"
INPUT_IMAGE_TOKENS = "crewmeter.usage.input_image_tokens"
OUTPUT_IMAGE_TOKENS = "crewmeter.usage.output_image_tokens"
WEB_SEARCHES = "crewmeter.usage.web_searches"
SEARCH_UNITS = "crewmeter.usage.search_units"
INPUT_VIDEO_TOKENS = "crewmeter.usage.input_video_tokens"
OUTPUT_VIDEO_TOKENS = "crewmeter.usage.output_video_tokens"
CACHE_READ_AUDIO_TOKENS = "crewmeter.usage.cache_read_audio_tokens"
CACHE_READ_IMAGE_TOKENS = "crewmeter.usage.cache_read_image_tokens"
USAGE_UNITS = "crewmeter.usage.units"
"""String array of ``name=number``: what is billed and is no token (`TokenUsage.units`)."""
USAGE_STATUS = "crewmeter.usage.status"
"""How far to trust the token counts.

``reported`` | ``missing`` | ``estimated`` | ``reconciled`` | ``invalid``
"""
USAGE_SOURCE = "crewmeter.usage.source"
"""``event`` | ``wire`` | ``stream`` | ``counter``: where the token counts were read."""
USAGE_FLAGS = "crewmeter.usage.flags"
"""String array: what was assumed, e.g. ``cache_ttl_assumed``, ``cached_not_reported``."""
SERVICE_TIER = "crewmeter.service_tier"
REPORTED_COST_USD = "crewmeter.cost.reported_usd"
"""What the provider itself said the call cost (decimal string). Stored beside our own charge."""
TIME_TO_FIRST_TOKEN = "gen_ai.response.time_to_first_chunk"
"""Seconds (double) from the start of the call to its first streamed chunk."""

# --- crewmeter: where in the crew --------------------------------------------------------------
KIND = "crewmeter.kind"
RUN_ID = "crewmeter.run.id"
RUN_KIND = "crewmeter.run.kind"
RUN_NAME = "crewmeter.run.name"
CREW = "crewmeter.crew.name"
FLOW = "crewmeter.flow.name"
TASK = "crewmeter.task.name"
TOOL = "crewmeter.tool.name"
"""On an LLM or embedding span: the tool inside which the call was made, if any."""
DECLARED_PROVIDER = "crewmeter.provider.declared"
"""The provider the client names, before its host had a say."""
CALL_ORIGIN = "crewmeter.call.origin"
"""Who reported the call: ``event`` (CrewAI) | ``wire`` (its HTTP exchange only) | ``residual``.

A residual is what only a counter reported.
"""
SAMPLED_OUT = "crewmeter.sampled_out"
"""True on a span that the head sampler dropped. Collectors send it to the ledger only.

An attribute, since OTLP's flags cannot say it: the Python exporter never sets the sampled bit, so a
clear bit means nothing.
"""
ABANDONED = "crewmeter.abandoned"
REPLAYED = "crewmeter.replayed"
CACHED_RESULT = "crewmeter.tool.cached"
TOOL_FAILURE = "crewmeter.tool.failure"
ATTEMPTS = "crewmeter.tool.attempts"
GUARDRAIL_PASSED = "crewmeter.guardrail.passed"
PAUSED = "crewmeter.paused"
"""A flow or method that stopped to wait for a human; it resumes as a new span."""

# --- crewmeter: attribution --------------------------------------------------------------------
USER = "crewmeter.user"
TEAM = "crewmeter.team"
SESSION = "crewmeter.session"
TAG_PREFIX = "crewmeter.tag."

# --- Content, only when the user wants it --------------------------------------------------------
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"

# --- Resource ----------------------------------------------------------------------------------
SERVICE_NAME = "service.name"
ENVIRONMENT = "deployment.environment.name"
ENVIRONMENT_OLD = "deployment.environment"

# --- Operations (values of OPERATION) ----------------------------------------------------------
CHAT = "chat"
TEXT_COMPLETION = "text_completion"
GENERATE_CONTENT = "generate_content"
EMBEDDINGS = "embeddings"
RERANK = "rerank"
TRANSCRIPTION = "transcription"
SPEECH = "speech"
OCR = "ocr"
VIDEO = "video_generation"
MODERATION = "moderation"
BATCH = "batch"
UNROUTED = "unrouted"
"""A request to a provider's host at an endpoint that nobody knows: it may be billed."""
EXECUTE_TOOL = "execute_tool"
INVOKE_AGENT = "invoke_agent"
INVOKE_WORKFLOW = "invoke_workflow"
SEARCH_MEMORY = "search_memory"
UPSERT_MEMORY = "upsert_memory"
RETRIEVAL = "retrieval"
PLAN = "plan"
BILLED_OPERATIONS = frozenset(
    {
        CHAT,
        TEXT_COMPLETION,
        GENERATE_CONTENT,
        EMBEDDINGS,
        RERANK,
        TRANSCRIPTION,
        SPEECH,
        OCR,
        VIDEO,
        MODERATION,
        BATCH,
        UNROUTED,
    }
)

# --- Kinds (values of KIND), the nodes of a run's tree -----------------------------------------
KIND_FLOW = "flow"
KIND_CREW = "crew"
KIND_METHOD = "flow_method"
KIND_TASK = "task"
KIND_AGENT = "agent"
KIND_LLM = "llm"
KIND_EMBEDDING = "embedding"
KIND_TOOL = "tool"
KIND_MEMORY = "memory"
KIND_KNOWLEDGE = "knowledge"
KIND_MCP = "mcp"
KIND_GUARDRAIL = "guardrail"
KIND_REASONING = "reasoning"
KIND_A2A = "a2a"
KIND_HUMAN = "human_input"
KIND_TRAIN = "train"
KIND_TEST = "test"
KIND_EVALUATION = "evaluation"
KIND_OTHER = "other"

# --- Attributes of metrics ----------------------------------------------------------------------
TOKEN_TYPE = "gen_ai.token.type"
TOKEN_MODALITY = "gen_ai.token.modality"
"""``text`` | ``audio`` | ``image`` | ``video`` | ``unknown``, where nothing tells them apart."""

# --- Prometheus metrics of the sidecar (the contract) ------------------------------------------
PROM_COST = "crewmeter_cost_usd_total"
PROM_CALLS = "crewmeter_llm_calls_total"
PROM_TOKENS = "crewmeter_tokens_total"
PROM_UNPRICED = "crewmeter_unpriced_calls_total"
PROM_UNKNOWN_USAGE = "crewmeter_ingest_unknown_usage_total"
PROM_DURATION = "crewmeter_operation_duration_seconds"
PROM_TIME_TO_FIRST_TOKEN = "crewmeter_time_to_first_token_seconds"
PROM_RUNS = "crewmeter_runs_total"
PROM_RUN_CALLS = "crewmeter_run_calls"
PROM_TOOL_CALLS = "crewmeter_tool_calls_total"
PROM_INGEST_REQUESTS = "crewmeter_ingest_requests_total"
PROM_INGEST_SPANS = "crewmeter_ingest_spans_total"
PROM_INGEST_QUEUE = "crewmeter_ingest_queue_spans"
PROM_INGEST_QUEUE_CAPACITY = "crewmeter_ingest_queue_capacity_spans"
PROM_INGEST_LAST_SPAN = "crewmeter_ingest_last_span_timestamp_seconds"
PROM_LEDGER_WRITE = "crewmeter_ledger_write_seconds"
PROM_LEDGER_LAG = "crewmeter_ledger_lag_seconds"
PROM_LEDGER_ERRORS = "crewmeter_ledger_errors_total"
PROM_LEDGER_SIZE = "crewmeter_ledger_size_bytes"
PROM_LEDGER_QUARANTINES = "crewmeter_ledger_quarantines_total"
PROM_LEDGER_REPLACEMENTS = "crewmeter_ledger_replacements_total"
PROM_THREAD_RESTARTS = "crewmeter_thread_restarts_total"
PROM_BUDGET_SPENT = "crewmeter_budget_spent_usd"
PROM_BUDGET_LIMIT = "crewmeter_budget_limit_usd"
PROM_PRICE_BOOK_AGE = "crewmeter_price_book_age_seconds"

SCOPE = "crewmeter"
"""Name of the instrumentation scope on every span and metric of ours."""
