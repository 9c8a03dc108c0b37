"""Folders of the project that tests read from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
APPS = TESTS / "e2e/apps"
SPAN_FIXTURES = TESTS / "cost/intake/fixtures"
SCHEMAS = TESTS / "dashboards/schemas"
