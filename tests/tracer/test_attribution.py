"""On whose account: through nesting, threads, tasks and lost contexts."""

from __future__ import annotations

import asyncio
import threading

import pytest

from crewmeter import attribute, semconv
from crewmeter.attribution import current


def test_blocks_nest_and_end():
    """An inner block adds and overrides; afterwards the outer one is back."""
    with attribute(user="ann", team="a", env="x"):
        with attribute(team="b"):
            assert current() == {
                semconv.USER: "ann",
                semconv.TEAM: "b",
                semconv.TAG_PREFIX + "env": "x",
            }
        assert current()[semconv.TEAM] == "a"
    assert current() is None


def test_one_block_may_be_used_by_many_tasks():
    """The same object entered by concurrent tasks restores each one's own state."""
    block = attribute(team="shared")

    async def use(user):
        with attribute(user=user), block:
            await asyncio.sleep(0.01)
            assert current() == {semconv.USER: user, semconv.TEAM: "shared"}
        assert current() is None

    async def main():
        await asyncio.gather(*(use(str(n)) for n in range(10)))

    asyncio.run(main())


def test_a_decorated_function_is_a_block():
    """`@attribute(team=…)` works as well."""

    @attribute(team="deco")
    def work():
        return current()

    assert work() == {semconv.TEAM: "deco"}


def test_long_values_are_cut():
    """A tag is a label, not a text."""
    with attribute(user="x" * 1000):
        assert len(current()[semconv.USER]) == 256


def test_it_reaches_every_call_of_a_run(meter, worker, job, team, llm):
    """Calls in a crew's worker threads and in bare threads a tool starts are on the run's
    account.
    """
    pytest.importorskip("crewai")
    from crewai.tools import tool

    @tool
    def aside(q: str) -> str:
        """Ask in a bare thread."""
        thread = threading.Thread(target=llm.call, args=("x",))
        thread.start()
        thread.join()
        return "ok"

    with attribute(user="ann", team="search", session="s1", tenant="acme"):
        team(
            job(worker(tools=[aside]), '[[tool:aside {"q": "x"}]] [[say:fine]]'), name="c"
        ).kickoff()
    llm.call("outside")
    calls = meter.calls()
    accounts = [(call["user"], call["team"], call["session"]) for call in calls]
    assert accounts == [("ann", "search", "s1")] * 3 + [(None, None, None)]
    assert "acme" in str(calls[0]["tags"])
