"""`Agent.kickoff` without a crew, synchronous and not."""

import asyncio

from common import agent, look_up


def main():
    agent("Solo", tools=[look_up]).kickoff('Find x. [[tool:look_up {"q": "x"}]] [[say:It is x.]]')
    asyncio.run(agent("Solo async").kickoff_async("Say hello. [[usage:in=77 out=7]]"))
