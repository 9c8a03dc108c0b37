"""Checks that need npm's packages: Grafana's own types and the vendored chart library."""

from __future__ import annotations

import subprocess

import pytest
from support.boards import program
from support.paths import ROOT

WEB = ROOT / "dashboards" / "web"

pytestmark = [pytest.mark.services]


def _node(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not (WEB / "node_modules").is_dir():
        pytest.skip("npm packages are not installed: npm ci --prefix dashboards/web")
    return subprocess.run(
        [program("node"), *arguments],
        cwd=WEB,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
def test_boards_compile_against_grafanas_types():
    """What the JSON schema lets through, the types of @grafana/schema may not."""
    done = _node("types.mjs")
    assert done.returncode == 0, done.stdout[:3000] + done.stderr[:1000]
    assert "15 boards compile" in done.stdout


def test_the_vendored_chart_library_is_the_one_npm_gives():
    """Nobody edited the copy, and its licence stands beside it."""
    done = _node("vendor.mjs", "--check")
    assert done.returncode == 0, done.stderr
