"""The environment of an app under test: CrewAI quiet, storage and home in a folder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["quiet_environment"]


def quiet_environment(home: Path) -> dict[str, str]:
    """Return variables that keep CrewAI quiet, and what it writes under `home`."""
    storage = home / "crewai"
    storage.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "CREWAI_STORAGE_DIR": str(storage),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "CREWAI_TESTING": "true",
        "OTEL_SDK_DISABLED": "false",
        "ANONYMIZED_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_COLOR": "1",
    }
