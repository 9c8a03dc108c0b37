"""Structured output: from a task, and straight from the model."""

from common import agent, crew, openai_llm, task
from pydantic import BaseModel


class Verdict(BaseModel):
    title: str
    score: int


def main():
    result = crew(task(agent(), "Judge.", output_pydantic=Verdict)).kickoff()
    assert result.pydantic == Verdict(title="plain words", score=1), result
    openai_llm().call("Judge again.", response_model=Verdict)
