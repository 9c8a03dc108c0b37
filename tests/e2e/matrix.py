"""The end-to-end tests under several versions of CrewAI: an environment for each, the same apps, the same books.

    python tests/e2e/matrix.py                      # 1.13.0, 1.14.7, 1.15.20 and the newest
    python tests/e2e/matrix.py 1.14.7 --wheel dist/crewmeter-0.1.0-py3-none-any.whl --keep .matrix

The tests run in this interpreter; the apps run in the environment of each version, with a home of their own.
Exit code 0 when every version passes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.13.0", "1.14.7", "1.15.20", "newest")
EXTRAS = "anthropic,google-genai,azure-ai-inference,bedrock"
TESTS = ("test_books.py", "test_providers.py", "test_canary.py")


def environment(version: str, folder: Path, project: str) -> Path:
    """A virtual environment with that CrewAI and `project` (a path or wheel); its interpreter. Reused where it exists."""
    home = folder / f"crewai-{version}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = home / "complete"
    if not done.exists():
        venv.create(home, with_pip=True, clear=True)
        pin = f"crewai[{EXTRAS}]" + ("" if version == "newest" else f"=={version}")
        subprocess.run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                pin,
                project,
            ],
            check=True,
        )
        done.touch()
    return python


def passes(version: str, python: Path) -> bool:
    """Run the tests with the apps under `python`."""
    shown = subprocess.run(
        [
            str(python),
            "-c",
            "import importlib.metadata as m; print(m.version('crewai'), m.version('opentelemetry-sdk'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    crewai, sdk = shown.stdout.split()
    print(f"== crewai {crewai} (asked: {version}), opentelemetry-sdk {sdk}", flush=True)
    tests = [str(Path(__file__).parent / name) for name in TESTS]
    return (
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *tests],
            cwd=ROOT,
            env=os.environ | {"E2E_PYTHON": str(python)},
        ).returncode
        == 0
    )


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="CrewAI versions, or newest")
    parser.add_argument(
        "--wheel", default=str(ROOT), help="what to install as crewmeter (default: this tree)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder for the environments; kept and reused (default: a temporary one)",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="crewmeter-matrix-", ignore_cleanup_errors=True
    ) as temporary:
        folder = asked.keep.absolute() if asked.keep else Path(temporary)
        failed = [
            version
            for version in asked.versions
            if not passes(version, environment(version, folder, asked.wheel))
        ]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(asked.versions)} versions pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
