"""The stack's files: beside the packages in a checkout, inside them in a wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from crewmeter_cost.errors import CrewMeterError

__all__ = ["FOLDERS", "SINGLE", "stack_files"]

SINGLE = (
    "docker-compose.yml",
    ".env.example",
    "scripts/alertmanager.sh",
    "scripts/build-collector.sh",
    "scripts/postgres-reader.sh",
)
FOLDERS = ("collector-config", "dashboards/grafana", "dashboards/prometheus", "docs/runbooks")
"""pyproject.toml puts the same ones into the wheel; a test compares the two."""

_CHECKOUT = Path(__file__).parents[3]


def stack_files() -> dict[str, Path]:
    """Return each path in the project and the file to copy there.

    Such as ``collector-config/base.yaml``. Raises `CrewMeterError` for a broken installation.
    """
    found = {name: _home(name) for name in SINGLE}
    for folder in FOLDERS:
        home = _home(folder)
        found |= {
            f"{folder}/{path.relative_to(home).as_posix()}": path
            for path in sorted(home.rglob("*"))
            if path.is_file()
        }
    missing = [name for name, path in found.items() if not path.is_file()]
    missing += [
        folder for folder in FOLDERS if not any(name.startswith(f"{folder}/") for name in found)
    ]
    if missing:
        raise CrewMeterError(
            f"this installation of crewmeter lacks {', '.join(missing)}",
            hint="install crewmeter again, from a wheel or a whole checkout",
        )
    return found


def _home(name: str) -> Path:
    """Where `name` is in this installation."""
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT / name
    package, _, rest = name.partition("/")
    if package in ("dashboards", "docs"):
        return Path(str(files("crewmeter_dashboards"))) / "rendered" / rest
    return Path(__file__).parent / "files" / name
