"""Structured output that a second agent call, or instructor, has to convert."""

from common import agent, crew, look_up, task
from pydantic import BaseModel


class Verdict(BaseModel):
    title: str
    score: int


def main():
    worker = agent(tools=[look_up])
    crew(
        task(
            worker,
            'Judge x. [[tool:look_up {"q": "x"}]] [[say:a title and a score]]',
            output_pydantic=Verdict,
        ),
        name="judges",
    ).kickoff()
