"""Work that CrewAI starts later than it was requested is on the account of the request."""

from __future__ import annotations

import asyncio
import inspect

import pytest

import crewmeter


def users(meter):
    return [row["user"] for row in meter.calls()]


def test_a_stream_read_after_the_block_is_on_its_account(meter, worker, job, team, llm):
    """A web handler returns the stream and leaves the block (crewAIInc/crewAI#4824)."""
    llm.stream = True
    with crewmeter.attribute(user="one"):
        stream = team(job(worker()), stream=True).kickoff()
    list(stream)
    assert users(meter) == ["one"]


def test_a_stream_read_inside_another_block_is_not_on_that_account(meter, worker, job, team):
    """Who reads it does not pay for it."""
    stream = team(job(worker()), stream=True).kickoff()
    with crewmeter.attribute(user="two"):
        list(stream)
        assert crewmeter.attribution.current() is not None
    assert users(meter) == [None]


def test_an_asynchronous_stream_read_after_the_block_is_on_its_account(meter, worker, job, team):
    """The same for ``async for``."""

    async def main():
        with crewmeter.attribute(user="one"):
            stream = await team(job(worker()), stream=True).akickoff()
        return [chunk async for chunk in stream]

    assert asyncio.run(main())
    assert users(meter) == ["one"]


@pytest.mark.parametrize("method", ["akickoff", "kickoff_async"])
def test_a_coroutine_awaited_after_the_block_is_on_its_account(meter, worker, job, team, method):
    """An asynchronous kickoff starts when it is awaited."""

    async def main():
        with crewmeter.attribute(user="one"):
            coroutine = getattr(team(job(worker())), method)()
        with crewmeter.attribute(user="two"):
            await coroutine
            return crewmeter.attribution.current()

    account = asyncio.run(main())
    assert list(account.values()) == ["two"]
    assert users(meter) == ["one"]


def test_a_model_call_awaited_after_the_block_is_on_its_account(meter, llm):
    """``LLM.acall`` starts when it is awaited."""

    async def main():
        with crewmeter.attribute(user="one"):
            coroutine = llm.acall("Hello")
        with crewmeter.attribute(user="two"):
            await coroutine
            await llm.acall("Hello")
        await llm._get_async_client().close()

    asyncio.run(main())
    assert users(meter) == ["one", "two"]


@pytest.mark.parametrize("method", ["akickoff", "kickoff_async"])
def test_an_agent_or_flow_awaited_after_the_block_is_on_its_account(meter, worker, llm, method):
    """The same for what is not a crew."""
    from crewai.flow.flow import Flow, start

    class Greeting(Flow):
        @start()
        def greet(self):
            return llm.call("Hello")

    async def main():
        with crewmeter.attribute(user="one"):
            agent = getattr(worker(), method)("Say hello.")
            flow = getattr(Greeting(), method)()
        with crewmeter.attribute(user="two"):
            await agent
            await flow

    asyncio.run(main())
    assert set(users(meter)) == {"one"}


def test_crewais_classes_are_restored(ledger_path):
    """`uninstrument` puts the very same functions back."""
    from crewai import LLM, BaseLLM, Crew
    from crewai.types.streaming import StreamingOutputBase

    def found():
        return (
            Crew.akickoff,
            StreamingOutputBase.__init__,
            LLM.acall,
            vars(BaseLLM)["__init_subclass__"],
        )

    before = found()
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    assert not any(now is then for now, then in zip(found(), before, strict=True))
    handle.uninstrument()
    assert found() == before


def test_a_model_of_the_app_made_meanwhile_is_restored_too(ledger_path):
    """Its class is wrapped as it is made, stays a coroutine function, and is put back."""
    from crewai import BaseLLM

    async def acall(self, *_, **__):
        """Answer."""
        return "yes"

    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    model = type("OwnModel", (BaseLLM,), {"acall": acall, "call": lambda self, *_, **__: "yes"})
    within = model.acall
    handle.uninstrument()
    assert model.acall is not within
    for method in (within, model(model="own").acall, model.acall):
        assert inspect.iscoroutinefunction(method)
    assert within.__doc__ == "Answer."
    assert asyncio.run(within(model(model="own"), "?")) == "yes"
