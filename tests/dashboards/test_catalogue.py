"""The catalogue: each panel once, said well, and naming only what exists."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import inspect
from support.paths import ROOT

from crewmeter import semconv
from crewmeter_cost.ledger.schema.rollup_dimensions import LATENCY
from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.panel import Kind
from crewmeter_dashboards.prometheus_alerts import prometheus_alerts
from crewmeter_dashboards.prometheus_recordings import recordings
from crewmeter_dashboards.sql_dialects import for_page
from crewmeter_dashboards.sql_sources import FILTERS, LATENCY_CODES, Dialect, tokens_of
from crewmeter_dashboards.thresholds import load

RUNBOOKS = ROOT / "docs" / "runbooks"
_SUFFIXES = ("_bucket", "_count", "_sum")


def _metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:crewmeter|otelcol)_[a-z_]+", expression))


def _known_metrics() -> set[str]:
    return {value for name, value in vars(semconv).items() if name.startswith("PROM_")}


def _base(metric: str) -> str:
    return next(
        (metric.removesuffix(suffix) for suffix in _SUFFIXES if metric.endswith(suffix)), metric
    )


def test_every_panel_stands_on_a_board():
    """A panel nobody shows is a panel nobody keeps right."""
    assert {panel.id for board in BOARDS for panel in board.panels} == set(CATALOGUE)


def test_every_panel_has_exactly_one_kind_of_query():
    """SQL or PromQL, never both and never neither."""
    for panel in CATALOGUE.values():
        assert bool(panel.sql) != bool(panel.promql), panel.id


def test_every_panel_says_what_it_tells_what_to_do_and_where_it_looks():
    """Text, source and what to do when it is empty."""
    for panel in CATALOGUE.values():
        assert all(
            len(text) >= 9 for text in (panel.tells, panel.act, panel.source, panel.empty)
        ), panel.id
        assert panel.description.count("\n\n") == 2


def test_tables_name_every_column():
    """A table column without a heading or unit is a riddle."""
    for panel in CATALOGUE.values():
        if panel.kind is Kind.TABLE:
            assert panel.columns
            assert all(column.unit is not None for column in panel.columns.values()), panel.id


def test_queries_use_known_tokens_only():
    """Every token is rendered in every dialect.

    What is left over would reach a database.
    """
    for panel in CATALOGUE.values():
        for dialect in Dialect:
            assert "@" not in for_page(panel.sql or "", dialect)
    assert tokens_of("SELECT @from, '@' || @model") == {"from", "model"}


def test_boards_offer_the_filters_their_panels_obey():
    """Environment, service, crew, agent, model, provider and team all work somewhere."""
    assert {name for board in BOARDS for name in board.filters} == set(FILTERS)


def test_every_metric_a_panel_or_rule_names_exists():
    """A renamed metric must break this test, not a dashboard."""
    expressions = [text for panel in CATALOGUE.values() for text in panel.promql.values()]
    expressions += [rule.expr for rule in recordings()] + [
        alert.expr for alert in prometheus_alerts(load())
    ]
    named = {
        _base(metric)
        for text in expressions
        for metric in _metrics_in(text)
        if metric.startswith("crewmeter_")
    }
    assert named <= _known_metrics(), named - _known_metrics()


def test_recorded_names_used_by_alerts_are_recorded():
    """An alert on a rule nobody records never fires."""
    recorded = {rule.record for rule in recordings()}
    used = {
        name
        for alert in prometheus_alerts(load())
        for name in re.findall(r"crewmeter:[a-z_:]+\w*", alert.expr)
    }
    assert used
    assert used <= recorded


@pytest.mark.mostly_slow("sqlite")
def test_every_view_a_panel_names_exists(ledger):
    """The text behind the info sign names views that are there."""
    views = set(inspect(ledger.engine).get_view_names())
    for panel in CATALOGUE.values():
        if panel.sql:
            named = set(
                re.findall(
                    r"\b(?:calls|runs|steps|[a-z_]+_hourly)\b",
                    re.findall(r"view[s]? ([^(]*)", panel.source)[0],
                )
            )
            assert named, panel.id
            assert named <= views, panel.id
            assert any(name in panel.sql for name in named), panel.id


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    """The link in an alert leads somewhere, and no page is left over."""
    wanted = {alert.runbook for alert in prometheus_alerts(load())} | {
        alert.runbook for alert in ledger_alerts(load())
    }
    written = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert wanted == written
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    for alert in prometheus_alerts(load()):
        assert alert.name in index
    for path in re.findall(
        r"docs/runbooks/([a-z-]+)\.md", "".join(panel.description for panel in CATALOGUE.values())
    ):
        assert path in written


def test_codes_of_latency_counts_are_the_ledgers():
    """Panels name a dimension of the latency counts by the ledger's own code."""
    assert LATENCY_CODES.items() <= LATENCY.items()
