"""The tool raises; the agent carries on."""

from common import agent, broken, crew, task


def main():
    worker = agent(tools=[broken])
    crew(task(worker, 'Find x. [[tool:broken {"q": "x"}]] [[say:I could not find it.]]')).kickoff()
