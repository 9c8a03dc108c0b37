"""A manager delegates to a coworker, who uses a tool."""

from common import agent, look_up, openai_llm
from crewai import Crew, Process, Task


def main():
    worker = agent("Researcher", tools=[look_up])
    brief = '{"task": "Find the answer", "context": "none", "coworker": "Researcher"}'
    job = Task(
        description=f"Get it done. [[tool:delegate_work_to_coworker {brief}]] [[say:Done by "
        "others.]]",
        expected_output="a sentence",
    )
    Crew(
        agents=[worker], tasks=[job], process=Process.hierarchical, manager_llm=openai_llm("gpt-4o")
    ).kickoff()
