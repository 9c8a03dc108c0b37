"""Panels about the meter itself: arrival of spans and freshness of prices."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.palette import BAD, GOOD, WARN
from crewmeter_dashboards.panels.panel import EMPTY_LIVE, Column, Kind, Panel, Step, Unit
from crewmeter_dashboards.panels.queries import over_time

__all__ = ["PANELS"]

_EMPTY_COLLECTOR = (
    "No collector is scraped. With collector-config/ running, let Prometheus scrape its port 8888."
)
_QUEUE_STEPS = (Step(0, GOOD), Step(0.5, WARN), Step(0.8, BAD))

_LEDGER = (
    Panel(
        id="ledger_hour",
        title="Ledger, last hour",
        tells="Calls in the ledger that started in the last hour.",
        act="Must agree with the metrics beside it, up to calls still on their way.",
        source="view calls",
        kind=Kind.STAT,
        unit=Unit.COUNT,
        sql="SELECT COUNT(*) AS calls FROM calls WHERE time >= @now - 3600",
    ),
    Panel(
        id="services",
        title="Services",
        tells="Which services sent calls in the range, how many, and when last.",
        act="A service that stopped sending while it runs lost its telemetry: crewmeter doctor on "
        "its host.",
        source="view service_hourly (calls up to 3 h)",
        kind=Kind.TABLE,
        unit=Unit.COUNT,
        columns={
            "service": Column("Service", Unit.TEXT),
            "environment": Column("Environment", Unit.TEXT),
            "calls": Column("Calls", Unit.COUNT, bar=True),
            "unpriced": Column("Unpriced", Unit.COUNT, steps=(Step(0, GOOD), Step(1, WARN))),
            "last_hour": Column("Last seen (hour)", Unit.TIME),
        },
        sql=(
            f"WITH facts AS ({sql_sources.SERVICE.rows('calls', 'unpriced_calls')})\n"
            "SELECT COALESCE(service, '(none)') AS service, COALESCE(environment, '(none)') AS "
            "environment, SUM(calls) AS calls,\n"
            "  SUM(unpriced_calls) AS unpriced, MAX(time) AS last_hour\n"
            "FROM facts GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50"
        ),
    ),
    Panel(
        id="calls_by_service",
        title="Calls stored by service",
        tells="Calls that reached the ledger per bucket, by service.",
        act="A gap in one colour is a lost service, a gap in all of them a lost pipeline.",
        source="view service_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="service",
        sql=over_time(sql_sources.SERVICE.rows("calls"), "service", "SUM(calls)", "calls"),
    ),
    Panel(
        id="cost_status",
        title="How calls were priced",
        tells="Calls per bucket by cost status: priced, reported by the provider, declared free, "
        "or why there is no price.",
        act="Growth of anything but priced: a new model name. Run crewmeter prices check.",
        source="view cost_status_hourly (calls up to 3 h)",
        kind=Kind.STACK,
        unit=Unit.COUNT,
        series="cost_status",
        sql=over_time(sql_sources.COST_STATUS.rows("calls"), "cost_status", "SUM(calls)", "calls"),
    ),
)


def _live(  # one call a metric below: keyword arguments would drown the text
    panel_id: str,
    title: str,
    tells: str,
    act: str,
    metric: str,
    kind: Kind,
    unit: Unit,
    promql: dict[str, str],
    *steps: Step,
) -> Panel:
    empty = _EMPTY_COLLECTOR if metric.startswith("otelcol") else EMPTY_LIVE
    return Panel(
        id=panel_id,
        title=title,
        tells=tells,
        act=act,
        source=f"metric {metric}",
        kind=kind,
        unit=unit,
        promql=promql,
        steps=steps,
        empty=empty,
    )


_STATS = (
    _live(
        "metrics_hour",
        "Metrics, last hour",
        "Calls the sidecar counted in the last hour.",
        "Far from the ledger beside it: spans arrive late, or another writer feeds the ledger.",
        "crewmeter_llm_calls_total",
        Kind.STAT,
        Unit.COUNT,
        {"calls": "sum(increase(crewmeter_llm_calls_total[1h]))"},
    ),
    _live(
        "ledger_lag",
        "Ledger lag",
        "95th percentile time from a span's end to its commit in the ledger, over ten minutes.",
        "Above a minute: docs/runbooks/ledger-lag.md.",
        "crewmeter_ledger_lag_seconds",
        Kind.STAT,
        Unit.SECONDS,
        {
            "lag": "histogram_quantile(0.95, sum by (le) "
            "(rate(crewmeter_ledger_lag_seconds_bucket[10m])))"
        },
        Step(0, GOOD),
        Step(30, WARN),
        Step(120, BAD),
    ),
    _live(
        "last_span",
        "Last span",
        "Time since the sidecar received its newest span.",
        "Old while crews run: docs/runbooks/telemetry-loss.md.",
        "crewmeter_ingest_last_span_timestamp_seconds",
        Kind.STAT,
        Unit.SECONDS,
        {"age": "time() - max(crewmeter_ingest_last_span_timestamp_seconds > 0)"},
        Step(0, GOOD),
        Step(900, WARN),
        Step(3600, BAD),
    ),
    _live(
        "queue_fill",
        "Queue",
        "How full the sidecar's queue is.",
        "Above 80 % it will soon push back: docs/runbooks/queue-full.md.",
        "crewmeter_ingest_queue_spans and crewmeter_ingest_queue_capacity_spans",
        Kind.STAT,
        Unit.SHARE,
        {"fill": "max(crewmeter_ingest_queue_spans / crewmeter_ingest_queue_capacity_spans)"},
        *_QUEUE_STEPS,
    ),
    _live(
        "price_age",
        "Price book age",
        "Age of the price data in use.",
        "Older than 30 days: crewmeter prices update, or a newer crewmeter; "
        "docs/runbooks/stale-prices.md.",
        "crewmeter_price_book_age_seconds",
        Kind.STAT,
        Unit.SECONDS,
        {"age": "max(crewmeter_price_book_age_seconds)"},
        Step(0, GOOD),
        Step(30 * 86400, WARN),
        Step(60 * 86400, BAD),
    ),
)

_SIDECAR = (
    _live(
        "ingest",
        "Spans received",
        "Spans per second by what became of them: stored, duplicate, ignored, refused.",
        "Refused or failed above zero is loss: docs/runbooks/telemetry-loss.md.",
        "crewmeter_ingest_spans_total",
        Kind.LINES,
        Unit.PER_SECOND,
        {"{{outcome}}": "sum by (outcome) (rate(crewmeter_ingest_spans_total[$__rate_interval]))"},
    ),
    _live(
        "write_time",
        "Ledger write p95",
        "95th percentile time of one commit to the ledger.",
        "Climbing: the disk is busy or the file has outgrown it; docs/runbooks/ledger-lag.md.",
        "crewmeter_ledger_write_seconds",
        Kind.LINES,
        Unit.SECONDS,
        {
            "p95": "histogram_quantile(0.95, sum by (le) "
            "(rate(crewmeter_ledger_write_seconds_bucket[$__rate_interval])))"
        },
    ),
    _live(
        "ledger_errors",
        "Ledger errors",
        "Failed writes per minute; the batch stays with its sender, who retries.",
        "Any: read the sidecar's log; a full disk and a locked file are the usual two.",
        "crewmeter_ledger_errors_total",
        Kind.LINES,
        Unit.PER_MINUTE,
        {"errors": "60 * sum(rate(crewmeter_ledger_errors_total[$__rate_interval]))"},
    ),
    _live(
        "unpriced_live",
        "Unpriced calls, live",
        "Calls without a price per minute, by model and reason.",
        "docs/runbooks/unpriced-calls.md.",
        "crewmeter_unpriced_calls_total",
        Kind.LINES,
        Unit.PER_MINUTE,
        {
            "{{model}} {{reason}}": "60 * sum by (model, reason) "
            "(rate(crewmeter_unpriced_calls_total[$__rate_interval]))"
        },
    ),
)


def _collector_rate(counter: str, label: str | None = None) -> str:
    """Return the rate of a collector span counter, in all or by a label.

    Collector versions disagree on the suffix ``_total``.
    """
    by = f" by ({label}) " if label else ""
    selector = f'{{__name__=~"otelcol_{counter}_spans(_total)?"}}'
    return f"sum{by}(rate({selector}[$__rate_interval]))"


_COLLECTOR = (
    _live(
        "collector_queue",
        "Collector queues",
        "How full each exporter's queue is.",
        "Above 80 %: the back end behind it is slow or down; docs/runbooks/queue-full.md.",
        "otelcol_exporter_queue_size and otelcol_exporter_queue_capacity",
        Kind.LINES,
        Unit.SHARE,
        {
            "{{exporter}}": "max by (exporter) (otelcol_exporter_queue_size / "
            "otelcol_exporter_queue_capacity)"
        },
    ),
    _live(
        "collector_refused",
        "Collector: refused and failed spans",
        "Spans per second that receivers refused or exporters could not hand on.",
        "Above zero for minutes is loss: docs/runbooks/telemetry-loss.md.",
        "otelcol_receiver_refused_spans, otelcol_exporter_send_failed_spans and "
        "otelcol_exporter_enqueue_failed_spans",
        Kind.LINES,
        Unit.PER_SECOND,
        {
            "refused {{receiver}}": _collector_rate("receiver_refused", "receiver"),
            "send failed {{exporter}}": _collector_rate("exporter_send_failed", "exporter"),
            "not queued {{exporter}}": _collector_rate("exporter_enqueue_failed", "exporter"),
        },
    ),
    _live(
        "collector_sent",
        "Collector: spans in and out",
        "Spans per second accepted from apps and sent to each back end.",
        "The ledger's line must follow the accepted one; the trace back end's may be lower, it is "
        "sampled.",
        "otelcol_receiver_accepted_spans and otelcol_exporter_sent_spans",
        Kind.LINES,
        Unit.PER_SECOND,
        {
            "accepted": _collector_rate("receiver_accepted"),
            "sent {{exporter}}": _collector_rate("exporter_sent", "exporter"),
        },
    ),
)

PANELS = (*_STATS, *_LEDGER, *_SIDECAR, *_COLLECTOR)
