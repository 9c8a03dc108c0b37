"""Recording rules on Prometheus.

They are the sums that alerts and people's own queries share.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COST", "RUN_WINDOWS", "Recording", "growth", "recordings"]

COST = "crewmeter_cost_usd_total"
_TOKENS = "crewmeter_tokens_total"
_RUNS = "crewmeter_runs_total"
_DURATION = "crewmeter_operation_duration_seconds_bucket"
_SPANS = "crewmeter_ingest_spans_total"

RUN_WINDOWS = ("5m", "30m", "1h", "6h", "3d")
"""Windows of the failure ratio, short and long."""
_COLLECTOR_LOSSES = (
    "otelcol_receiver_refused_spans",
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_enqueue_failed_spans",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str


def growth(series: str, window: str, *by: str) -> str:
    """Return PromQL for how much counters grew in a window, the first sample included.

    `increase()` starts at a series' first sample, so what a new crew or model spent before its
    first scrape would count for nothing. The first sample is added where the series was born in the
    window: it did not exist when the window began, and its target was scraped before it appeared.
    A target that Prometheus merely could not reach for a while has as many samples of the series
    as successful scrapes, so its old total is not taken for a jump.
    """
    samples = f"count_over_time({series}[{window}])"
    # Without `up` (remote write, a test) the metric's longest series says how often it was scraped.
    scrapes = (
        f"(sum by (job, instance) (sum_over_time(up[{window}])) "
        f"or max by (job, instance) ({samples}))"
    )
    born = f"{samples} < on (job, instance) group_left () {scrapes}"
    first = f"min_over_time({series}[{window}]) unless {series} offset {window} and ({born})"
    # Both sides have the same labels, and `or` would drop the second without one of its own.
    marked = f'label_replace({first}, "part", "first", "", "")'
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (increase({series}[{window}]) or {marked})"


def recordings() -> tuple[Recording, ...]:
    """Return every recording rule."""
    return (*_runs(), *_spend(), *_durations(), *_pipeline())


def _runs() -> list[Recording]:
    rules = []
    for window in RUN_WINDOWS:
        failed = growth(f'{_RUNS}{{status!="ok"}}', window)
        every = growth(_RUNS, window)
        rules.append(
            Recording(f"crewmeter:run_failure_ratio:rate{window}", f"{failed} / {every}"),
        )
    rules.extend(
        Recording(f"crewmeter:runs:increase{window}", growth(_RUNS, window))
        for window in ("1h", "6h", "3d")
    )
    calls = growth("crewmeter_run_calls_bucket", "15m", "name", "le")
    rules.append(Recording("crewmeter:run_calls_bucket:increase15m", calls))
    return rules


def _spend() -> list[Recording]:
    cached = growth(f'{_TOKENS}{{type="cache_read"}}', "1h", "model")
    fresh = growth(f'{_TOKENS}{{type="input"}}', "1h", "model")
    unpriced = growth("crewmeter_unpriced_calls_total", "1h", "provider", "model", "reason")
    return [
        Recording("crewmeter:cost_usd:increase1h", growth(COST, "1h")),
        Recording("crewmeter:cost_usd:increase1d", growth(COST, "1d")),
        Recording("crewmeter:cost_usd_by_crew:increase1h", growth(COST, "1h", "crew")),
        Recording(
            "crewmeter:tokens:increase15m", growth(f'{_TOKENS}{{type=~"input|output"}}', "15m")
        ),
        Recording("crewmeter:input_tokens:increase1h", fresh),
        Recording("crewmeter:cache_hit_ratio:increase1h", f"{cached} / ({fresh} > 0)"),
        Recording("crewmeter:unpriced_calls:increase1h", unpriced),
    ]


def _durations() -> list[Recording]:
    runs = growth(f'{_DURATION}{{operation="run"}}', "30m", "name", "le")
    calls = growth(f'{_DURATION}{{operation="llm"}}', "15m", "name", "le")
    first = growth("crewmeter_time_to_first_token_seconds_bucket", "15m", "model", "le")
    lag = growth("crewmeter_ledger_lag_seconds_bucket", "10m", "le")
    return [
        Recording("crewmeter:run_seconds_bucket:increase30m", runs),
        Recording("crewmeter:call_seconds_bucket:increase15m", calls),
        Recording("crewmeter:first_token_seconds_bucket:increase15m", first),
        Recording("crewmeter:ledger_lag_seconds_bucket:increase10m", lag),
    ]


def _pipeline() -> list[Recording]:
    refused = growth(f'{_SPANS}{{outcome="refused"}}', "10m", "instance")
    # Collector versions disagree on the suffix.
    names = [f'{{__name__=~"{name}(_total)?"}}' for name in _COLLECTOR_LOSSES]
    lost = [refused, *(growth(name, "10m", "instance") for name in names)]
    return [
        Recording("crewmeter:spans_lost:increase10m", " or ".join(lost)),
        Recording(
            "crewmeter:spans_stored:increase1h", growth(f'{_SPANS}{{outcome="stored"}}', "1h")
        ),
        Recording(
            "crewmeter:ledger_errors:increase10m",
            growth("crewmeter_ledger_errors_total", "10m", "instance"),
        ),
    ]
