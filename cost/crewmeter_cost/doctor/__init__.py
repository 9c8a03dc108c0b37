"""Checks of `crewmeter doctor`, one module a subject, each check a `Finding`."""

from __future__ import annotations

from crewmeter_cost.doctor.checks import examine
from crewmeter_cost.doctor.finding import FAILED, NOTE, OK, Finding

__all__ = ["FAILED", "NOTE", "OK", "Finding", "examine"]
