"""The newest SDKs, which CrewAI's pins keep out of every other environment here.

They speak httpx2. An environment of their own is made by uv once, and again when the list of what
is in it changes; ``scripts/try-newest.sh`` removes it to get newer ones.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.app import run_app
from support.invoice import billed_lines, ledger_lines
from support.paths import ROOT

from crewmeter_cost.demo.fake_provider import FakeProvider

pytestmark = pytest.mark.slow

SDKS = (
    "openai[bedrock]>=3.57",
    "anthropic>=2.14",
    "google-genai>=3.6",
    "mistralai>=3.7",
    "mcp>=2.3",
)
EXTRAS = ("uvicorn>=0.34",)
WAYS = (
    "openai_sync",
    "openai_async",
    "openai_background",
    "openai_bedrock",
    "anthropic_sync",
    "anthropic_async",
    "gemini_sync",
    "gemini_async",
    "mistral_sync",
    "mistral_async",
    "mcp_tool",
    "aliased",
)
APP = Path(__file__).with_name("apps") / "newest_sdks.py"


def environment_of(requirements: tuple[str, ...]) -> Path:
    """The folder of an environment, named by what is in it."""
    wanted = "\n".join((sys.version, *requirements, (ROOT / "pyproject.toml").read_text("utf-8")))
    key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "crewmeter" / "newest-sdks" / key


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of an environment with the SDKs and this project, editable."""
    home = environment_of((*SDKS, *EXTRAS))
    interpreter = home / "bin/python"
    uv = str(Path(sys.executable).with_name("uv"))
    complete = home / "complete"
    if not complete.exists():
        for words in (
            ["venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            ["pip", "install", "--quiet", "--python", str(interpreter), *SDKS, *EXTRAS],
        ):
            done = subprocess.run([uv, *words], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"uv could not install the newest SDKs: {done.stderr[-300:]}")
    # Always: the cache is shared by checkouts, and each tests its own source.
    install = ["pip", "install", "--quiet", "--python", str(interpreter), "--editable", str(ROOT)]
    subprocess.run([uv, *install], check=True, capture_output=True)
    complete.touch()
    return str(interpreter)


@pytest.mark.parametrize("way", WAYS)
def test_the_books_are_equal(python, way, tmp_path):
    """However the newest SDKs call a model, each bill is one exact row, and nothing else is."""
    with FakeProvider() as fake_provider:
        ran = run_app(
            APP, way, ledger=tmp_path / "ledger.db", provider_url=fake_provider.url, python=python
        )
        billed = list(fake_provider.billing_log.billed)
    assert billed
    reported, retained = billed_lines(billed), ledger_lines(ran.calls)
    assert (reported - retained, retained - reported) == (Counter(), Counter())


def test_the_environment_is_free_of_crewais_pins(python):
    """It has no httpx and no CrewAI: what passes here passes without them."""
    code = "import importlib.util as u; print([n for n in ('httpx', 'crewai') if u.find_spec(n)])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
