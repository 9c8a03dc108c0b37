"""Alert rules on Prometheus: conditions, severities, texts and runbooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter_dashboards.thresholds import Thresholds

__all__ = ["Alert", "Recording", "prometheus_alerts", "recordings"]

_COST = "crewmeter_cost_usd_total"
_TOKENS = "crewmeter_tokens_total"
_RUNS = "crewmeter_runs_total"
_DURATION = "crewmeter_operation_duration_seconds"
_FIRST_TOKEN = "crewmeter_time_to_first_token_seconds"
_WINDOWS = ("5m", "30m", "1h", "6h", "3d")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule.

    `severity` is ``page`` (somebody gets up) or ``ticket`` (somebody looks in working hours).

    `runbook` is the file's name in docs/runbooks without ``.md``. `lasting` is how long the
    condition must hold.
    """

    name: str
    severity: str
    expr: str
    lasting: str
    runbook: str
    summary: str
    description: str


def recordings() -> tuple[Recording, ...]:
    """Return the sums that alerts and people's own queries share."""
    ratios = [
        Recording(
            f"crewmeter:run_failure_ratio:rate{window}",
            f'sum(rate({_RUNS}{{status!="ok"}}[{window}])) / sum(rate({_RUNS}[{window}]))',
        )
        for window in _WINDOWS
    ]
    return (
        *ratios,
        *(
            Recording(f"crewmeter:runs:increase{window}", f"sum(increase({_RUNS}[{window}]))")
            for window in ("1h", "6h", "3d")
        ),
        Recording("crewmeter:cost_usd:increase1h", f"sum(increase({_COST}[1h]))"),
        Recording("crewmeter:cost_usd:increase1d", f"sum(increase({_COST}[1d]))"),
        Recording(
            "crewmeter:tokens:increase15m", f'sum(increase({_TOKENS}{{type=~"input|output"}}[15m]))'
        ),
        Recording(
            "crewmeter:cache_hit_ratio:increase1h",
            f'sum by (model) (increase({_TOKENS}{{type="cache_read"}}[1h])) / sum by (model) '
            f'(increase({_TOKENS}{{type="input"}}[1h]) > 0)',
        ),
    )


def prometheus_alerts(t: Thresholds) -> tuple[Alert, ...]:
    """Return every alert Prometheus evaluates, with the numbers of `t`."""
    return (*_success(t), *_latency(t), *_spend(t), *_loops(t), *_prices(t), *_pipeline(t))


def _burn(
    t: Thresholds, name: str, speed: str, short: str, long: str, severity: str, lasting: str
) -> Alert:
    factor, objective = t("success", f"{speed}_burn"), t("success", "objective")
    limit = f"{factor * (1 - objective):.6g}"
    return Alert(
        name,
        severity,
        f"crewmeter:run_failure_ratio:rate{short} > {limit} and "
        f"crewmeter:run_failure_ratio:rate{long} > {limit} "
        f"and crewmeter:runs:increase{long} >= {t('success', f'min_runs_{speed}'):g}",
        lasting,
        "success-burn",
        f"Runs fail {factor:g} times faster than the {objective:.1%} objective allows",
        f"{{{{ $value | humanizePercentage }}}} of the runs of the last {short} failed, and the "
        f"last {long} is as bad.",
    )


def _success(t: Thresholds) -> tuple[Alert, ...]:
    return (
        _burn(t, "CrewRunsFailingFast", "fast", "5m", "1h", "page", "2m"),
        _burn(t, "CrewRunsFailing", "medium", "30m", "6h", "page", "5m"),
        _burn(t, "CrewRunsFailingSlowly", "slow", "6h", "3d", "ticket", "30m"),
    )


def _p95(metric: str, label: str, window: str, *, matcher: str = "") -> tuple[str, str]:
    """Return a 95th percentile by `label` and its number of observations."""
    p95 = (
        f"histogram_quantile(0.95, sum by ({label}, le) (rate({metric}_bucket{matcher}[{window}])))"
    )
    return p95, f"sum by ({label}) (increase({metric}_count{matcher}[{window}]))"


def _latency(t: Thresholds) -> tuple[Alert, ...]:
    enough = f"{t('latency', 'min_count'):g}"
    run, runs = _p95(_DURATION, "name", "30m", matcher='{operation="run"}')
    call, calls = _p95(_DURATION, "name", "15m", matcher='{operation="llm"}')
    first, firsts = _p95(_FIRST_TOKEN, "model", "15m")
    return (
        Alert(
            "CrewRunsSlow",
            "ticket",
            f"{run} > {t('latency', 'run_p95_seconds'):g} and {runs} >= {enough}",
            "10m",
            "run-latency",
            "Runs of {{ $labels.name }} are slow",
            "One run in twenty takes longer than {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "ModelCallsSlow",
            "ticket",
            f"{call} > {t('latency', 'model_p95_seconds'):g} and {calls} >= {enough}",
            "10m",
            "model-latency",
            "Calls to {{ $labels.name }} are slow",
            "One call in twenty takes longer than {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "FirstTokenSlow",
            "ticket",
            f"{first} > {t('latency', 'first_token_p95_seconds'):g} and {firsts} >= {enough}",
            "10m",
            "time-to-first-token",
            "{{ $labels.model }} is slow to start answering",
            "One streamed answer in twenty starts after more than {{ $value | humanizeDuration }}.",
        ),
    )


def _spend(t: Thresholds) -> tuple[Alert, ...]:
    hour = "crewmeter:cost_usd:increase1h"
    weeks = " or ".join(
        f'label_replace({hour} offset {week}w, "week", "{week}", "", "")' for week in (1, 2, 3)
    )
    return (
        Alert(
            "SpendPerHourHigh",
            "page",
            f"{hour} > {t('spend', 'per_hour_usd'):g}",
            "5m",
            "spend-per-hour",
            "Spend passed {{ $value | printf `$%.2f` }} in an hour",
            f"The cap is ${t('spend', 'per_hour_usd'):g} an hour.",
        ),
        Alert(
            "SpendUnusual",
            "ticket",
            f"{hour} > {t('spend', 'usual_ratio'):g} * avg without (week) ({weeks}) and {hour} > "
            f"{t('spend', 'usual_floor_usd'):g}",
            "10m",
            "spend-unusual",
            "This hour costs more than usual: {{ $value | printf `$%.2f` }}",
            f"More than {t('spend', 'usual_ratio'):g} times the mean of the same hour of the last "
            "three weeks.",
        ),
    )


def _loops(t: Thresholds) -> tuple[Alert, ...]:
    tokens = "crewmeter:tokens:increase15m"
    ratio, before = (
        "crewmeter:cache_hit_ratio:increase1h",
        "avg_over_time(crewmeter:cache_hit_ratio:increase1h[1d] offset 1h)",
    )
    busy = (
        f'sum by (model) (increase({_TOKENS}{{type="input"}}[1h])) >= '
        f"{t('cache', 'min_input_tokens'):g}"
    )
    return (
        Alert(
            "RunawayLoop",
            "page",
            f"histogram_quantile(0.99, sum by (name, le) "
            f"(increase(crewmeter_run_calls_bucket[15m]))) > {t('loops', 'calls_per_run'):g}",
            "0m",
            "calls-per-run",
            "{{ $labels.name }} makes {{ $value | printf `%.0f` }} model calls in a run",
            f"Above {t('loops', 'calls_per_run'):g} calls a run in one run is most likely a loop.",
        ),
        Alert(
            "TokenSpike",
            "ticket",
            f"{tokens} > {t('loops', 'token_spike_ratio'):g} * avg_over_time({tokens}[1d] offset "
            "15m) "
            f"and {tokens} > {t('loops', 'token_spike_floor'):g}",
            "5m",
            "token-spike",
            "Token use jumped to {{ $value | humanize }} in 15 minutes",
            f"More than {t('loops', 'token_spike_ratio'):g} times the mean of the day before.",
        ),
        Alert(
            "CacheHitsDropped",
            "ticket",
            f"{ratio} < {t('cache', 'drop_ratio'):g} * {before} and {before} > "
            f"{t('cache', 'min_hit_share'):g} and {busy}",
            "30m",
            "cache-hit-drop",
            "The prompt cache of {{ $labels.model }} is hit less",
            "{{ $value | humanizePercentage }} of the input came from the cache in the last hour, "
            "less than half the day before.",
        ),
    )


def _prices(t: Thresholds) -> tuple[Alert, ...]:
    return (
        Alert(
            "UnpricedCalls",
            "ticket",
            f"sum by (provider, model, reason) (increase(crewmeter_unpriced_calls_total[1h])) >= "
            f"{t('meter', 'unpriced_calls'):g}",
            "5m",
            "unpriced-calls",
            "Calls to {{ $labels.model }} have no price ({{ $labels.reason }})",
            "{{ $value | printf `%.0f` }} calls in an hour are missing from every amount of money.",
        ),
        Alert(
            "PricesStale",
            "ticket",
            f"max(crewmeter_price_book_age_seconds) > {t('meter', 'price_age_days') * 86400:g}",
            "1h",
            "stale-prices",
            "The price book is {{ $value | humanizeDuration }} old",
            f"Older than {t('meter', 'price_age_days'):g} days; providers change prices about "
            "monthly.",
        ),
    )


def _collector(name: str) -> str:
    """Return a selector for one of the collector's own counters.

    Collector versions disagree on the suffix ``_total``.
    """
    return f'{{__name__=~"{name}(_total)?"}}'


def _pipeline(t: Thresholds) -> tuple[Alert, ...]:
    last, silent = (
        "crewmeter_ingest_last_span_timestamp_seconds",
        f"{t('meter', 'silent_seconds'):g}",
    )
    lost = f"{t('meter', 'lost_spans'):g}"
    fill = f"{t('meter', 'queue_fill'):g}"
    failing = " or ".join(
        f"sum by (instance) (increase({_collector(name)}[10m])) >= {lost}"
        for name in (
            "otelcol_receiver_refused_spans",
            "otelcol_exporter_send_failed_spans",
            "otelcol_exporter_enqueue_failed_spans",
        )
    )
    return (
        Alert(
            "SidecarDown",
            "page",
            'up{job="crewmeter"} == 0',
            "2m",
            "sidecar-down",
            "The crewmeter sidecar {{ $labels.instance }} is down",
            "Apps buffer or drop their spans while it is away.",
        ),
        Alert(
            "TelemetryLost",
            "page",
            f"sum by (instance) "
            f'(increase(crewmeter_ingest_spans_total{{outcome="refused"}}[10m])) >= {lost} or '
            f"{failing}",
            "5m",
            "telemetry-loss",
            "Spans are being lost at {{ $labels.instance }}",
            "{{ $value | printf `%.0f` }} spans in ten minutes were refused or could not be "
            "handed on.",
        ),
        Alert(
            "TelemetrySilent",
            "ticket",
            f"time() - max({last} > 0) > {silent} and "
            'sum(increase(crewmeter_ingest_spans_total{outcome="stored"}[1h] offset 15m)) > 0',
            "5m",
            "telemetry-loss",
            "No span for {{ $value | humanizeDuration }}",
            "The hour before had some. Either nothing runs, or telemetry no longer arrives.",
        ),
        Alert(
            "QueueFilling",
            "page",
            f"max by (instance) (crewmeter_ingest_queue_spans / "
            f"crewmeter_ingest_queue_capacity_spans) > {fill} "
            f"or max by (instance, exporter) (otelcol_exporter_queue_size / "
            f"otelcol_exporter_queue_capacity) > {fill}",
            "5m",
            "queue-full",
            "A queue at {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
            "When it is full, senders are pushed back and may lose spans.",
        ),
        Alert(
            "LedgerLagging",
            "page",
            "histogram_quantile(0.95, sum by (le) "
            "(rate(crewmeter_ledger_lag_seconds_bucket[10m]))) "
            f"> {t('meter', 'ledger_lag_seconds'):g}",
            "10m",
            "ledger-lag",
            "Spans take {{ $value | humanizeDuration }} to reach the ledger",
            "Spend, budgets and boards lag by as much.",
        ),
        Alert(
            "LedgerFailing",
            "page",
            f"sum by (instance) (increase(crewmeter_ledger_errors_total[10m])) >= "
            f"{t('meter', 'ledger_errors'):g}",
            "0m",
            "ledger-errors",
            "The ledger at {{ $labels.instance }} refuses writes",
            "{{ $value | printf `%.0f` }} transactions failed in ten minutes; senders retry until "
            "their queues are full.",
        ),
    )
