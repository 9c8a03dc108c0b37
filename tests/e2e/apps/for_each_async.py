"""`kickoff_for_each_async` and `akickoff_for_each`, copies of one crew side by side."""

import asyncio

from common import agent, crew, task

WORDS = [{"word": word} for word in ("one", "two", "three", "four")]


async def both():
    await crew(
        task(agent(), "Say {word}. [[usage:in=120 out=12]]"), name="echoes"
    ).kickoff_for_each_async(WORDS)
    await crew(
        task(agent(), "Sing {word}. [[usage:in=130 out=13]]"), name="choir"
    ).akickoff_for_each(WORDS)


def main():
    asyncio.run(both())
