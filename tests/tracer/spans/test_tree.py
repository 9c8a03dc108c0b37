"""The tree of a run, for every way CrewAI has to start one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("crewai")

from crewai import Crew, Process
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SIMPLE = {
    "-": ["crew:demo"],
    "crew:demo": ["task:task 1", "task:write"],
    "task:task 1": ["agent:Researcher"],
    "task:write": ["agent:Writer"],
    "agent:Researcher": ["llm"],
    "agent:Writer": ["llm"],
}


@pytest.fixture
def two(worker, job, team):
    """A crew of two agents with a task each, one of them without a name."""
    return team(job(worker()), job(worker("Writer"), name="write"), name="demo")


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff"])
def test_a_crew_is_run_task_agent_call(meter, two, how):
    """However it is started, a crew's calls are below their agent, task and run."""
    result = getattr(two, how)()
    if how != "kickoff":
        asyncio.run(result)
    assert meter.tree() == SIMPLE
    assert meter.still_open == 0
    run = next(step["span_id"] for step in meter.steps() if step["kind"] == "crew")
    assert {call["run"] for call in meter.calls()} == {run}
    assert [(call["crew"], call["task"], call["agent"]) for call in meter.calls()] == [
        ("demo", "task 1", "Researcher"),
        ("demo", "write", "Writer"),
    ]


def test_every_input_of_kickoff_for_each_is_a_run(meter, two):
    """Three inputs are three runs of two calls each."""
    two.kickoff_for_each([{"n": 1}, {"n": 2}, {"n": 3}])
    runs = [call["run"] for call in meter.calls()]
    assert len(runs) == 6
    assert sorted(map(runs.count, set(runs))) == [2, 2, 2]
    assert meter.still_open == 0


def test_async_tasks_stay_in_their_crew(meter, worker, job, team):
    """Tasks on threads of their own are children of the crew, and their calls of their agents."""
    tasks = [job(worker(f"A{n}"), name=f"t{n}", async_execution=True) for n in range(3)]
    team(*tasks, job(worker("Last"), name="last", context=tasks), name="demo").kickoff()
    tree = meter.tree()
    assert sorted(tree["crew:demo"]) == ["task:last", "task:t0", "task:t1", "task:t2"]
    assert tree["agent:A1"] == ["llm"]
    assert meter.still_open == 0


def test_a_delegated_task_is_below_the_tool_that_delegates(meter, llm, worker, job):
    """Hierarchical process.

    The coworker's agent span is a child of the manager's delegation tool.
    """
    ask = (
        '[[tool:delegate_work_to_coworker {"task": "look", "context": "c", "coworker": '
        '"Researcher"}]] [[say:done]]'
    )
    Crew(
        agents=[worker()],
        tasks=[job(None, ask)],
        process=Process.hierarchical,
        manager_llm=llm,
        name="boss",
    ).kickoff()
    tree = meter.tree()
    delegated = tree["tool:delegate_work_to_coworker"]
    assert "agent:Researcher" in delegated or tree[delegated[0]] == ["agent:Researcher"]
    assert tree["agent:Researcher"] == ["llm"]
    assert tree["-"] == ["crew:boss"]
    assert meter.still_open == 0


def test_a_flow_holds_its_methods_and_their_crews(meter, worker, job, team):
    """A flow is the run.

    Crews started in its methods are below the method, and the agent executor's own flow is not
    seen.
    """

    class Planning(Flow):
        @start()
        def begin(self):
            return team(job(worker(), name="t"), name="inner").kickoff().raw

        @listen(begin)
        async def then(self, text):
            return (await team(job(worker("Second"), name="u"), name="later").akickoff()).raw

    Planning().kickoff()
    tree = meter.tree()
    assert tree["-"] == ["flow:Planning"]
    assert tree["flow:Planning"] == ["flow_method:begin", "flow_method:then"]
    assert tree["flow_method:begin"] == ["crew:inner"]
    assert tree["flow_method:then"] == ["crew:later"]
    assert {call["flow"] for call in meter.calls()} == {"Planning"}
    assert len({call["run"] for call in meter.calls()}) == 1
    assert meter.still_open == 0


def test_an_agent_by_itself_is_a_run(meter, worker):
    """`Agent.kickoff` is a run of kind agent."""
    worker("Solo").kickoff("hello")
    assert meter.tree() == {"-": ["agent:Solo"], "agent:Solo": ["llm"]}
    call = meter.calls()[0]
    assert call["run"] == meter.steps()[0]["span_id"]
    assert meter.still_open == 0


def test_a_bare_call_is_in_no_run(meter, llm):
    """`LLM.call` outside everything is billed, in no run."""
    llm.call("hello")
    (call,) = meter.calls()
    assert (call["run"], call["parent_span_id"], call["provider"], call["request_model"]) == (
        None,
        None,
        "openai",
        "gpt-4o-mini",
    )


def test_calls_in_threads_a_tool_starts_are_the_tools(meter, worker, job, team, llm):
    """Plain threads and thread pools begin with an empty context.

    Their calls still belong to the tool that started them.
    """

    @tool
    def spread(q: str) -> str:
        """Ask twice, in threads."""
        thread = threading.Thread(target=llm.call, args=("one",))
        thread.start()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(llm.call, "two").result()
        thread.join()
        return "done"

    team(
        job(worker(tools=[spread]), '[[tool:spread {"q": "x"}]] [[say:fine]]'), name="demo"
    ).kickoff()
    assert meter.tree()["tool:spread"] == ["llm", "llm"]
    assert [call["tool"] for call in meter.calls()].count("spread") == 2
    assert len({call["run"] for call in meter.calls()}) == 1


def test_a_shared_pool_never_mixes_runs(meter, worker, job, team, llm):
    """A pool made in one run and used in the next gives each call to the run that submitted it."""
    pool = ThreadPoolExecutor(1)

    @tool
    def pooled(q: str) -> str:
        """Ask in a pool."""
        return pool.submit(llm.call, q).result()

    for name in ("first", "second"):
        team(
            job(worker(tools=[pooled]), '[[tool:pooled {"q": "x"}]] [[say:fine]]'), name=name
        ).kickoff()
    pool.shutdown()
    by_run: dict[object, set[object]] = {}
    for call in meter.calls():
        by_run.setdefault(call["run"], set()).add(call["crew"])
    assert list(by_run.values()) == [{"first"}, {"second"}]


def test_a_crew_in_a_tool_is_a_node_of_the_outer_run(meter, worker, job, team):
    """The inner crew's calls carry their own crew, task and agent, and the outer run's id."""

    @tool
    def experts(q: str) -> str:
        """Ask another crew."""
        return team(job(worker("Expert"), name="answer"), name="experts").kickoff().raw

    team(
        job(
            worker("Lead", tools=[experts]), '[[tool:experts {"q": "why"}]] [[say:so]]', name="ask"
        ),
        name="leads",
    ).kickoff()
    tree = meter.tree()
    assert tree["tool:experts"] == ["crew:experts"]
    inner = next(call for call in meter.calls() if call["crew"] == "experts")
    assert (inner["task"], inner["agent"], inner["tool"]) == ("answer", "Expert", "experts")
    assert len({call["run"] for call in meter.calls()}) == 1


def test_spans_of_others_nest_both_ways(meter, worker, job, team):
    """A request's span is the run's parent; a span opened inside a tool is the tool's child."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("app")

    @tool
    def fetch(q: str) -> str:
        """Pretend to fetch."""
        with tracer.start_as_current_span("GET /things"):
            return "ok"

    with tracer.start_as_current_span("POST /ask") as request:
        team(
            job(worker(tools=[fetch]), '[[tool:fetch {"q": "x"}]] [[say:fine]]'), name="demo"
        ).kickoff()
        assert trace.get_current_span() is request
    steps = {step["kind"]: step for step in meter.steps()}
    inner = next(span for span in memory.get_finished_spans() if span.name == "GET /things")
    assert f"{inner.parent.span_id:016x}" == steps["tool"]["span_id"]
    assert steps["crew"]["parent_span_id"] == f"{request.get_span_context().span_id:016x}"
    assert {step["trace_id"] for step in meter.steps()} == {
        f"{request.get_span_context().trace_id:032x}"
    }


def test_whatever_raises_leaves_nothing_open(meter, worker, job, team):
    """A refused call fails its run; every span is closed, as an error with a type and no text."""
    with pytest.raises(Exception, match="400"):
        team(job(worker(max_retry_limit=0), "[[fail:400 x9]]"), name="doomed").kickoff()
    steps = meter.steps()
    assert {(step["kind"], step["status"]) for step in steps} == {
        ("crew", "error"),
        ("task", "error"),
        ("agent", "error"),
    }
    assert all(step["error_type"] == "BadRequestError" for step in steps)
    assert {call["status"] for call in meter.calls()} == {"error"}
    assert meter.still_open == 0
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_gather_of_crews_keeps_runs_apart(meter, worker, job, team):
    """Twenty crews in one event loop, a third of them failing.

    Each run has its own calls only, and nothing stays open.
    """

    async def main():
        crews = []
        for number in range(20):
            text = "[[fail:400 x9]]" if number % 3 == 0 else "[[usage:in=1000 read=0 out=10]] hello"
            crews.append(
                team(job(worker(f"A{number}", max_retry_limit=0), text), name=f"crew {number}")
            )
        return await asyncio.gather(*(crew.akickoff() for crew in crews), return_exceptions=True)

    results = asyncio.run(main())
    assert sum(isinstance(result, Exception) for result in results) == 7
    calls = meter.calls()
    assert {call["agent"]: call["crew"] for call in calls} == {
        f"A{n}": f"crew {n}" for n in range(20)
    }
    runs: dict[object, set[object]] = {}
    for call in calls:
        runs.setdefault(call["run"], set()).add(call["crew"])
    assert len(runs) == 20
    assert all(len(crews) == 1 for crews in runs.values())
    assert meter.still_open == 0
