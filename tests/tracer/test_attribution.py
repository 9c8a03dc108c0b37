"""On whose account: through nesting, threads, tasks and lost contexts."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from multiprocessing.pool import ThreadPool

import pytest

import crewmeter
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


def test_a_decorated_coroutine_function_is_a_block_while_it_runs():
    """The account is current as the coroutine is awaited, not as it is made."""

    @attribute(team="deco")
    async def work():
        await asyncio.sleep(0)
        return current()

    async def main():
        coroutine = work()
        assert current() is None
        return await coroutine

    assert asyncio.run(main()) == {semconv.TEAM: "deco"}


def test_a_decorated_generator_is_on_the_account_and_its_caller_is_not():
    """Whatever a generator has open at a `yield` stays inside it."""

    @attribute(team="deco")
    def steps():
        sent = yield current()
        with attribute(user=sent):
            try:
                yield current()
            except KeyError:
                yield current()
        return current()

    def caller():
        return (yield from steps())

    generator = caller()
    assert next(generator) == {semconv.TEAM: "deco"}
    assert current() is None
    assert generator.send("ann") == {semconv.TEAM: "deco", semconv.USER: "ann"}
    assert current() is None
    assert generator.throw(KeyError()) == {semconv.TEAM: "deco", semconv.USER: "ann"}
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == {semconv.TEAM: "deco"}
    assert current() is None


def test_a_decorated_asynchronous_generator_is_on_the_account():
    """And the loop that reads it is not."""

    @attribute(team="deco")
    async def steps():
        for _ in range(2):
            await asyncio.sleep(0)
            yield current()

    async def main():
        found = []
        async for account in steps():
            assert current() is None
            found.append(account)
        return found

    assert asyncio.run(main()) == [{semconv.TEAM: "deco"}] * 2


def test_a_decorated_asynchronous_generator_receives_what_is_sent_and_thrown():
    """And a block open at a `yield` is open in its next step, but not for the caller."""

    @attribute(team="deco")
    async def steps():
        sent = yield "first"
        with attribute(user=sent):
            try:
                yield current()
            except KeyError:
                yield current()
        yield current()

    async def main():
        generator = steps()
        found = [await anext(generator), await generator.asend("ann")]
        assert current() is None
        found.append(await generator.athrow(KeyError()))
        with attribute(user="caller"):
            found.append(await anext(generator))
        assert current() is None
        await generator.aclose()
        return found

    ann = {semconv.TEAM: "deco", semconv.USER: "ann"}
    assert asyncio.run(main()) == ["first", ann, ann, {semconv.TEAM: "deco"}]


def test_a_decorated_function_is_of_its_own_kind():
    """Frameworks look at whether it is a coroutine or generator function (on Python 3.11 too)."""

    @attribute(team="deco")
    async def coroutine_function():
        pass

    @attribute(team="deco")
    def generator_function():
        yield

    @attribute(team="deco")
    async def asynchronous_generator_function():
        yield

    assert inspect.iscoroutinefunction(coroutine_function)
    assert inspect.isgeneratorfunction(generator_function)
    assert inspect.isasyncgenfunction(asynchronous_generator_function)


def test_what_a_decorated_generator_sets_is_visible_to_its_caller():
    """As without the decorator: a context manager may set the app's context variables."""
    variable = ContextVar("variable", default="unset")

    @contextmanager
    @attribute(team="deco")
    def variable_set():
        token = variable.set("set")
        yield current()
        variable.reset(token)

    with variable_set() as account:
        assert variable.get() == "set"
        assert current() is None
    assert account == {semconv.TEAM: "deco"}
    assert variable.get() == "unset"


@pytest.mark.usefixtures("meter")
def test_a_reused_worker_thread_is_not_on_the_account_of_whoever_started_it():
    """A worker that runs each work in its caller's context, as AnyIO's do, and a thread pool."""
    found = []
    go_on = threading.Event()
    nobodys = Context()

    def worker():
        go_on.wait(10)
        found.append(nobodys.run(current))

    with attribute(user="ann"):
        thread = threading.Thread(target=worker)
        thread.start()
        pool = ThreadPool(1)
    with pool:
        assert pool.apply(current) is None
        with attribute(user="bob"):
            found_by_bob = pool.map(lambda _: current(), range(2))
    assert found_by_bob == [{semconv.USER: "bob"}] * 2
    go_on.set()
    thread.join()
    assert found == [None]


def test_uninstrument_restores_thread_pools(ledger_path):
    """`ThreadPool` has none of our methods afterwards."""
    before = dict(vars(ThreadPool))
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    assert dict(vars(ThreadPool)) != before
    handle.uninstrument()
    assert dict(vars(ThreadPool)) == before


@pytest.mark.usefixtures("meter")
def test_a_context_copied_in_a_thread_is_on_the_threads_account():
    """Such as the one in which a pool is to run a function."""
    found = []

    def work():
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(copy_context().run, current).result())

    with attribute(user="ann"):
        thread = threading.Thread(target=work)
        thread.start()
    thread.join()
    assert found == [{semconv.USER: "ann"}]


@pytest.mark.usefixtures("meter")
def test_threads_and_pools_begin_in_the_block_that_started_them():
    """Also outside any run, and a pool's thread serves each caller on their own account."""
    found = []
    pool = ThreadPoolExecutor(1)
    with attribute(user="ann"):
        thread = threading.Thread(target=lambda: found.append(current()))
        thread.start()
        first = pool.submit(current)
    thread.join()
    with attribute(user="bob"):
        second = pool.submit(current)
    third = pool.submit(current)
    pool.shutdown()
    assert found == [{semconv.USER: "ann"}]
    assert first.result() == {semconv.USER: "ann"}
    assert second.result() == {semconv.USER: "bob"}
    assert third.result() is None


def test_a_raw_stream_belongs_to_the_block_that_requested_it(meter, fake_provider):
    """A stream that is read after the block, on another thread, is on the block's account."""
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=fake_provider.url + "/v1", api_key="k")
    with attribute(user="ann"):
        stream = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    with attribute(user="bob"):
        list(stream)
    assert [row["user"] for row in meter.calls()] == ["ann"]


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
