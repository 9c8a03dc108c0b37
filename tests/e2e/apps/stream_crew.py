"""`Crew(stream=True)`: the kickoff hands out chunks while it runs."""

from common import agent, crew, look_up, task


def main():
    worker = agent(tools=[look_up])
    streaming = crew(
        task(worker, 'Find x. [[tool:look_up {"q": "x"}]] [[say:It is x, in pieces.]]'),
        stream=True,
        name="streamers",
    ).kickoff()
    text = "".join(chunk.content or "" for chunk in streaming)
    if "It is x" not in text + streaming.result.raw:
        raise SystemExit(f"unexpected answer {text!r}")
