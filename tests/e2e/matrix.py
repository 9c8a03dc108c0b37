"""Run the end-to-end tests under other versions of CrewAI.

    python tests/e2e/matrix.py                   # one version, chosen by the commit
    python tests/e2e/matrix.py all               # every version of VERSIONS
    python tests/e2e/matrix.py 1.14.7 --keep .matrix --wheel dist/crewmeter-0.1.0-py3-none-any.whl

Each version gets an environment of its own, made by uv. The tests run in this interpreter, the apps
in that environment. CREWMETER_TEST_CREWAI names versions where the command line names none.
The exit code is 0 when every version passes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.13.0", "1.14.7", "1.15.20", "newest")
EXTRAS = "anthropic,google-genai,azure-ai-inference,bedrock"
TESTS = ("test_books.py", "test_providers.py", "test_canary.py")
PRINT_VERSIONS = """
import importlib.metadata as metadata
print(metadata.version("crewai"), metadata.version("opentelemetry-sdk"))
"""


def version_of_commit() -> str:
    """Return the version whose turn it is, so that pushes go through all of them."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    turn = int(commit.strip() or "0", 16) % len(VERSIONS)
    return VERSIONS[turn]


def chosen_versions(named: list[str]) -> list[str]:
    """Return the versions to test: those named, `all`, or the one of this commit."""
    named = named or os.environ.get("CREWMETER_TEST_CREWAI", "").split()
    if named == ["all"]:
        return list(VERSIONS)
    return named or [version_of_commit()]


def find_uv() -> str:
    """Return the path of uv, this environment's own where it has one."""
    own = Path(sys.executable).with_name("uv")
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        sys.exit("error: uv is not installed\nhint:  pip install uv")
    return found


def make_environment(version: str, folder: Path, project: str) -> Path:
    """Install a CrewAI version and `project` (path or wheel), and return the interpreter.

    An environment that is complete is used again.
    """
    home = folder / f"crewai-{version}"
    python = home / "bin/python"
    complete = home / "complete"
    if complete.exists():
        return python
    uv = find_uv()
    requirement = f"crewai[{EXTRAS}]"
    if version != "newest":
        requirement += f"=={version}"
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)]
    subprocess.run(make, check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, requirement, project], check=True)
    complete.touch()
    return python


def passes(version: str, python: Path) -> bool:
    """Run the tests with the apps under `python`, and return whether all passed."""
    printed = subprocess.run(
        [str(python), "-c", PRINT_VERSIONS], capture_output=True, text=True, check=True
    )
    crewai, sdk = printed.stdout.split()
    print(f"== crewai {crewai} (requested: {version}), opentelemetry-sdk {sdk}", flush=True)
    tests = [str(Path(__file__).parent / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile", *tests]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"E2E_PYTHON": str(python)})
    return done.returncode == 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", nargs="*", help="CrewAI versions, `newest`, or `all`")
    parser.add_argument(
        "--wheel", default=str(ROOT), help="what to install as crewmeter (default: this tree)"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps the environments (default: a temporary one)"
    )
    return parser.parse_args()


def main() -> int:
    """Test the chosen versions and return the exit code."""
    options = parse_arguments()
    versions = chosen_versions(options.versions)
    with tempfile.TemporaryDirectory(
        prefix="crewmeter-matrix-", ignore_cleanup_errors=True
    ) as temporary:
        folder = options.keep.absolute() if options.keep else Path(temporary)
        failed = [
            version
            for version in versions
            if not passes(version, make_environment(version, folder, options.wheel))
        ]
    if failed:
        print(f"failed: {', '.join(failed)}")
    else:
        print(f"CrewAI versions that pass: {', '.join(versions)} (of {', '.join(VERSIONS)})")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
