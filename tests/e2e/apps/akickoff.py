"""`akickoff`, `kickoff_async` and an asynchronous task."""

import asyncio

from common import agent, crew, look_up, task


async def both():
    worker = agent(tools=[look_up])
    await crew(
        task(worker, 'Find x. [[tool:look_up {"q": "x"}]] [[say:It is x.]]'), name="native"
    ).akickoff()
    await crew(task(agent(), "Say hello."), name="threaded").kickoff_async()


def main():
    asyncio.run(both())
    crew(
        task(agent("Early"), "Go ahead.", async_execution=True),
        task(agent("Late"), "Finish."),
        name="async-task",
    ).kickoff()
