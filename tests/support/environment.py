"""The environment an app under test runs in: CrewAI quiet, its storage and home in a folder of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["quiet_environment"]


def quiet_environment(home: Path) -> dict[str, str]:
    """Variables that keep CrewAI from phoning home and from asking questions, and everything it writes under `home`."""
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
