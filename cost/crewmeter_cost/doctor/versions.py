"""Checks of Python, CrewAI and OpenTelemetry versions and of CrewAI's event bus."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from crewmeter_cost.doctor.finding import failed, note, ok
from crewmeter_cost.installation import install_command, upgrade_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crewmeter_cost.doctor.finding import Finding

__all__ = ["check_opentelemetry", "check_python", "check_seam", "check_versions"]

CREWAI = (Version("1.13"), Version("2"))
"""Tested: 1.13 up to the newest 1.x; the version matrix in CI runs the ends and the middle."""
OPENTELEMETRY = (Version("1.34"), Version("2"))

_PROBE = """
import logging, sys
logging.basicConfig(stream=sys.stderr, format="%(message)s")
import crewai, crewmeter
handle = crewmeter.instrument(summary=False)
handle.uninstrument()
"""
"""Switches the meter on in a process of its own, so that the examined environment stays
as it is.
"""


def check_versions(
    installed: Callable[[str], str] = metadata.version,
    python: tuple[int, ...] = sys.version_info[:3],
) -> Iterator[Finding]:
    """Return findings about versions, where `installed` gives a package's version."""
    yield check_python(python)
    yield _check_crewai(installed)
    yield check_opentelemetry(installed)


def check_python(version: tuple[int, ...]) -> Finding:
    """Check the Python version: crewmeter needs 3.11, CrewAI at most 3.13."""
    versions_text = ".".join(map(str, version))
    if version < (3, 11):
        return failed(
            "python", f"Python {versions_text} is too old", "use Python 3.11, 3.12 or 3.13"
        )
    if version >= (3, 14):
        return note(
            "python",
            f"Python {versions_text}: crewmeter runs, CrewAI does not",
            "use Python 3.11, 3.12 or 3.13 for the app",
        )
    return ok("python", f"Python {versions_text}")


def _check_crewai(installed: Callable[[str], str]) -> Finding:
    version = _version("crewai", installed)
    if version is None:
        return note(
            "crewai",
            "CrewAI is not installed here; reports, prices and the sidecar work without it",
            install_command("crewai"),
        )
    low, high = CREWAI
    if version < low:
        return failed(
            "crewai",
            f"CrewAI {version} is older than {low}, the first that crewmeter can meter",
            install_command("crewai"),
        )
    if version >= high:
        return note(
            "crewai",
            f"CrewAI {version} is newer than crewmeter is tested with (below {high})",
            upgrade_command(),
        )
    return ok("crewai", f"CrewAI {version}")


def check_opentelemetry(installed: Callable[[str], str]) -> Finding:
    """Check that API, SDK and OTLP exporter are of one release.

    Mixed ones fail at import or drop spans.
    """
    versions = {
        name: _version(f"opentelemetry-{name}", installed)
        for name in ("api", "sdk", "exporter-otlp")
    }
    missing = [f"opentelemetry-{name}" for name, version in versions.items() if version is None]
    if missing:
        return failed(
            "opentelemetry",
            f"{', '.join(missing)} not installed",
            f"pip install {' '.join(missing)}",
        )
    low, high = OPENTELEMETRY
    found = {version for version in versions.values() if version is not None}
    versions_text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(found) > 1:
        newest = max(found)
        return failed(
            "opentelemetry",
            f"OpenTelemetry packages of different releases: {versions_text}",
            " ".join(["pip install", *(f"opentelemetry-{name}=={newest}" for name in versions)]),
        )
    if min(found) < low or max(found) >= high:
        return failed(
            "opentelemetry",
            f"OpenTelemetry {versions_text}: crewmeter works with {low} up to, not including, "
            f"{high}",
            upgrade_command(),
        )
    return ok("opentelemetry", f"OpenTelemetry {min(found)}")


def check_seam(environ: Mapping[str, str], *, seconds: float = 60) -> Finding | None:
    """Try the meter beside the installed CrewAI, in a process of its own.

    None where CrewAI is not installed.
    """
    if _version("crewai", metadata.version) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="crewmeter-doctor-") as folder:
        quiet = {
            "CREWMETER_LEDGER": f"{folder}/ledger.db",
            "CREWAI_STORAGE_DIR": folder,
            "CREWAI_DISABLE_TELEMETRY": "true",
            "OTEL_TRACES_EXPORTER": "crewmeter",
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROBE],
                env={**environ, **quiet},
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return failed(
                "seam",
                f"switching the meter on took longer than {seconds:.0f} s",
                "run it by hand: python -c 'import crewmeter; crewmeter.instrument()'",
            )
    complaints = [line for line in done.stderr.splitlines() if line.startswith("crewmeter")]
    if done.returncode != 0:
        last = (
            done.stderr.strip().splitlines()[-1]
            if done.stderr.strip()
            else f"exit code {done.returncode}"
        )
        return failed(
            "seam",
            f"crewmeter.instrument() failed beside this CrewAI: {last}",
            f"{upgrade_command()}, or pin crewai to a tested version",
        )
    if complaints:
        return note(
            "seam",
            complaints[0],
            "amounts stay exact; for whole traces use a CrewAI version from the README's list",
        )
    return ok("seam", "the meter switches on, and CrewAI has the seam it needs")


def _version(package: str, installed: Callable[[str], str]) -> Version | None:
    try:
        return Version(installed(package))
    except (metadata.PackageNotFoundError, InvalidVersion):
        return None
