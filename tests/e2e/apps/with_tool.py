"""One agent, one tool, two model calls."""

from common import agent, crew, look_up, task


def main():
    worker = agent(tools=[look_up])
    crew(task(worker, 'Find x. [[tool:look_up {"q": "x"}]] [[say:It is x.]]')).kickoff()
