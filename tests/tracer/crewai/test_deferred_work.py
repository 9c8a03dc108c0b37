"""Work that CrewAI starts later than it was requested is on the account of the request."""

from __future__ import annotations

import asyncio

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


def test_crewais_classes_are_restored(ledger_path):
    """`uninstrument` puts the very same functions back."""
    from crewai import Crew
    from crewai.types.streaming import StreamingOutputBase

    before = Crew.akickoff, StreamingOutputBase.__init__
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    assert Crew.akickoff is not before[0]
    assert StreamingOutputBase.__init__ is not before[1]
    handle.uninstrument()
    assert before == (Crew.akickoff, StreamingOutputBase.__init__)
