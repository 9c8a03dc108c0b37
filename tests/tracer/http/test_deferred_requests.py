"""A request that an SDK sends later is on the account of the block in which it was made."""

from __future__ import annotations

import asyncio

import anthropic
import openai
import pytest

import crewmeter

HELLO = [{"role": "user", "content": "Hello"}]
GPT = {"model": "gpt-4o-mini", "messages": HELLO}
GPT_RESPONSES = {"model": "gpt-4o-mini", "input": "Hello"}
CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": HELLO}

STREAMS = {
    "chat": lambda openai, _: openai.chat.completions.stream(**GPT),
    "responses": lambda openai, _: openai.responses.stream(**GPT_RESPONSES),
    "messages": lambda _, anthropic: anthropic.messages.stream(**CLAUDE),
    "beta_messages": lambda _, anthropic: anthropic.beta.messages.stream(**CLAUDE),
}
CREATED = {
    "chat": lambda openai, _: openai.chat.completions.create(**GPT, stream=True),
    "responses": lambda openai, _: openai.responses.create(**GPT_RESPONSES, stream=True),
    "messages": lambda _, anthropic: anthropic.messages.create(**CLAUDE, stream=True),
}


@pytest.fixture
def clients(fake_provider):
    """The SDKs' clients, pointed at the fake provider."""
    with (
        openai.OpenAI(base_url=f"{fake_provider.url}/v1", api_key="k") as gpt,
        anthropic.Anthropic(base_url=fake_provider.url, api_key="k") as claude,
    ):
        yield gpt, claude


@pytest.fixture
def async_clients(fake_provider):
    """The same for their asynchronous clients."""
    return (
        openai.AsyncOpenAI(base_url=f"{fake_provider.url}/v1", api_key="k"),
        anthropic.AsyncAnthropic(base_url=fake_provider.url, api_key="k"),
    )


def run(main, clients):
    """Run ``main`` and close the clients in its event loop."""

    async def closing():
        async with clients[0], clients[1]:
            return await main()

    return asyncio.run(closing())


def users(meter):
    return [row["user"] for row in meter.calls()]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_entered_after_the_block_is_on_its_account(meter, clients, stream):
    """A ``.stream()`` sends its request as its ``with`` block is entered."""
    with crewmeter.attribute(user="one"):
        manager = stream(*clients)
    with crewmeter.attribute(user="two"):
        with manager as events:
            list(events)
        account = crewmeter.attribution.current()
    assert list(account.values()) == ["two"]
    assert users(meter) == ["one"]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_an_asynchronous_stream_entered_after_the_block_is_too(meter, async_clients, stream):
    """The same for ``async with``."""

    async def main():
        with crewmeter.attribute(user="one"):
            manager = stream(*async_clients)
        with crewmeter.attribute(user="two"):
            async with manager as events:
                async for _ in events:
                    pass
            return crewmeter.attribution.current()

    assert list(run(main, async_clients).values()) == ["two"]
    assert users(meter) == ["one"]


@pytest.mark.parametrize("create", CREATED.values(), ids=CREATED)
def test_chunks_read_after_the_block_are_on_its_account(meter, clients, create):
    """``create(stream=True)`` has sent its request, and only the answer is read later."""
    with crewmeter.attribute(user="one"):
        chunks = create(*clients)
    with crewmeter.attribute(user="two"):
        list(chunks)
    assert users(meter) == ["one"]


@pytest.mark.parametrize("create", CREATED.values(), ids=CREATED)
def test_a_request_awaited_after_the_block_is_on_its_account(meter, async_clients, create):
    """An asynchronous ``create`` sends its request when it is awaited."""

    async def main():
        with crewmeter.attribute(user="one"):
            request = create(*async_clients)
        with crewmeter.attribute(user="two"):
            async for _ in await request:
                pass

    run(main, async_clients)
    assert users(meter) == ["one"]


def test_a_task_made_in_the_block_is_on_its_account(meter, async_clients):
    """A task has the context of the code that made it, also for what it starts in turn."""

    async def both():
        await asyncio.gather(*(async_clients[0].chat.completions.create(**GPT) for _ in "ab"))

    async def main():
        with crewmeter.attribute(user="one"):
            task = asyncio.create_task(both())
        await task

    run(main, async_clients)
    assert users(meter) == ["one", "one"]


def test_the_sdks_classes_are_restored(ledger_path):
    """`uninstrument` puts the very same functions back."""
    from anthropic.lib.streaming import MessageStreamManager
    from openai.resources.chat.completions import AsyncCompletions

    before = vars(MessageStreamManager)["__init__"], AsyncCompletions.create
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    assert vars(MessageStreamManager)["__init__"] is not before[0]
    handle.uninstrument()
    assert before == (vars(MessageStreamManager)["__init__"], AsyncCompletions.create)
