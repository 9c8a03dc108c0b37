"""A kickoff given up after a moment: the provider answers, and bills, to nobody."""

import asyncio
import contextlib

from common import agent, crew, task


async def impatient():
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(
            crew(task(agent("Slow"), "Take your time. [[slow:0.6]]"), name="late").akickoff(), 0.2
        )
    await crew(task(agent("Quick"), "Hurry. [[usage:in=410 out=41]]"), name="prompt").akickoff()
    await asyncio.sleep(0.8)


def main():
    asyncio.run(impatient())
