"""Prometheus rules: each fires when it should, ends, and is quiet otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from support.boards import program
from support.paths import ROOT

from crewmeter_dashboards.prometheus_alerts import prometheus_alerts
from crewmeter_dashboards.thresholds import load

RULES = ROOT / "dashboards" / "prometheus"
ALERTS = {alert.name: alert for alert in prometheus_alerts(load())}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _bad_then_good(series: str, *, bad: str, good: str) -> dict[str, str]:
    return {"series": series, "values": f"{bad} {good}"}


# Each case: series with one sample a minute, when the alert must fire, and when it must be quiet
# again (or None: it never fires).
# `0+1x10` is 0, 1 … 10: eleven samples that grow by one.
_RUN = 'crewmeter_runs_total{name="triage",kind="crew",status="%s",instance="a"}'
_LLM = 'crewmeter_operation_duration_seconds_%s{operation="llm",name="m",status="ok"%s}'
_COST = 'crewmeter_cost_usd_total{provider="p",model="m",crew="c",team="t"}'
_TOKENS = 'crewmeter_tokens_total{provider="p",model="m",type="%s"}'
_UP = 'up{job="crewmeter",instance="a"}'


def _histogram(name: str, labels: str, fast: str, slow: str) -> list[dict[str, str]]:
    """Return bucket series whose observations move from below 1 s to above 100 s."""
    return [
        {"series": f'{name}_bucket{{{labels},le="1"}}', "values": fast},
        {"series": f'{name}_bucket{{{labels},le="1000"}}', "values": slow},
        {"series": f'{name}_bucket{{{labels},le="+Inf"}}', "values": slow},
        {"series": f"{name}_count{{{labels}}}", "values": slow},
    ]


def _jump(name: str, labels: str) -> list[dict[str, str]]:
    """Fast for an hour, slow for an hour, fast for two hours."""
    return _histogram(name, labels, "0+10x60 600x60 600+10x120", "0+10x240")


CASES: dict[str, tuple[list[dict[str, str]], str, str | None]] = {
    "CrewRunsFailingFast": (
        [
            {"series": _RUN % "ok", "values": "0+2x60 120x60 120+2x240"},
            {"series": _RUN % "error", "values": "0x60 0+2x60 120x240"},
        ],
        "100m",
        "300m",
    ),
    "CrewRunsFailing": (
        [
            {"series": _RUN % "ok", "values": "0+9x200 1800+9x1000"},
            {"series": _RUN % "error", "values": "0+1x200 200x1000"},
        ],
        "120m",
        "800m",
    ),
    "CrewRunsFailingSlowly": (
        [
            {"series": _RUN % "ok", "values": "0+98x500 49000+98x1000"},
            {"series": _RUN % "error", "values": "0+2x500 1000x1000"},
        ],
        "400m",
        "1400m",
    ),
    "CrewRunsSlow": (
        _jump("crewmeter_operation_duration_seconds", 'operation="run",name="triage",status="ok"'),
        "100m",
        "200m",
    ),
    "ModelCallsSlow": (
        _jump("crewmeter_operation_duration_seconds", 'operation="llm",name="m",status="ok"'),
        "100m",
        "200m",
    ),
    "FirstTokenSlow": (_jump("crewmeter_time_to_first_token_seconds", 'model="m"'), "100m", "200m"),
    "SpendPerHourHigh": (
        [{"series": _COST, "values": "0+0.1x60 6+2x60 126+0.1x180"}],
        "115m",
        "290m",
    ),
    "SpendUnusual": (
        [{"series": _COST, "values": "0+0.02x10080 201.6+0.4x60 225.6+0.02x300"}],
        "10135m",
        "10400m",
    ),
    "RunawayLoop": (
        _histogram(
            "crewmeter_run_calls", 'name="triage"', "0+1x60 60x20 60+1x60", "0+1x60 60+1x20 80+1x60"
        ),
        "75m",
        "110m",
    ),
    "TokenSpike": (
        [
            {
                "series": _TOKENS % "input",
                "values": "0+10000x1500 15000000+500000x30 30000000+10000x120",
            }
        ],
        "1525m",
        "1600m",
    ),
    "CacheHitsDropped": (
        [
            {"series": _TOKENS % "input", "values": "0+20000x3600"},
            {
                "series": _TOKENS % "cache_read",
                "values": "0+10000x1500 15000000x200 15000000+10000x1900",
            },
        ],
        "1640m",
        "1900m",
    ),
    "UnpricedCalls": (
        [
            {
                "series": "crewmeter_unpriced_calls_total"
                '{provider="p",model="new",reason="unknown_model"}',
                "values": "0x30 0+1x20 20x120",
            }
        ],
        "60m",
        "140m",
    ),
    "PricesStale": (
        [{"series": "crewmeter_price_book_age_seconds", "values": "4000000x100 60x100"}],
        "90m",
        "130m",
    ),
    "SidecarDown": ([{"series": _UP, "values": "1x10 0x10 1x20"}], "15m", "30m"),
    "TelemetryLost": (
        [
            {
                "series": 'crewmeter_ingest_spans_total{outcome="refused",instance="a"}',
                "values": "0x20 0+5x20 100x60",
            }
        ],
        "38m",
        "80m",
    ),
    "TelemetrySilent": (
        [
            # promtool's clock starts at 1970-01-01, so a timestamp is the sample's own minute in
            # seconds
            {
                "series": "crewmeter_ingest_last_span_timestamp_seconds",
                "values": "0+60x60 3600x40 6000+60x60",
            },
            {
                "series": 'crewmeter_ingest_spans_total{outcome="stored",instance="a"}',
                "values": "0+10x60 600x40 600+10x60",
            },
        ],
        "95m",
        "120m",
    ),
    "QueueFilling": (
        [
            {"series": 'crewmeter_ingest_queue_spans{instance="a"}', "values": "0x10 9000x20 0x20"},
            {"series": 'crewmeter_ingest_queue_capacity_spans{instance="a"}', "values": "10000x50"},
        ],
        "25m",
        "40m",
    ),
    "LedgerLagging": (_jump("crewmeter_ledger_lag_seconds", 'instance="a"'), "100m", "200m"),
    "LedgerFailing": (
        [{"series": 'crewmeter_ledger_errors_total{instance="a"}', "values": "0x10 0+1x10 10x60"}],
        "19m",
        "60m",
    ),
}
QUIET: dict[str, list[dict[str, str]]] = {
    "CrewRunsFailingFast": [
        {"series": _RUN % "ok", "values": "0x60 0+1x1 1x60"},
        {"series": _RUN % "error", "values": "0x60 0+1x2 2x60"},
    ],
    "SpendUnusual": [{"series": _COST, "values": "0+0.0001x10080 1.008+0.01x60 1.608+0.0001x60"}],
    "ModelCallsSlow": _histogram(
        "crewmeter_operation_duration_seconds",
        'operation="llm",name="m",status="ok"',
        "0x200",
        "0x90 0+1x5 5x105",
    ),
    "TelemetrySilent": [
        {"series": "crewmeter_ingest_last_span_timestamp_seconds", "values": "0x200"}
    ],
    "CacheHitsDropped": [
        {"series": _TOKENS % "input", "values": "0+10x2000"},
        {"series": _TOKENS % "cache_read", "values": "0+5x1500 7500x500"},
    ],
}
"""The same trouble with too little traffic behind it: nothing fires."""


_SCRAPED = {"series": _UP, "values": "1x240"}
_BIRTH = "_x90 %dx150"
BORN: dict[str, tuple[list[dict[str, str]], str]] = {
    "SpendPerHourHigh": (
        [
            {"series": f'{_COST[:-1]},instance="a",job="crewmeter"}}', "values": _BIRTH % 80},
        ],
        "100m",
    ),
    "RunawayLoop": (
        [
            {
                "series": "crewmeter_run_calls_bucket"
                f'{{name="triage",le="{le}",instance="a",job="crewmeter"}}',
                "values": _BIRTH % value,
            }
            for le, value in (("34.0", 0), ("987.0", 1), ("+Inf", 1))
        ],
        "95m",
    ),
    "CrewRunsFailingFast": (
        [
            {
                "series": (_RUN % "error").replace('"a"', '"a",job="crewmeter"'),
                "values": _BIRTH % 12,
            }
        ],
        "94m",
    ),
    "UnpricedCalls": (
        [
            {
                "series": "crewmeter_unpriced_calls_total"
                '{provider="p",model="new",reason="unknown_model",instance="a",job="crewmeter"}',
                "values": _BIRTH % 9,
            }
        ],
        "100m",
    ),
    "TelemetryLost": (
        [
            {
                "series": "crewmeter_ingest_spans_total"
                '{outcome="refused",instance="a",job="crewmeter"}',
                "values": _BIRTH % 40,
            }
        ],
        "97m",
    ),
    "TokenSpike": (
        [
            {
                "series": (_TOKENS % "input").replace('"m"', '"m",instance="a",job="crewmeter"'),
                "values": _BIRTH % 3_000_000,
            },
            {
                "series": (_TOKENS % "input").replace('"m"', '"n",instance="a",job="crewmeter"'),
                "values": "0+1000x240",
            },
        ],
        "100m",
    ),
    "LedgerFailing": (
        [
            {
                "series": 'crewmeter_ledger_errors_total{instance="a",job="crewmeter"}',
                "values": _BIRTH % 5,
            }
        ],
        "92m",
    ),
}
"""Series whose very first sample holds all there is to say: they never grow afterwards."""


def _promtool(
    tmp_path: Path, series: list[dict[str, str]], checks: list[tuple[str, str, bool]]
) -> None:
    """Run a rule test.

    Each check is (when, alert, must it fire). Firing is read from the series ALERTS, free of
    annotation texts.
    """
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0',
                    "eval_time": when,
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
                for when, alert, fires in checks
            ],
        }
    ]
    rules = _only(tmp_path, {alert for _, alert, _ in checks})
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    _run([program("promtool"), "test", "rules", str(path)])


def _only(tmp_path: Path, names: set[str]) -> Path:
    """The committed rules, without those that have no part in these alerts.

    A test over weeks of minutes evaluates each of them.
    """
    alerts = [
        rule for group in _groups("alerts.yml") for rule in group["rules"] if rule["alert"] in names
    ]
    expressions = " ".join(rule["expr"] for rule in alerts)
    recorded = [
        rule
        for group in _groups("recording.yml")
        for rule in group["rules"]
        if rule["record"] in expressions
    ]
    path = tmp_path / "rules.yml"
    path.write_text(
        yaml.safe_dump({"groups": [{"name": "under test", "rules": recorded + alerts}]}), "utf-8"
    )
    return path


def _groups(name: str) -> list[dict]:
    return yaml.safe_load((RULES / name).read_text("utf-8"))["groups"]


def test_every_alert_has_a_case():
    """A rule without a test is a guess."""
    assert set(CASES) == set(ALERTS)


# Their windows are days long, and promtool computes every minute of them.
_LONG = {"SpendUnusual", "CrewRunsFailingSlowly", "CacheHitsDropped"}


@pytest.mark.mostly_slow("SpendPerHourHigh", "CrewRunsFailing")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _LONG else [])
        for name in sorted(CASES)
    ],
)
def test_an_alert_fires_and_resolves(tmp_path, name):
    """Quiet before, firing during, quiet after the trouble."""
    series, fires, resolved = CASES[name]
    _promtool(tmp_path, series, [("0m", name, False), (fires, name, True), (resolved, name, False)])


@pytest.mark.mostly_slow("SpendUnusual")
@pytest.mark.parametrize("name", sorted(QUIET))
def test_an_alert_keeps_quiet_without_traffic(tmp_path, name):
    """One failed run of two, or a few cents, wakes nobody."""
    _promtool(tmp_path, QUIET[name], [(f"{minute}m", name, False) for minute in (30, 70, 100, 118)])


@pytest.mark.mostly_slow("TokenSpike")
@pytest.mark.parametrize("name", sorted(BORN))
def test_an_alert_fires_for_a_series_that_is_born_above_zero(tmp_path, name):
    """What a new crew, model or instance did before its first scrape counts."""
    series, fires = BORN[name]
    _promtool(tmp_path, [_SCRAPED, *series], [("60m", name, False), (fires, name, True)])


@pytest.mark.slow
def test_what_is_recorded_is_what_was_spent(tmp_path):
    """A new series counts once: its first value and what follows, however long the window."""
    series = [
        _SCRAPED,
        {"series": f'{_COST[:-1]},instance="a",job="crewmeter"}}', "values": "_x90 80x30 92x120"},
        {
            "series": f'{_COST[:-1].replace("c", "old")},instance="a",job="crewmeter"}}',
            "values": "5x240",
        },
    ]
    _recorded(tmp_path, series, "crewmeter:cost_usd:increase1h", {"100m": 80, "148m": 92})


RESTARTS = {
    "the sidecar restarts: old series begin again at their new totals": (
        "1x240",
        "500x100 2x140",
    ),
    "Prometheus is away for an hour and a half": ("1x60 _x90 1x90", "500x60 _x90 503x90"),
    "the network is away for an hour and a half": ("1x60 0x90 1x90", "500x60 _x90 503x90"),
    "a series is away after a restart until its next call": (
        "1x240",
        "500x60 _x40 2x140",
    ),
    "a new Prometheus meets an old sidecar": ("_x100 1x140", "_x100 500x140"),
}


@pytest.mark.mostly_slow("Prometheus is away for an hour and a half")
@pytest.mark.parametrize("case", RESTARTS)
def test_an_old_total_is_never_taken_for_a_jump(tmp_path, case):
    """An interruption of scrapes or of the sidecar does not wake anybody."""
    up, cost = RESTARTS[case]
    series = [
        {"series": _UP, "values": up},
        {"series": f'{_COST[:-1]},instance="a",job="crewmeter"}}', "values": cost},
    ]
    checks = [(f"{minute}m", "SpendPerHourHigh", False) for minute in range(70, 240, 10)]
    _promtool(tmp_path, series, checks)


def _recorded(
    tmp_path: Path, series: list[dict[str, str]], name: str, values: dict[str, float]
) -> None:
    """Check a recorded sum at several times."""
    checks = [
        {"expr": f"round({name})", "eval_time": when, "exp_samples": [{"labels": "{}", "value": v}]}
        for when, v in values.items()
    ]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
    document = {"rule_files": [str(RULES / "recording.yml")], "evaluation_interval": "1m"}
    path = tmp_path / "recorded.yml"
    path.write_text(yaml.safe_dump({**document, "tests": [test]}), "utf-8")
    _run([program("promtool"), "test", "rules", str(path)])


def test_rules_and_alertmanager_are_accepted_by_their_own_checkers():
    """Promtool check rules and amtool check-config."""
    _run(
        [
            program("promtool"),
            "check",
            "rules",
            str(RULES / "recording.yml"),
            str(RULES / "alerts.yml"),
        ]
    )
    _run([program("amtool"), "check-config", str(RULES / "alertmanager.yml")])


def test_pages_and_tickets_go_their_own_ways():
    """Amtool routes each severity to its receiver."""
    for severity in ("page", "ticket"):
        command = [
            program("amtool"),
            "config",
            "routes",
            "test",
            f"--config.file={RULES / 'alertmanager.yml'}",
        ]
        done = subprocess.run(
            [*command, "alertname=X", f"severity={severity}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert done.stdout.strip() == severity


def test_an_alert_says_statuses_and_providers_in_words(tmp_path):
    """Whoever reads the alert reads `provider sent no usage` at `AWS Bedrock`, not codes."""
    labels = {"provider": "aws.bedrock", "model": "new", "reason": "usage_missing"}
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
    series = {"series": f"crewmeter_unpriced_calls_total{{{inner}}}", "values": "0x30 0+1x60"}
    (rule,) = [
        rule
        for group in _groups("alerts.yml")
        for rule in group["rules"]
        if rule["alert"] == "UnpricedCalls"
    ]
    expected = {
        "summary": "30 calls to new have no known cost: provider sent no usage",
        "description": "They are of the last hour, provider AWS Bedrock, and are not included in "
        "any cost.",
        "runbook_url": rule["annotations"]["runbook_url"],
    }
    check = {
        "eval_time": "61m",
        "alertname": "UnpricedCalls",
        "exp_alerts": [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": expected}],
    }
    test = {"interval": "1m", "input_series": [series], "alert_rule_test": [check]}
    rules = _only(tmp_path, {"UnpricedCalls"})
    path = tmp_path / "words.yml"
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(yaml.safe_dump(document), "utf-8")
    _run([program("promtool"), "test", "rules", str(path)])
