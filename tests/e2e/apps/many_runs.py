"""Thirty short crews one after the other, sharing one model object, with users, teams and tags."""

from common import agent, crew, openai_llm, task

import crewmeter


def main():
    llm = openai_llm()
    for number in range(30):
        with crewmeter.attribute(
            user=f"user-{number % 3}", team=f"team-{number % 2}", customer=f"c-{number % 5}"
        ):
            crew(
                task(agent("Worker", llm), f"Work. [[usage:in={200 + number} out=20]]"), name="belt"
            ).kickoff()
