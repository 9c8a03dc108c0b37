"""A flow with two methods: a bare model call, and a crew inside."""

from common import agent, crew, openai_llm, task
from crewai.flow.flow import Flow, listen, start


class Brief(Flow):
    @start()
    def topic(self):
        return openai_llm().call("Pick a topic. [[say:metering]]")

    @listen(topic)
    def write(self, topic):
        return crew(task(agent("Writer"), f"Write about {topic}."), name="writers").kickoff().raw


def main():
    Brief().kickoff()
