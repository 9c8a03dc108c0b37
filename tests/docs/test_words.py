"""Texts that people read use the field's words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.paths import ROOT

from crewmeter_cost.formatting import COST_STATUS_TEXT, PROVIDER_TEXT, RUN_STATUS_TEXT
from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.words import WORDS
from crewmeter_dashboards.prometheus_alerts import prometheus_alerts
from crewmeter_dashboards.thresholds import load

# scripts/house.py looks for private words in every text; these are words of prose besides.
PROSE = (
    "dear|dearer|dearest|imaginary|mend|mends|mended|in no sum|pick a bar",
    "it can't know|the beginning to now|waste of failed runs|per 1,000 tokens|times of (5|five)",
)
RETIRED = re.compile(rf"\b({'|'.join(PROSE)})\b", re.IGNORECASE)
SOURCES = sorted(
    path
    for folder in ("cost/crewmeter_cost", "tracer/crewmeter", "dashboards/crewmeter_dashboards")
    for path in (ROOT / folder).rglob("*.py")
)


FOLDERS = (
    "docs/**/*.md",
    "*.md",
    "collector-config/*",
    "examples/**/*",
    "docker-compose.yml",
    ".env.example",
    "cost/crewmeter_cost/web/static/[!u]*.*",
    "dashboards/web/*.mjs",
    "dashboards/prometheus/*.yml",
)
FILES = sorted({path for pattern in FOLDERS for path in ROOT.glob(pattern) if path.is_file()})


def _retired(text: str) -> list[str]:
    return [
        f"{match[0]}: {text[max(0, match.start() - 40) : match.end() + 30]!r}"
        for match in RETIRED.finditer(text)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_uses_plain_words(path: Path):
    """Documents, comments of configurations and the page's own texts."""
    assert _retired(path.read_text("utf-8")) == []


def _texts(path: Path) -> list[str]:
    """Return the texts in a module that are no docstrings: what it may print."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [
        node.value for node in constants if isinstance(node.value, str) and id(node) not in docs
    ]


def test_messages_hints_and_help_use_plain_words():
    """Every text that a command, a log line or an error may print."""
    for path in SOURCES:
        assert _retired("\n".join(_texts(path))) == [], path


@pytest.mark.parametrize("panel", CATALOGUE.values(), ids=lambda panel: panel.id)
def test_a_panel_uses_plain_words(panel):
    """Title, description, headings and what an empty panel says."""
    texts = [panel.title, panel.description, panel.empty]
    texts += [column.title for column in panel.columns.values()]
    assert _retired("\n".join(texts)) == []


def test_alerts_use_plain_words_and_name_their_limit():
    """A text says what is wrong and by how much: a value, and the limit where there is one."""
    for alert in prometheus_alerts(load()):
        assert _retired(f"{alert.summary}\n{alert.description}") == []
        assert "times faster" not in alert.summary
        if alert.name != "SidecarDown":
            assert "$value" in alert.summary, alert.name
    for alert in ledger_alerts(load()):
        assert _retired(f"{alert.title}\n{alert.summary}") == []


def test_boards_and_commands_have_the_same_words_for_codes():
    """A status or a provider is called the same in Grafana, on the page and in a table."""
    for column, known in (
        ("status", RUN_STATUS_TEXT),
        ("cost_status", COST_STATUS_TEXT),
        ("provider", PROVIDER_TEXT),
    ):
        changed = {code: words for code, words in known.items() if code != words}
        assert WORDS[column] == changed
