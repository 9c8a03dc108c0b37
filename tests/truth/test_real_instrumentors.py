"""Two released instrumentors on one call: one bill, whatever their spans have in common."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from truth.sidecar_process import exported, running_sidecar

from crewmeter_cost.demo.fake_provider import FakeProvider
from crewmeter_cost.pricing.charge_result import EXACT

FOLDER = Path(__file__).parent / "instrumentors"
INSTALL_SECONDS = 900
RUN_SECONDS = 300
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python():
    """The interpreter of an environment with the instrumentors, made once for their versions."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv makes the environment")
    requirements = FOLDER / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "crewmeter-tests" / f"instrumentors-{digest}"
    if not (folder / "done").exists():
        install = ["pip", "install", "--quiet", "--python", str(folder), "-r", str(requirements)]
        for command in (["venv", "--quiet", "--clear", str(folder)], install):
            done = subprocess.run(
                [uv, *command], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
            if done.returncode:
                pytest.skip(f"the instrumentors cannot be installed: {done.stderr[-500:]}")
        (folder / "done").touch()
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    """A sidecar's URL and its ledger."""
    folder = tmp_path_factory.mktemp("instrumentors")
    ledger = f"sqlite:///{folder}/spans.db"
    with running_sidecar(ledger, folder) as url:
        yield url, ledger


WAYS = {
    "langchain-openai": 1,
    "langchain-openai-stream": 1,
    "langchain-claude": 1,
    "openai-agents": 1,
    "logfire-stream": 1,
    "two-alike": 2,
}


@pytest.mark.parametrize("way", WAYS)
def test_one_call_under_two_instrumentors_is_one_bill(python, sidecar, way):
    """Each exchange that the provider billed is one row with its counts and an exact price."""
    url, ledger = sidecar
    before = {row["span_id"] for row in exported(ledger)} if Path(ledger[10:]).exists() else set()
    with FakeProvider() as provider:
        done = subprocess.run(
            [str(python), str(FOLDER / "app.py"), way, provider.url, url],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        billed = [(entry.usage.input, entry.usage.output) for entry in provider.billing_log.billed]
    rows = [row for row in exported(ledger) if row["span_id"] not in before]
    assert len(billed) == WAYS[way]
    assert sorted((row["input_tokens"], row["output_tokens"]) for row in rows) == sorted(billed)
    assert {row["cost_status"] for row in rows} <= EXACT
