"""What `crewmeter doctor` examines: one module per subject, each check a `Finding` that says what to do."""

from __future__ import annotations

from crewmeter_cost.doctor.checks import examine
from crewmeter_cost.doctor.finding import FAILED, NOTE, OK, Finding

__all__ = ["FAILED", "NOTE", "OK", "Finding", "examine"]
