"""The workflows that the owner's forge runs: complete, pinned, and with few rights."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from support.paths import ROOT
from support.shares import COSTS, SHARES, Share

WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def _jobs(name: str) -> dict:
    return yaml.safe_load(WORKFLOWS[name].read_text("utf-8"))["jobs"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_so(name):
    """The token of a push from anywhere can change nothing."""
    document = yaml.safe_load(WORKFLOWS[name].read_text("utf-8"))
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_and_program_has_a_version(name):
    """Tomorrow's run is today's."""
    for job in _jobs(name).values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", step["uses"]), step
            for requirement in re.findall(r"pip install ([a-z].*)", step.get("run", "")):
                assert all("==" in part for part in requirement.split()), requirement


def test_ci_covers_the_three_systems_and_the_whole_of_ci_run():
    """Linux runs everything; macOS and Windows run the fast tests."""
    jobs = _jobs("ci.yml")
    assert any(step.get("run") == ".ci/run" for step in jobs["everything"]["steps"])
    systems = jobs["fast"]["strategy"]["matrix"]["os"]
    assert [system.partition("-")[0] for system in systems] == ["ubuntu", "macos", "windows"]


def test_a_release_is_tried_attested_and_published_without_a_stored_token():
    """What is uploaded was installed and run, has a list of components, and needs an approval."""
    jobs = _jobs("release.yml")
    build = jobs["build"]["steps"]
    runs = " ".join(step.get("run", "") for step in build)
    uses = " ".join(step.get("uses", "") for step in build)
    assert "crewmeter report" in runs
    assert "cyclonedx" in runs
    assert "attest-build-provenance" in uses
    assert "attest-sbom" in uses
    for job in ("publish", "image"):
        assert jobs[job]["environment"] == "release"
        assert jobs[job]["needs"] == "build"
    secrets = re.findall(r"secrets\.(\w+)", WORKFLOWS["release.yml"].read_text("utf-8"))
    assert set(secrets) == {"GITHUB_TOKEN"}


def test_files_that_workflows_name_exist():
    """Scripts, constraints and folders are where the steps say."""
    for path in WORKFLOWS.values():
        text = path.read_text("utf-8")
        for name in re.findall(r"(?:scripts|\.ci|dashboards)/[\w./-]+|constraints\.txt", text):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_every_slow_test_has_its_turn():
    """The shares of CI have each file once, and a release runs all of them."""
    files = [str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")]
    shares = [Share.read(f"{turn}/{SHARES}") for turn in range(1, SHARES + 1)]
    assert all(sum(share.has(file) for share in shares) == 1 for file in files)
    assert all(map(Share.read("all").has, files))
    for text in ("0/3", "4/3", "three"):
        with pytest.raises(ValueError, match=text):
            Share.read(text)


def test_shares_of_slow_tests_cost_about_the_same():
    """By recorded seconds, of files that exist. A file is never divided."""
    costs = json.loads(COSTS.read_text("utf-8"))
    assert all((ROOT / file).is_file() for file in costs)
    sums = [
        sum(costs[file] for file in costs if Share(turn, SHARES).has(file))
        for turn in range(1, SHARES + 1)
    ]
    assert max(sums) - min(sums) <= max(costs.values())


def test_ci_knows_how_many_shares_there_are():
    """The commit's id chooses among all of them."""
    assert f"% {SHARES} + 1))/{SHARES}" in (ROOT / ".ci/run").read_text("utf-8")
