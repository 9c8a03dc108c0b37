"""The documentation site builds, and its generated pages are current."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from support.paths import ROOT

RENDER = ROOT / "scripts/render_docs.py"


def _script():
    spec = importlib.util.spec_from_file_location("render_docs", RENDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current():
    """Commands, variables, attributes and metrics in the reference are those of the source."""
    command = [sys.executable, str(RENDER), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_environment_variable_is_described():
    """A variable that the source reads has its row, and no row is of one that nothing reads."""
    script = _script()
    assert script.variables_in_source() <= set(script.ENVIRONMENT)


def test_the_site_builds_strictly(tmp_path):
    """No broken link, no page that the navigation names and nobody wrote."""
    pytest.importorskip("material", reason="needs the extra docs (mkdocs-material)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_projects_addresses_are_the_same_everywhere():
    """Site, runbooks and package metadata name the same documentation."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    thresholds = (ROOT / "dashboards/crewmeter_dashboards/thresholds.toml").read_text("utf-8")
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert site["site_url"] == urls["Documentation"]
    assert f'runbooks = "{urls["Documentation"]}runbooks/"' in thresholds


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_front_page_lead_somewhere(path):
    """Every relative link of the files beside the source is of a file that exists."""
    text = (ROOT / path).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), f"{path} links to {target}"
