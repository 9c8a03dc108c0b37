"""Words that must not leave the app, wherever words can be.

Prompts, answers, arguments, results, errors, keys, inputs.
"""

import logging
import os

from common import URL, agent, crew, task
from crewai import LLM
from crewai.flow.flow import Flow, start
from crewai.tools import tool


@tool
def leaky(q: str) -> str:
    """CANARY-tool-description"""
    return f"CANARY-tool-result {q}"


@tool
def exploding(q: str) -> str:
    """Explodes."""
    raise RuntimeError(f"CANARY-tool-error {q}")


def llm(model="gpt-4o-mini", **more):
    # A prefix "openai/" is not enough here: CrewAI 1.13 takes it for names that it knows only.
    return LLM(
        model=model,
        provider="openai",
        base_url=f"{URL}/v1",
        api_key="sk-CANARY-key-0123456789abcdef0123456789abcdef",
        **more,
    )


class Secretive(Flow):
    @start()
    def begin(self):
        worker = agent("Keeper", llm(), [leaky, exploding])
        worker.goal, worker.backstory = "CANARY-goal", "CANARY-backstory"
        text = (
            'CANARY-task {topic} [[tool:leaky {"q": "CANARY-argument"}]] [[tool:exploding '
            '{"q": "CANARY-argument"}]] [[say:CANARY-answer]]'
        )
        job = task(worker, text)
        job.expected_output = "CANARY-expected"
        crew(job, name="vault").kickoff(inputs={"topic": "CANARY-input"})
        llm(stream=True).call("CANARY-prompt [[say:CANARY-streamed answer]]")
        llm("sk-CANARY-model-0123456789abcdef").call("swapped arguments")
        try:
            llm().call("CANARY-refused [[fail:400]]")
        except Exception:  # noqa: BLE001  only what it leaves behind matters
            return "CANARY-flow-result"


def main():
    if path := os.environ.get("CANARY_LOG"):
        logging.getLogger("crewmeter").addHandler(logging.FileHandler(path))
        logging.getLogger("crewmeter").setLevel(logging.DEBUG)
    Secretive().kickoff(inputs={"secret": "CANARY-state"})
