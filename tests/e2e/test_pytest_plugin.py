"""`pytest --crewmeter`: cost per test, limits by mark, a baseline that the gate reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.demo.fake_provider import FakeProvider, Reply

pytestmark = pytest.mark.slow

TESTS = """
import os
import pytest
from crewai import LLM

@pytest.fixture
def llm():
    return LLM(model="openai/gpt-4o", base_url=os.environ["FAKE_PROVIDER"], api_key="none")

@pytest.mark.crewmeter(max="0.05 USD")
def test_within(llm):
    llm.call("one")

@pytest.mark.crewmeter(max="0.01 USD")
def test_over(llm):
    llm.call("one")
    llm.call("two")

@pytest.mark.crewmeter(max_calls=1)
def test_too_many(llm):
    llm.call("one")
    llm.call("two")

@pytest.mark.crewmeter(max=1)
def test_unpriced():
    LLM(model="openai/gpt-none", base_url=os.environ["FAKE_PROVIDER"], api_key="none").call("x")

def test_without_calls():
    pass
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One metered pytest run in a process of its own: its output, JUnit file and baseline."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "test_crew.py").write_text(TESTS)
    # 2,000 tokens in and 100 out cost $0.006 on gpt-4o.
    reply = Reply(text="done", usage=TokenUsage(input=2000, output=100))
    words = [
        "-p",
        "crewmeter_cost.integrations.pytest_plugin",
        "-p",
        "no:cacheprovider",
        "--crewmeter",
    ]
    words += ["--crewmeter-baseline", "baseline.json", "--junitxml", "junit.xml", "-q"]
    with FakeProvider(lambda _prompt: reply) as fake_provider:
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment["FAKE_PROVIDER"] = fake_provider.base_url()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    return folder, done


def test_a_test_over_its_limit_fails(session):
    """Only the tests over their limit fail, and the reason names cost, calls and limit."""
    _, done = session
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 2 passed" in done.stdout
    assert "model calls cost $0.012 (2 calls), over max='0.01 USD'" in done.stdout
    assert "2 model calls, over max_calls=1" in done.stdout
    assert "1 call without a price, so max=1 cannot be checked" in done.stdout


def test_costs_are_printed_per_test(session):
    """The summary has each test that called a model, and the sum."""
    _, done = session
    assert "crewmeter: cost per test" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "test_crew.py::" in line]
    costs = {line[-1].rpartition("::")[2]: line[0] for line in lines if line[0].startswith("$")}
    assert costs == {"test_within": "$0.006", "test_over": "$0.012", "test_too_many": "$0.012"}
    assert "$0.03*    6 calls  in 4 tests" in done.stdout


def test_the_baseline_and_junit_have_the_same_figures(session):
    """The baseline is one that `crewmeter gate` reads; JUnit has the figures as properties."""
    folder, _ = session
    baseline = json.loads((folder / "baseline.json").read_text())
    assert baseline["totals"]["cost_usd"] == "0.03"
    assert baseline["totals"]["calls"] == 6
    assert baseline["tests"]["test_crew.py::test_over"]["cost_usd"] == "0.012"
    properties = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.iter("property")}
        for case in ET.parse(folder / "junit.xml").iter("testcase")
    }
    assert properties["test_within"]["crewmeter_cost_usd"] == "0.006"
    assert properties["test_within"]["crewmeter_calls"] == "1"
