"""A fake model provider on loopback that records everything it billed.

It speaks the real protocols, and its answers are scripted.

The demo and the tests point CrewAI's own clients at it, so no key is needed and nothing leaves the
machine.
"""

from __future__ import annotations

from crewmeter_cost.demo.fake_provider.billing_log import BilledExchange, BillingLog, Refused
from crewmeter_cost.demo.fake_provider.http_server import FakeProvider
from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt, Reply, Script, ToolUse

__all__ = [
    "BilledExchange",
    "BillingLog",
    "FakeProvider",
    "Prompt",
    "Refused",
    "Reply",
    "Script",
    "ToolUse",
]
