"""The composite Action's script, run as a workflow runs it, on recorded answers of a provider.

A change that makes a crew call its model twice as often is stopped, without a call to anybody.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vcr") is None, reason="needs the PyPI package vcrpy"),
]

SCRIPT = ROOT / "examples/github-action/gate.sh"
ANSWER = {
    "id": "chatcmpl-recorded",
    "object": "chat.completion",
    "created": 1764000000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "done", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100},
    "service_tier": "default",
}
"""2,000 tokens in and 100 out cost $0.006 on gpt-4o."""
CASSETTE = {
    "version": 1,
    "interactions": [
        {
            "request": {
                "method": "POST",
                "uri": "https://api.openai.com/v1/chat/completions",
                "body": "{}",
                "headers": {},
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": {"content-type": ["application/json"]},
                "body": {"string": json.dumps(ANSWER)},
            },
        }
    ],
}
TESTS = """
import os
import vcr
from crewai import LLM

recorded = vcr.VCR(record_mode="none", match_on=["method", "host", "path"], serializer="json")

@recorded.use_cassette("answers.json", allow_playback_repeats=True)
def test_crew():
    llm = LLM(model="openai/gpt-4o", api_key="none")
    for _ in range(int(os.environ["LOOPS"])):
        assert llm.call("next step?") == "done"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with one test on recorded answers, and the baseline of its main branch."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tests").mkdir()
    (folder / "tests/test_crew.py").write_text(TESTS)
    (folder / "answers.json").write_text(json.dumps(CASSETTE))
    baseline = ["--crewmeter", "--crewmeter-ledger", "main.db"]
    baseline += ["--crewmeter-baseline", "baseline.json", "-q", "tests"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *baseline],
        cwd=folder,
        env=environment(2),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def environment(loops: int, **more: str) -> dict[str, str]:
    """Return the environment of a workflow's step."""
    binaries = str(Path(sys.executable).parent)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LOOPS": str(loops), **more}


def gated(project: Path, loops: int) -> subprocess.CompletedProcess[str]:
    """Run the Action's script on a version of the crew that calls its model so many times."""
    (project / "summary.md").unlink(missing_ok=True)
    step = environment(
        loops,
        BASELINE="baseline.json",
        LIMITS="cost +10%\ncalls +0\n",
        TESTS="tests",
        GITHUB_STEP_SUMMARY="summary.md",
    )
    return subprocess.run(
        ["bash", str(SCRIPT)], cwd=project, env=step, capture_output=True, text=True, timeout=300
    )


def test_recorded_answers_cost_what_they_would_have_been_billed(project):
    """Played from a cassette, each answer is charged as the provider would have charged it."""
    command = [str(Path(sys.executable).parent / "crewmeter"), "report", "--format", "json"]
    done = subprocess.run(
        [*command, "--ledger", str(project / "main.db")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    total = json.loads(done.stdout)["total"]
    assert (total["calls"], total["cost_usd"], total["unpriced_calls"]) == (2, "0.012", 0)


def test_the_same_crew_passes(project):
    """As many calls as on the main branch: exit 0."""
    done = gated(project, loops=2)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_crew_that_loops_twice_as_often_is_stopped(project):
    """Twice the calls: exit 1, and the pull request's summary names what is exceeded."""
    done = gated(project, loops=4)
    assert done.returncode == 1, done.stdout + done.stderr
    summary = (project / "summary.md").read_text("utf-8")
    assert "cost" in summary
    assert "calls" in summary
    assert "0.024" in summary
