"""What installing crewmeter adds to an app that has CrewAI: distributions, megabytes, modules.

    python benchmarks/footprint.py            # needs uv on PATH or in this environment, and PyPI

Two environments are made: CrewAI alone, and CrewAI with this checkout. The difference is printed,
with the largest new distributions, and the modules that `instrument()` and a first call import.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crewmeter_cost.demo.fake_provider import FakeProvider

ROOT = Path(__file__).parents[1]
SIZES = """
import importlib.metadata as metadata, json, os
sizes = {}
for one in metadata.distributions():
    files = one.files or []
    paths = [str(one.locate_file(name)) for name in files if not str(name).endswith(".pyc")]
    size = sum(os.path.getsize(path) for path in paths if os.path.exists(path))
    sizes[one.metadata["Name"].lower()] = size
print(json.dumps(sizes))
"""
MODULES = """
import json, os, sys
from crewai import LLM
llm = LLM(model="openai/gpt-4o-mini", base_url=os.environ["PROVIDER_URL"] + "/v1", api_key="k")
llm.call("hello")
before = set(sys.modules)
import crewmeter
handle = crewmeter.instrument(summary=False)
llm.call("hello")
assert handle.flush(10)
new = sorted(set(sys.modules) - before)
print(json.dumps(new))
"""


def uv() -> str:
    """Return the uv program. Raises `SystemExit` where there is none."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise SystemExit("error: uv is not installed\nhint:  pip install uv")
    return found


def environment(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with `packages` by the lock and return its interpreter."""
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    lock = ["--constraint", str(ROOT / "constraints.txt")]
    install = [uv(), "pip", "install", "--quiet", "--python", str(python), *lock, *packages]
    subprocess.run(install, check=True)
    return python


def output_of(python: Path, code: str, home: Path, **env: str) -> object:
    """Return what `code` prints as JSON in `python`, in a home of its own."""
    env |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
    env |= {"HOME": str(home), "PATH": "/usr/bin:/bin", "CREWAI_TESTING": "true"}
    done = subprocess.run([str(python), "-c", code], env=env, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="crewmeter-footprint-") as temporary:
        folder = Path(temporary)
        alone = environment(folder / "alone", "crewai")
        metered = environment(folder / "metered", "crewai", str(ROOT))
        before = output_of(alone, SIZES, folder)
        after = output_of(metered, SIZES, folder)
        with FakeProvider() as provider:
            modules = output_of(metered, MODULES, folder, PROVIDER_URL=provider.url)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert isinstance(modules, list)
    new = {name: size for name, size in after.items() if name not in before}
    print(f"distributions  {len(before)} + {len(new)}")
    print(f"megabytes      {sum(before.values()) / 1e6:.1f} + {sum(new.values()) / 1e6:.1f}")
    for name, size in sorted(new.items(), key=lambda row: -row[1])[:8]:
        print(f"    {name:44}{size / 1e6:7.1f} MB")
    tops = sorted({name.partition(".")[0] for name in modules})
    print(f"modules that instrument() and a first call import: {len(modules)}")
    print(f"    of {', '.join(tops)}")


if __name__ == "__main__":
    main()
