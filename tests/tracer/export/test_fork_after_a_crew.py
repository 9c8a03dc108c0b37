"""A crew, then `fork`, then a crew in the child.

CrewAI's event bus runs its handlers in threads of its own, and a forked child has none of them. So
CrewAI waits for ever in such a child, without us as well.
"""

from __future__ import annotations

import re

import pytest
from support.app import run_app

# A file of the package, not of a clone that lies in a folder of that name.
OURS = re.compile(r"/(tracer|cost|site-packages)/crewmeter(_cost)?/")
APP = """
import faulthandler, os, sys, time
if sys.argv[1] == "metered":
    import crewmeter
    crewmeter.instrument(summary=False)
from crewai import LLM, Agent, Crew, Task
from crewai.events import crewai_event_bus

def call(n):
    llm = LLM(model="openai/gpt-4o-mini", base_url=os.environ["PROVIDER_URL"] + "/v1", api_key="k")
    for _ in range(n):
        llm.call("hello")
    return llm

def kickoff():
    agent = Agent(role="R", goal="g", backstory="b", llm=call(0))
    task = Task(description="d", expected_output="x", agent=agent)
    Crew(agents=[agent], tasks=[task], name="c").kickoff()

kickoff()
# The child inherits the pool's count of idle threads, without the threads: work that a thread is
# said to be free for waits for ever. A thread that is still busy at the fork would hide that.
pool = getattr(crewai_event_bus, "_sync_executor", None)
deadline = time.monotonic() + 60
while pool is not None and not pool._idle_semaphore._value and time.monotonic() < deadline:
    time.sleep(0.01)
pid = os.fork()
if not pid:
    faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
    kickoff() if sys.argv[2] == "crew" else call(2)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def played(fake_provider, ledger, *words):
    return run_app(APP, *words, ledger=ledger, provider_url=fake_provider.url)


@pytest.mark.slow
def test_the_child_waits_in_crewai_without_us_too(fake_provider, tmp_path):
    """Where it waits without crewmeter, it may wait with it, and then in the same file of CrewAI.
    No frame of ours is on the stack of the thread that waits.
    """
    bare = played(fake_provider, tmp_path / "bare.db", "bare", "crew", "30")
    metered = played(fake_provider, tmp_path / "metered.db", "metered", "crew", "30")
    hangs = {"bare": bare.stdout.strip() != "0", "metered": metered.stdout.strip() != "0"}
    assert not hangs["metered"] or hangs["bare"], metered.stderr
    if hangs["metered"]:
        main = metered.stderr.split("Timeout (")[-1].split("Thread ")[-1]
        frames = re.findall(r'File "([^"]+)"', main)
        assert any("/crewai/" in frame for frame in frames)
        assert not [frame for frame in frames if OURS.search(frame)]


@pytest.mark.slow
def test_calls_of_the_child_are_metered_all_the_same(fake_provider, tmp_path):
    """A child that calls its model without the bus's threads: nothing hangs, nothing is lost."""
    ran = played(fake_provider, tmp_path / "ledger.db", "metered", "call", "120")
    assert ran.stdout.strip() == "0", ran.stderr
    assert len(ran.calls) == len(fake_provider.billing_log.billed) == 3
