"""The way of a budget check through the modules."""

from __future__ import annotations

import sys
import time

from crewmeter.budget_hook.before_call import BeforeCallHook
from crewmeter.budget_hook.protocol import find_budgets
from crewmeter.settings import read_settings

BUDGET_PACKAGES = ("crewmeter.budget_hook", "crewmeter_cost.budgets")
MOST_MODULES = 5


class ChatModel:
    """What the hook looks at in an LLM object."""

    model = "gpt-4o-mini"
    provider = "openai"
    max_tokens = 100
    base_url = None


def handed_through(act) -> list[str]:
    """Return the budgets' modules on the deepest stack of a call, outermost first."""
    longest: list[str] = []

    def look(frame, event, _argument) -> None:
        nonlocal longest
        if event != "call":
            return
        modules: dict[str, None] = {}
        while frame is not None:
            name = frame.f_globals.get("__name__", "")
            if name.startswith(BUDGET_PACKAGES):
                modules[name] = None
            frame = frame.f_back
        if len(modules) > len(longest):
            longest = list(reversed(modules))

    sys.setprofile(look)
    try:
        act()
    finally:
        sys.setprofile(None)
    return longest


def test_a_check_passes_at_most_five_modules(tmp_path, monkeypatch):
    """From the hook to the reservation, a check is handed through few hands.

    The very first one also opens the budget's account in the ledger.
    """
    monkeypatch.setenv("CREWMETER_LEDGER", str(tmp_path / "ledger.db"))
    settings = read_settings({"CREWMETER_LEDGER": str(tmp_path / "ledger.db")})
    lookup = find_budgets("1000 USD/month", settings)
    assert lookup is not None
    hook = BeforeCallHook(lookup, {})
    hook.start()
    try:
        deadline = time.monotonic() + 60
        path: list[str] = []
        # The first checks wait for the ledger and the prices, which are loaded beside them.
        while "crewmeter_cost.budgets.reservations" not in path and time.monotonic() < deadline:
            path = handed_through(lambda: hook.refusal(ChatModel(), "hello"))
        path = handed_through(lambda: hook.refusal(ChatModel(), "hello"))
        assert path[0] == "crewmeter.budget_hook.before_call"
        assert "crewmeter_cost.budgets.reservations" in path
        assert len(path) <= MOST_MODULES, path
    finally:
        hook.close()
