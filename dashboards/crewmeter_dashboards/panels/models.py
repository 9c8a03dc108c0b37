"""Panels about models, providers and tools."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.overview import FAILURE_STEPS
from crewmeter_dashboards.panels.palette import GOOD, WARN
from crewmeter_dashboards.panels.panel import EMPTY_LIVE, Column, Kind, Panel, Step, Unit
from crewmeter_dashboards.panels.queries import COST, NEWEST, newest, over_time, quantiles_by

__all__ = ["PANELS"]

_CACHE_SHARE = "1.0 * SUM(cache_read_tokens) / NULLIF(SUM(input_tokens), 0)"
_PER_1M = f"1000000.0 * ({COST}) / NULLIF(SUM(input_tokens) + SUM(output_tokens), 0)"
_TOOL_STEPS = "kind = 'tool'" + sql_sources.where({"crew": "crew", "agent": "agent"})

_TOTAL_ROWS = sql_sources.TOTAL.rows("cost_usd", "unpriced_calls", "input_tokens", "output_tokens")

_STATS = (
    Panel(
        id="failed_call_share",
        title="Failed model calls",
        tells="Share of model calls that ended in an error.",
        act="Above 1 %: error types, below, separate limits (back off, raise quota) from bad "
        "requests "
        "(fix) and outages (fall back).",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=2,
        steps=FAILURE_STEPS,
        sql=(
            f"WITH facts AS ({sql_sources.TOTAL.rows('calls', 'failed_calls')})\n"
            "SELECT 1.0 * SUM(failed_calls) / NULLIF(SUM(calls), 0) AS failed FROM facts"
        ),
    ),
    Panel(
        id="ttft_p95",
        title="Time to first token",
        tells="How long people wait before a streamed answer starts: p50 and p95.",
        act="High with low total latency: the provider queues; try another region, tier or model.",
        source="views latency_daily and latency_hourly, dimension ttft (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SECONDS,
        columns={"p50": Column("p50"), "p95": Column("p95")},
        empty="No streamed call in this range: time to first token is only known for stream=True.",
        sql=(
            f"WITH lat AS ({sql_sources.latency('ttft')}),\n"
            "cum AS (SELECT le_seconds, SUM(SUM(count)) OVER (ORDER BY le_seconds) AS seen, "
            "SUM(SUM(count)) OVER () AS total\n"
            "  FROM lat GROUP BY le_seconds)\n"
            "SELECT MIN(CASE WHEN seen >= 0.5 * total THEN le_seconds END) AS p50,\n"
            "  MIN(CASE WHEN seen >= 0.95 * total THEN le_seconds END) AS p95 FROM cum"
        ),
    ),
    Panel(
        id="cache_hit",
        title="Cache hits",
        tells="Share of input tokens that the provider read from its prompt cache, at a fraction "
        "of the price.",
        act="Low on long, repeated prompts: put the stable part first. A sudden drop: "
        "docs/runbooks/cache-hit-drop.md.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=1,
        sql=f"WITH facts AS "
        f"({sql_sources.TOTAL.rows('cache_read_tokens', 'input_tokens')})\nSELECT "
        f"{_CACHE_SHARE} AS hits FROM facts",
    ),
    Panel(
        id="truncated_share",
        title="Truncated answers",
        tells="Share of calls that stopped because the output limit was reached (finish reason "
        "length or max_tokens).",
        act="Above 1 %: raise max_tokens or request shorter answers. Truncated answers are billed "
        "and often retried.",
        source="view finish_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.SHARE,
        decimals=2,
        steps=FAILURE_STEPS,
        sql=(
            f"WITH facts AS ({sql_sources.FINISH.rows('calls')})\n"
            "SELECT 1.0 * SUM(CASE WHEN LOWER(finish_reason) IN ('length', 'max_tokens', "
            "'model_length') THEN calls ELSE 0 END)\n"
            "  / NULLIF(SUM(calls), 0) AS truncated FROM facts"
        ),
    ),
    Panel(
        id="price_per_1m",
        title="Price per 1M tokens",
        tells="What 1M tokens, input and output together, cost on average.",
        act="Falls with cache hits and smaller models, rises with long answers and reasoning.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STAT,
        unit=Unit.USD,
        sql=(f"WITH facts AS ({_TOTAL_ROWS})\nSELECT {_PER_1M} AS price FROM facts"),
    ),
)

_SERIES = (
    Panel(
        id="model_p95",
        title="Latency p95 by model",
        tells="95th percentile latency of one call, for the busiest models.",
        act="One model up: its provider's status page, then a fallback. All up: your gateway or "
        "network.",
        source="view calls (up to 3 h), then tables latency_hour and latency_day, dimension model",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        series="model",
        sql=quantiles_by("model", "model"),
    ),
    Panel(
        id="ttft_by_model",
        title="Time to first token p95 by model",
        tells="95th percentile wait for the first token of streamed answers.",
        act="docs/runbooks/time-to-first-token.md.",
        source="view calls (up to 3 h), then tables latency_hour and latency_day, dimension ttft",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        series="model",
        empty="No streamed call in this range: time to first token is only known for stream=True.",
        sql=quantiles_by("ttft", "model"),
    ),
    Panel(
        id="calls_by_model",
        title="Calls by model",
        tells="Model calls per bucket; the seven busiest models, then the rest.",
        act="A model nobody meant to use: look for a default in an agent without llm=.",
        source="view model_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="model",
        sql=over_time(sql_sources.MODEL.rows("calls"), "model", "SUM(calls)", "calls"),
    ),
    Panel(
        id="errors_by_type",
        title="Errors by type",
        tells="Failed model calls per bucket, by error type.",
        act="RateLimitError: quota or back-off. Timeout: latency, above. AuthenticationError: "
        "keys. 5xx: the provider.",
        source="view error_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="error_type",
        empty="No failed call in this range.",
        sql=over_time(sql_sources.ERROR.rows("calls"), "error_type", "SUM(calls)", "errors"),
    ),
    Panel(
        id="tokens_by_kind",
        title="Tokens by kind",
        tells="Tokens per bucket in disjoint kinds: fresh input, cache reads, cache writes, "
        "output and reasoning.",
        act="Fresh input dominates: cache the prompt. Reasoning dominates: lower the effort.",
        source="view total_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        columns={
            name: Column(name.replace("_", " "))
            for name in ("input", "cache_read", "cache_write", "output", "reasoning")
        },
        sql=(
            "WITH facts AS ("
            + sql_sources.TOTAL.rows(
                "input_tokens",
                "cache_read_tokens",
                "cache_write_tokens",
                "output_tokens",
                "reasoning_tokens",
            )
            + f")\nSELECT {sql_sources.BUCKET} AS time, SUM(input_tokens) - "
            "SUM(cache_read_tokens) - SUM(cache_write_tokens) AS input,\n"
            "  SUM(cache_read_tokens) AS cache_read, SUM(cache_write_tokens) AS cache_write,\n"
            "  SUM(output_tokens) - SUM(reasoning_tokens) AS output, SUM(reasoning_tokens) AS "
            "reasoning\n"
            "FROM facts GROUP BY 1 ORDER BY 1"
        ),
    ),
    Panel(
        id="cache_hit_by_model",
        title="Cache hits by model",
        tells="Share of input tokens read from the provider's prompt cache.",
        act="A drop after a release: something variable moved to the front of the prompt.",
        source="view model_hourly (calls up to 3 h)",
        kind=Kind.LINES,
        unit=Unit.SHARE,
        series="model",
        maximum=1,
        sql=over_time(
            sql_sources.MODEL.rows("cache_read_tokens", "input_tokens"),
            "model",
            _CACHE_SHARE,
            "hits",
        ),
    ),
    Panel(
        id="price_per_1m_by_model",
        title="Price per 1M tokens by model",
        tells="What 1M tokens, input and output together, cost on each model.",
        act="The same quality on a model with a lower line is money saved: crewmeter whatif "
        "prices your history on it.",
        source="view model_hourly (calls up to 3 h)",
        kind=Kind.LINES,
        unit=Unit.USD,
        series="model",
        sql=over_time(
            sql_sources.MODEL.rows("cost_usd", "unpriced_calls", "input_tokens", "output_tokens"),
            "model",
            _PER_1M,
            "price",
        ),
    ),
    Panel(
        id="finish_reasons",
        title="Finish reasons",
        tells="Why models stopped: stop and tool calls are normal, length is truncation, "
        "content_filter is refusal.",
        act="Length or content_filter in the top three deserves a look at the prompts.",
        source="view finish_hourly (calls up to 3 h)",
        kind=Kind.BARS,
        unit=Unit.COUNT,
        series="finish_reason",
        sql=(
            f"WITH facts AS ({sql_sources.FINISH.rows('calls')})\n"
            "SELECT COALESCE(finish_reason, '(none)') AS finish_reason, SUM(calls) AS calls FROM "
            "facts GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
        ),
    ),
)

_TABLES = (
    Panel(
        id="models",
        title="Models",
        tells="Per provider and model: calls, failures, mean latency, tokens, cache hits, price "
        "per 1M tokens and cost.",
        act="Compare rows with similar work: the same task on a cheaper row is a saving.",
        source="view model_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "provider": Column("Provider", Unit.TEXT),
            "model": Column("Model", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "mean_seconds": Column("Mean call", Unit.SECONDS),
            "input_tokens": Column("Input", Unit.COUNT),
            "output_tokens": Column("Output", Unit.COUNT),
            "cache_share": Column("Cached", Unit.SHARE),
            "price_per_1m": Column("Per 1M tokens", Unit.USD),
            "unpriced": Column("Unpriced", Unit.COUNT, steps=(Step(0, GOOD), Step(1, WARN))),
            "cost_usd": Column("Cost", Unit.USD, bar=True),
        },
        sql=(
            "WITH facts AS ("
            + sql_sources.MODEL.rows(
                "calls",
                "failed_calls",
                "unpriced_calls",
                "input_tokens",
                "cache_read_tokens",
                "output_tokens",
                "cost_usd",
                "duration_seconds",
            )
            + ")\nSELECT COALESCE(provider, '(none)') AS provider, COALESCE(model, '(none)') AS "
            "model, SUM(calls) AS calls,\n"
            "  1.0 * SUM(failed_calls) / NULLIF(SUM(calls), 0) AS failed_share,\n"
            "  SUM(duration_seconds) / NULLIF(SUM(calls), 0) AS mean_seconds,\n"
            f"  SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens, "
            f"{_CACHE_SHARE} AS cache_share,\n"
            f"  {_PER_1M} AS price_per_1m, SUM(unpriced_calls) AS unpriced, {COST} AS cost_usd\n"
            "FROM facts GROUP BY 1, 2 ORDER BY SUM(cost_usd) DESC LIMIT 50"
        ),
    ),
)

_TOOLS = (
    Panel(
        id="tool_calls",
        title="Tool calls",
        tells="Tool calls per bucket, by tool.",
        act="A tool that climbs while runs do not is being retried: see its failures.",
        source="view tool_hourly (steps up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="tool",
        empty="No tool call in this range.",
        sql=over_time(sql_sources.TOOL.rows("calls"), "tool", "SUM(calls)", "calls"),
    ),
    Panel(
        id="tool_errors",
        title="Failed tool calls",
        tells="Tool calls that raised, per bucket, by tool.",
        act="Every failed call is paid for again by the model that reads the error: fix the "
        "noisiest tool first.",
        source="view tool_hourly (steps up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="tool",
        empty="No tool call in this range.",
        sql=over_time(sql_sources.TOOL.rows("failed_calls"), "tool", "SUM(failed_calls)", "failed"),
    ),
    Panel(
        id="tool_p95",
        title="Tool p95",
        tells="95th percentile duration by tool.",
        act="Slow tools hold runs up while tokens idle: cache, run in parallel, or set a timeout.",
        source="view steps (up to 3 h), then tables latency_hour and latency_day, dimension tool",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        series="tool",
        empty="No tool call in this range.",
        sql=quantiles_by("tool", "tool"),
    ),
    Panel(
        id="tools",
        title="Tools",
        tells=f"Per tool: calls, failures, mean duration; results from the cache and retries of "
        f"the newest {NEWEST:,} calls.",
        act="No cached results on a tool that gets the same arguments twice: set its "
        "cache_function.",
        source="views tool_hourly and steps",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "tool": Column("Tool", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT, bar=True),
            "failed_share": Column("Failed", Unit.SHARE, steps=FAILURE_STEPS),
            "mean_seconds": Column("Mean", Unit.SECONDS),
            "cached_share": Column("Cached", Unit.SHARE),
            "retried": Column("Retried", Unit.COUNT),
        },
        empty="No tool call in this range.",
        sql=(
            f"WITH facts AS "
            f"({sql_sources.TOOL.rows('calls', 'failed_calls', 'duration_seconds')}),\n"
            "recent AS (SELECT name, AVG(CASE WHEN LOWER(@detail_cached) IN ('1', 'true') THEN "
            "1.0 ELSE 0.0 END) AS cached_share,\n"
            "  SUM(CASE WHEN CAST(@detail_attempts AS INTEGER) > 1 THEN 1 ELSE 0 END) AS retried\n"
            f"  FROM ({newest('steps', 'name, details', _TOOL_STEPS)}) AS s GROUP BY name)\n"
            "SELECT COALESCE(f.tool, '(none)') AS tool, f.calls, f.failed_share, f.mean_seconds, "
            "r.cached_share, r.retried\n"
            "FROM (SELECT tool, SUM(calls) AS calls, 1.0 * SUM(failed_calls) / NULLIF(SUM(calls), "
            "0) AS failed_share,\n"
            "  SUM(duration_seconds) / NULLIF(SUM(calls), 0) AS mean_seconds FROM facts GROUP BY "
            "tool) AS f\n"
            "LEFT JOIN recent AS r ON r.name = f.tool ORDER BY f.calls DESC LIMIT 50"
        ),
    ),
)

_LIVE = (
    Panel(
        id="live_ttft",
        title="Time to first token, live",
        tells="95th percentile wait for the first token by model, from Prometheus.",
        act="docs/runbooks/time-to-first-token.md.",
        source="metric crewmeter_time_to_first_token_seconds",
        kind=Kind.LINES,
        unit=Unit.SECONDS,
        empty=EMPTY_LIVE,
        promql={
            "{{model}}": (
                "histogram_quantile(0.95, sum by (model, le) "
                "(rate(crewmeter_time_to_first_token_seconds_bucket[$__rate_interval])))"
            )
        },
    ),
    Panel(
        id="live_tools",
        title="Tool calls, live",
        tells="Tool calls per minute by tool and outcome, from Prometheus.",
        act="Errors of one tool: its own logs. Errors of all: the network or credentials.",
        source="metric crewmeter_tool_calls_total",
        kind=Kind.LINES,
        unit=Unit.PER_MINUTE,
        empty=EMPTY_LIVE,
        promql={
            "{{tool}} {{status}}": "60 * sum by (tool, status) "
            "(rate(crewmeter_tool_calls_total[$__rate_interval]))"
        },
    ),
    Panel(
        id="live_tokens",
        title="Tokens, live",
        tells="Tokens per second by kind, from Prometheus.",
        act="A spike of input without more runs: docs/runbooks/token-spike.md.",
        source="metric crewmeter_tokens_total",
        kind=Kind.LINES,
        unit=Unit.PER_SECOND,
        empty=EMPTY_LIVE,
        promql={"{{type}}": "sum by (type) (rate(crewmeter_tokens_total[$__rate_interval]))"},
    ),
)

PANELS = (*_STATS, *_SERIES, *_TABLES, *_TOOLS, *_LIVE)
