"""A flow whose branches run at the same time, each with a crew, and join."""

from common import agent, crew, openai_llm, task
from crewai.flow.flow import Flow, and_, listen, start


class Fork(Flow):
    @start()
    def begin(self):
        return "go"

    @listen(begin)
    async def left(self):
        return (
            await crew(
                task(agent("Left"), "Go left. [[usage:in=310 out=31]]"), name="left-crew"
            ).akickoff()
        ).raw

    @listen(begin)
    async def right(self):
        return (
            await crew(
                task(agent("Right"), "Go right. [[usage:in=320 out=32]]"), name="right-crew"
            ).akickoff()
        ).raw

    @listen(and_(left, right))
    def join(self):
        return openai_llm().call("Join. [[usage:in=330 out=33]]")


def main():
    Fork().kickoff()
