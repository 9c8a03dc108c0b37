"""The wheel and the sdist.

What is in them, and that a stranger's fresh environment can use them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

from crewmeter_cost.compose_stack.stack_files import FOLDERS, SINGLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_everything_and_nothing_else(wheel):
    """Three packages, their types and data, the license.

    No test, no script of the repository, no cache.
    """
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "crewmeter",
        "crewmeter_cost",
        "crewmeter_dashboards",
    }
    for package in ("crewmeter", "crewmeter_cost", "crewmeter_dashboards"):
        assert f"{package}/py.typed" in names
    sources = {
        path.relative_to(ROOT / root).as_posix()
        for root in ("tracer", "cost", "dashboards")
        for path in (ROOT / root).rglob("*")
        if path.is_file()
        and "crewmeter" in path.relative_to(ROOT / root).parts[0]
        and "__pycache__" not in path.parts
    }
    assert sources <= names, "a module or data file is missing"
    assert not [
        name for name in names if "tests/" in name or "__pycache__" in name or name.endswith(".pyc")
    ]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5_000_000


def test_the_wheel_has_the_stack(wheel):
    """`crewmeter stack init` finds every file of the stack in an installed wheel."""
    names = names_in(wheel)
    for single in SINGLE:
        assert f"crewmeter_cost/compose_stack/files/{single}" in names
    for folder in FOLDERS:
        package, _, rest = folder.partition("/")
        home = (
            f"crewmeter_dashboards/rendered/{rest}"
            if package in ("dashboards", "docs")
            else f"crewmeter_cost/compose_stack/files/{folder}"
        )
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"{home}/{path.relative_to(ROOT / folder).as_posix()}" in names


def test_the_sdist_builds_the_same(built):
    """The sdist carries what a distributor needs.

    Sources, configurations, tests, and the license.
    """
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for wanted in (
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "docker-compose.yml",
        "collector-config/gateway.yaml",
        "tests/conftest.py",
    ):
        assert wanted in names
    assert not [
        name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/"))
    ]


class Fresh:
    """A new virtual environment with the wheel in it."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        self.bin = folder / "venv/bin"
        venv.create(folder / "venv", with_pip=True)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CREWMETER_", "OTEL_", "PYTHON"))
        }
        self.environment |= {"HOME": str(folder), "CREWMETER_LEDGER": str(folder / "ledger.db")}
        home = os.environ.get("XDG_CACHE_HOME")
        pip = [
            self.bin / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            ROOT / "constraints.txt",
            f"{wheel}{extras}",
        ]
        environment = self.environment | ({"PIP_CACHE_DIR": f"{home}/pip"} if home else {})
        done = subprocess.run(
            pip, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the checkout."""
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            env=self.environment | environment,
            cwd=self.bin,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="session")
def bare(tmp_path_factory, wheel) -> Fresh:
    """The wheel without extras: no CrewAI."""
    return Fresh(tmp_path_factory.mktemp("bare"), wheel, "")


def test_the_bare_wheel_prices_reports_and_writes_a_stack(bare, tmp_path):
    """Without CrewAI and without extras the command line prices, reports, and writes the stack."""
    price = bare.run(
        "crewmeter",
        "price",
        "gpt-4o-mini",
        "--input",
        "1000",
        "--output",
        "500",
        "--format",
        "json",
    )
    assert price.returncode == 0, price.stderr
    assert json.loads(price.stdout)["cost_usd"] == "0.00045"
    stack = bare.run("crewmeter", "stack", "init", str(tmp_path / "stack"))
    assert stack.returncode == 0, stack.stderr
    assert (tmp_path / "stack/docker-compose.yml").is_file()
    assert (
        bare.run(
            "python", "-c", "import crewmeter, crewmeter_cost, crewmeter_dashboards"
        ).returncode
        == 0
    )


def test_the_bare_wheel_says_what_is_missing(bare):
    """A command that needs an extra says how this wheel is installed with it; no traceback."""
    for command, extra in (
        (("demo",), "crewai"),
        (("serve", "--http-port", "0"), "sidecar"),
    ):
        done = bare.run("crewmeter", *command)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert f".whl[{extra}]'" in done.stderr, done.stderr


def test_the_demo_runs_from_the_wheel(tmp_path_factory, wheel):
    """What the README promises to somebody who typed `pip install crewmeter[crewai]`."""
    fresh = Fresh(tmp_path_factory.mktemp("fresh"), wheel, "[crewai]")
    demo = fresh.run(
        "crewmeter",
        "demo",
        CREWAI_DISABLE_TELEMETRY="true",
        CREWAI_TRACING_ENABLED="false",
        CREWAI_TESTING="true",
    )
    assert demo.returncode == 0, demo.stderr[-3000:]
    assert "no key" in demo.stdout.lower(), demo.stdout
