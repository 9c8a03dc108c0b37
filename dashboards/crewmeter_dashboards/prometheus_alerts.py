"""Alert rules on Prometheus: conditions, severities, texts and runbooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_dashboards.panels.words import label_in_words

if TYPE_CHECKING:
    from crewmeter_dashboards.thresholds import Thresholds

__all__ = ["Alert", "prometheus_alerts"]


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


def prometheus_alerts(t: Thresholds) -> tuple[Alert, ...]:
    """Return every alert Prometheus evaluates, with the numbers of `t`."""
    return (
        *_success(t),
        *_latency(t),
        *_spend(t),
        *_loops(t),
        *_prices(t),
        *_telemetry(t),
        *_ledger(t),
    )


def _burn(
    t: Thresholds, name: str, speed: str, short: str, long: str, severity: str, lasting: str
) -> Alert:
    factor = t("success", f"{speed}_burn")
    objective = t("success", "objective")
    limit = factor * (1 - objective)
    ratio = "crewmeter:run_failure_ratio:rate"
    least = t("success", f"min_runs_{speed}")
    return Alert(
        name,
        severity,
        f"{ratio}{short} > {limit:.6g} and {ratio}{long} > {limit:.6g} "
        f"and crewmeter:runs:increase{long} >= {least:g}",
        lasting,
        "success-burn",
        f"{{{{ $value | humanizePercentage }}}} of runs failed in the last {short} "
        f"(limit {limit:.1%})",
        f"The last {long} is above the limit too. At this rate the error budget of the "
        f"{objective:.1%} objective is used up {_speed(factor)}.",
    )


def _speed(factor: float) -> str:
    """Return how soon a burn rate uses a month's error budget up, in words."""
    days = 30 / factor
    if days >= 30:
        return "within the month"
    return f"in {days:.0f} days instead of a month"


def _success(t: Thresholds) -> tuple[Alert, ...]:
    return (
        _burn(t, "CrewRunsFailingFast", "fast", "5m", "1h", "page", "2m"),
        _burn(t, "CrewRunsFailing", "medium", "30m", "6h", "page", "5m"),
        _burn(t, "CrewRunsFailingSlowly", "slow", "6h", "3d", "ticket", "30m"),
    )


def _p95(buckets: str, label: str, limit: float, least: float) -> str:
    """Return a condition.

    The 95th percentile by `label` is over a limit, on enough data.
    """
    observations = f'{buckets}{{le="+Inf"}} >= {least:g}'
    return f"histogram_quantile(0.95, {buckets}) > {limit:g} and on ({label}) {observations}"


def _latency(t: Thresholds) -> tuple[Alert, ...]:
    least = t("latency", "min_count")
    run = t("latency", "run_p95_seconds")
    call = t("latency", "model_p95_seconds")
    first = t("latency", "first_token_p95_seconds")
    return (
        Alert(
            "CrewRunsSlow",
            "ticket",
            _p95("crewmeter:run_seconds_bucket:increase30m", "name", run, least),
            "10m",
            "run-latency",
            "Runs of {{ $labels.name }} are slow: p95 {{ $value | humanizeDuration }} "
            f"(limit {run:g} s)",
            "5 % of the runs of {{ $labels.name }} in the last 30 minutes took longer.",
        ),
        Alert(
            "ModelCallsSlow",
            "ticket",
            _p95("crewmeter:call_seconds_bucket:increase15m", "name", call, least),
            "10m",
            "model-latency",
            "Calls to {{ $labels.name }} are slow: p95 {{ $value | humanizeDuration }} "
            f"(limit {call:g} s)",
            "5 % of the calls to {{ $labels.name }} in the last 15 minutes took longer.",
        ),
        Alert(
            "FirstTokenSlow",
            "ticket",
            _p95("crewmeter:first_token_seconds_bucket:increase15m", "model", first, least),
            "10m",
            "time-to-first-token",
            "{{ $labels.model }} starts responding late: p95 {{ $value | humanizeDuration }} "
            f"(limit {first:g} s)",
            "5 % of its streamed responses in the last 15 minutes started later.",
        ),
    )


_TOP_CREW = (
    '{{ range query "topk(1, crewmeter:cost_usd_by_crew:increase1h)" }}'
    "Crew {{ .Labels.crew }} spent {{ .Value | printf `$%.2f` }} of it.{{ end }}"
)
"""A sentence that names the crew with the largest spend of the last hour."""


def _spend(t: Thresholds) -> tuple[Alert, ...]:
    hour = "crewmeter:cost_usd:increase1h"
    cap = t("spend", "per_hour_usd")
    ratio = t("spend", "usual_ratio")
    floor = t("spend", "usual_floor_usd")
    weeks = " or ".join(
        f'label_replace({hour} offset {week}w, "week", "{week}", "", "")' for week in (1, 2, 3)
    )
    return (
        Alert(
            "SpendPerHourHigh",
            "page",
            f"{hour} > {cap:g}",
            "5m",
            "spend-per-hour",
            f"{{{{ $value | printf `$%.2f` }}}} spent in the last hour (limit ${cap:g})",
            _TOP_CREW,
        ),
        Alert(
            "SpendUnusual",
            "ticket",
            f"{hour} > {ratio:g} * avg without (week) ({weeks}) and {hour} > {floor:g}",
            "10m",
            "spend-unusual",
            "{{ $value | printf `$%.2f` }} spent in the last hour, more than "
            f"{ratio:g} times the usual amount",
            "Usual is the mean of the same hour of the last three weeks. " + _TOP_CREW,
        ),
    )


def _loops(t: Thresholds) -> tuple[Alert, ...]:
    tokens = "crewmeter:tokens:increase15m"
    spike = t("loops", "token_spike_ratio")
    ratio = "crewmeter:cache_hit_ratio:increase1h"
    before = f"avg_over_time({ratio}[1d] offset 1h)"
    calls = t("loops", "calls_per_run")
    return (
        Alert(
            "RunawayLoop",
            "page",
            f"histogram_quantile(0.99, crewmeter:run_calls_bucket:increase15m) > {calls:g}",
            "0m",
            "calls-per-run",
            "{{ $labels.name }} makes {{ $value | printf `%.0f` }} model calls in a run "
            f"(limit {calls:g})",
            "So many calls in one run are most likely a loop.",
        ),
        Alert(
            "TokenSpike",
            "ticket",
            f"{tokens} > {spike:g} * avg_over_time({tokens}[1d] offset 15m) "
            f"and {tokens} > {t('loops', 'token_spike_floor'):g}",
            "5m",
            "token-spike",
            "{{ $value | humanize }} tokens used in 15 minutes, more than "
            f"{spike:g} times the usual amount",
            "Usual is the mean of 15 minutes of the last 24 hours.",
        ),
        Alert(
            "CacheHitsDropped",
            "ticket",
            f"{ratio} < {t('cache', 'drop_ratio'):g} * {before} "
            f"and {before} > {t('cache', 'min_hit_share'):g} "
            f"and crewmeter:input_tokens:increase1h >= {t('cache', 'min_input_tokens'):g}",
            "30m",
            "cache-hit-drop",
            "Cache hits of {{ $labels.model }} fell to {{ $value | humanizePercentage }}",
            f"That is less than {t('cache', 'drop_ratio'):.0%} of the share of the 24 hours "
            "before. Input read from the cache costs a fraction of fresh input.",
        ),
    )


def _prices(t: Thresholds) -> tuple[Alert, ...]:
    days = t("meter", "price_age_days")
    return (
        Alert(
            "UnpricedCalls",
            "ticket",
            f"crewmeter:unpriced_calls:increase1h >= {t('meter', 'unpriced_calls'):g}",
            "5m",
            "unpriced-calls",
            "{{ $value | printf `%.0f` }} calls to {{ $labels.model }} have no known cost: "
            f"{label_in_words('reason', 'cost_status')}",
            f"They are of the last hour, provider {label_in_words('provider', 'provider')}, and "
            "are not included in any cost.",
        ),
        Alert(
            "PricesStale",
            "ticket",
            f"max(crewmeter_price_book_age_seconds) > {days * 86400:g}",
            "1h",
            "stale-prices",
            f"The prices are {{{{ $value | humanizeDuration }}}} old (limit {days:g} days)",
            "Providers change prices about monthly. Update: crewmeter prices update.",
        ),
    )


def _telemetry(t: Thresholds) -> tuple[Alert, ...]:
    last = "crewmeter_ingest_last_span_timestamp_seconds"
    silent = t("meter", "silent_seconds")
    return (
        Alert(
            "SidecarDown",
            "page",
            'up{job="crewmeter"} == 0',
            "2m",
            "sidecar-down",
            "The crewmeter sidecar {{ $labels.instance }} is down",
            "Prometheus cannot reach it. Apps and collectors buffer their spans meanwhile.",
        ),
        Alert(
            "TelemetryLost",
            "page",
            f"crewmeter:spans_lost:increase10m >= {t('meter', 'lost_spans'):g}",
            "5m",
            "telemetry-loss",
            "{{ $value | printf `%.0f` }} spans lost at {{ $labels.instance }} in 10 minutes",
            "They were refused or could not be sent on, so their cost may be missing.",
        ),
        Alert(
            "TelemetrySilent",
            "ticket",
            f"time() - max({last} > 0) > {silent:g} "
            "and crewmeter:spans_stored:increase1h offset 15m > 0",
            "5m",
            "telemetry-loss",
            f"No span for {{{{ $value | humanizeDuration }}}} (limit {silent:g} s)",
            "There were some in the hour before. Either no crew is running, or telemetry no "
            "longer arrives.",
        ),
    )


def _ledger(t: Thresholds) -> tuple[Alert, ...]:
    fill = t("meter", "queue_fill")
    lag = t("meter", "ledger_lag_seconds")
    errors = t("meter", "ledger_errors")
    return (
        Alert(
            "QueueFilling",
            "page",
            "max by (instance) "
            f"(crewmeter_ingest_queue_spans / crewmeter_ingest_queue_capacity_spans) > {fill:g} "
            "or max by (instance, exporter) "
            f"(otelcol_exporter_queue_size / otelcol_exporter_queue_capacity) > {fill:g}",
            "5m",
            "queue-full",
            "A queue at {{ $labels.instance }} is {{ $value | humanizePercentage }} full "
            f"(limit {fill:.0%})",
            "When it is full, senders have to wait and may drop spans.",
        ),
        Alert(
            "LedgerLagging",
            "page",
            f"histogram_quantile(0.95, crewmeter:ledger_lag_seconds_bucket:increase10m) > {lag:g}",
            "10m",
            "ledger-lag",
            "Spans reach the ledger {{ $value | humanizeDuration }} after their end "
            f"(limit {lag:g} s)",
            "Spend, budgets and boards are late by as much.",
        ),
        Alert(
            "LedgerFailing",
            "page",
            f"crewmeter:ledger_errors:increase10m >= {errors:g}",
            "0m",
            "ledger-errors",
            "{{ $value | printf `%.0f` }} writes to the ledger at {{ $labels.instance }} failed "
            f"in 10 minutes (limit {errors:g})",
            "Senders retry until their queues are full.",
        ),
    )
