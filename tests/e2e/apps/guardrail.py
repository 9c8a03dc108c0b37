"""A guardrail that sends the first answer back."""

from common import agent, crew, task

seen = []


def twice(output):
    seen.append(output)
    return (len(seen) > 1, output.raw if len(seen) > 1 else "once more, please")


def main():
    crew(task(agent(), "Answer carefully.", guardrail=twice)).kickoff()
