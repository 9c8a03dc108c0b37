"""The loop guard counts per run and says a warning once."""

from __future__ import annotations

from crewmeter_cost.budgets.loop_limits import MOST_RUNS, LoopGuard, LoopLimits


def test_a_warning_is_said_once_per_run_and_a_stop_every_time():
    """Two calls are allowed: the third is remarked on, the fourth again only where it must stop."""
    warn, stop = LoopGuard(LoopLimits(calls=2)), LoopGuard(LoopLimits(calls=2, stop=True))
    assert [bool(warn.call("a")) for _ in range(4)] == [False, False, True, False]
    assert [bool(stop.call("a")) for _ in range(4)] == [False, False, True, True]
    assert warn.call("b") is None


def test_the_same_tool_with_the_same_arguments_is_a_loop():
    """Other arguments or another run start anew."""
    guard = LoopGuard(LoopLimits(same_tool=2, stop=True))
    assert guard.tool("a", "search", "{'q': 1}") is None
    assert guard.tool("a", "search", "{'q': 1}") is None
    assert guard.tool("a", "search", "{'q': 2}") is None
    verdict = guard.tool("a", "search", "{'q': 1}")
    assert (verdict.limit, verdict.value, verdict.allowed, verdict.detail) == (
        "same_tool",
        3,
        2,
        "search",
    )
    assert guard.tool("b", "search", "{'q': 1}") is None


def test_tokens_add_up_over_a_run():
    """The verdict names how many were used."""
    guard = LoopGuard(LoopLimits(tokens=1_000))
    assert guard.tokens("a", 900) is None
    assert guard.tokens("a", 200).value == 1_100


def test_runs_are_forgotten_before_memory_is():
    """A long-lived process keeps a bounded number of runs."""
    guard = LoopGuard(LoopLimits(calls=1))
    for n in range(MOST_RUNS + 50):
        guard.call(str(n))
    assert len(guard._runs) == MOST_RUNS
