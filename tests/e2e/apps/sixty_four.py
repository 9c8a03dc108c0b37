"""64 crews at once in one event loop, then 16 in threads; each with numbers of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from common import agent, crew, look_up, task


def one(number):
    worker = agent(f"Worker {number}", tools=[look_up])
    text = (
        f'Find {number}. [[tool:look_up {{"q": "n{number}"}}]] [[say:It is {number}.]] '
        f"[[usage:in={1000 + number} out={10 + number}]]"
    )
    return crew(task(worker, text), name=f"crew-{number}")


async def all_at_once():
    await asyncio.gather(*(one(number).akickoff() for number in range(64)))


def main():
    asyncio.run(all_at_once())
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: one(number).kickoff(), range(100, 116)))
