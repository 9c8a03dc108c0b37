"""The app whose cost is measured: ``observed_app.py ARM load|exit|death|play …``.

Runs in the environment of the arm, prints one line ``RESULT {json}``. `BENCH_PROVIDER` is the fake
provider's base URL, `BENCH_SINK` where observers export to.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import statistics
import sys
import threading
import time

import arms
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

THINKING_SECONDS = 0.02
THREADS = 8
COROUTINES = 64
OPENING_SECONDS = 2.0


@tool
def look_up(q: str) -> str:
    """Look something up."""
    return f"found {q}"


def make_model() -> LLM:
    """Return CrewAI's native OpenAI client, pointed at the fake provider."""
    base_url = os.environ["BENCH_PROVIDER"]
    return LLM(model="openai/gpt-4o-mini", base_url=base_url, api_key="sk-bench")


def kick_off(model: LLM) -> None:
    """Run a crew of two agents, one with a tool: about twelve spans."""
    finder = Agent(role="Finder", goal="Find", backstory="Finds.", llm=model, tools=[look_up])
    writer = Agent(role="Writer", goal="Write", backstory="Writes.", llm=model)
    find = 'Find x. [[tool:look_up {"q": "x"}]] [[say:It is x.]]'
    tasks = [
        Task(description=find, expected_output="A fact.", agent=finder),
        Task(description="Write one line.", expected_output="A line.", agent=writer),
    ]
    Crew(agents=[finder, writer], tasks=tasks).kickoff()


class Clock:
    """Processor time from its making: of the whole process, and of the threads that call."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._process = time.process_time()
        self._thread = time.thread_time()
        self.other_callers = 0.0

    def figures(self, samples: list[float], calls: int) -> dict[str, float]:
        """Return microseconds a call; everything since the clock was made counts."""
        calling = time.thread_time() - self._thread + self.other_callers
        process = time.process_time() - self._process
        figures = {
            "mean_with_flush": (time.perf_counter() - self._wall) / calls,
            "cpu": process / calls,
            "cpu_calling": calling / calls,
            "cpu_background": (process - calling) / calls,
            "median": statistics.median(samples),
            "p95": statistics.quantiles(samples, n=20)[-1],
        }
        return {name: value * 1e6 for name, value in figures.items()}


def timed(act, count: int, pause: float = 0.0) -> list[float]:
    """Return the seconds of each of `count` runs of `act`."""
    samples = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        samples.append(time.perf_counter() - began)
        if pause:
            time.sleep(pause)
    return samples


def one_after_the_other(act, count: int, flush, pause: float = 0.0) -> dict[str, float]:
    """Measure calls from one thread."""
    clock = Clock()
    samples = timed(act, count, pause)
    flush()
    return clock.figures(samples, count)


def from_threads(act, count: int, flush) -> dict[str, float]:
    """Measure calls from several threads at once."""
    clock = Clock()
    samples: list[float] = []

    def work() -> None:
        began = time.thread_time()
        samples.extend(timed(act, count // THREADS))
        clock.other_callers += time.thread_time() - began

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush()
    return clock.figures(samples, len(samples))


def gathered(model: LLM, count: int, flush) -> dict[str, float]:
    """Measure calls from coroutines that run together."""
    samples: list[float] = []

    async def work() -> None:
        for _ in range(max(1, count // COROUTINES)):
            began = time.perf_counter()
            await model.acall("Say hello.")
            samples.append(time.perf_counter() - began)

    async def everyone() -> None:
        await asyncio.gather(*(work() for _ in range(COROUTINES)))

    clock = Clock()
    asyncio.run(everyone())
    flush()
    return clock.figures(samples, len(samples))


def load(arm: str, calls: int, kickoffs: int) -> dict[str, object]:
    """Measure the first second, then sustained load of every kind."""
    model = make_model()

    def call() -> None:
        model.call("Say hello.")

    model.call("Warm up.")
    began, used = time.perf_counter(), time.process_time()
    flush = arms.start(arm)
    # Some observers see only the clients that are made after they were started.
    model = make_model()
    first_ten = sum(timed(call, 10))
    time.sleep(max(0.0, OPENING_SECONDS - (time.perf_counter() - began)))
    opening = {"cpu": time.process_time() - used, "first_ten_calls": first_ten}
    timed(call, max(20, calls // 10))
    kick_off(model)
    flush()
    found: dict[str, object] = {"opening": opening}
    found["full speed"] = one_after_the_other(call, calls, flush)
    thinking = max(20, calls // 10)
    found["20 ms thinking"] = one_after_the_other(call, thinking, flush, THINKING_SECONDS)
    found["8 threads"] = from_threads(call, calls, flush)
    found["64 coroutines"] = gathered(model, calls, flush)
    found["kickoff"] = one_after_the_other(lambda: kick_off(model), kickoffs, flush)
    found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def end_after_calls(arm: str) -> float:
    """Make five calls, and return when they were done (unix seconds)."""
    model = make_model()
    arms.start(arm)
    for _ in range(5):
        model.call("Say hello.")
    return time.time()


def die_after_calls(arm: str, how: str) -> None:
    """Make 24 calls, wait half a second, and end without any goodbye."""
    model = make_model()
    flush = arms.start(arm)
    model.call("Warm up.")
    flush()
    for _ in range(23):
        model.call("Say hello.")
    time.sleep(0.5)
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def play(arm: str, folder: str, app: str) -> None:
    """Run one of the end-to-end tests' apps, and send all that was seen."""
    sys.path.insert(0, folder)
    flush = arms.start(arm)
    module, *arguments = app.split(":")
    main = __import__(module).main
    if arguments:
        main(arguments[0], arguments[1] == "stream")
    else:
        main()
    time.sleep(1)  # observers that export by themselves
    flush()


def main() -> None:
    """Do what the command line says."""
    arm, what, *rest = sys.argv[1:]
    result: object = None
    if what == "load":
        result = load(arm, int(rest[0]), int(rest[1]))
    elif what == "exit":
        result = end_after_calls(arm)
    elif what == "death":
        die_after_calls(arm, rest[0])
    else:
        play(arm, *rest)
    print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
