"""The connection drops once, unanswered; the client tries again."""

from common import agent, crew, task


def main():
    crew(task(agent(), "Hold on. [[drop:1]]"), name="holders").kickoff()
