"""What the ledger says against what the provider billed, for every way to start a crew."""

from __future__ import annotations

import pytest
from support.apps_python import has
from support.invoice import billed_lines, ledger_lines

from crewmeter_cost.demo.fake_provider import FakeProvider

pytestmark = [
    pytest.mark.skipif(not has("crewai"), reason="crewai is not installed"),
    pytest.mark.slow,
]

EXACT = [
    "simple",
    "with_tool",
    "tool_error",
    "streaming",
    "failing",
    "retried",
    "flow",
    "nested",
    "hierarchical",
    "agent_kickoff",
    "bare_call",
    "for_each",
    "akickoff",
    "structured",
    "garbage",
    "direct",
    "memory",
    "knowledge",
    "guardrail",
    "sixty_four",
    "planning",
    "reasoning",
    "stream_crew",
    "parallel_flow",
    "tool_threads",
    "tool_cache",
    "dropped",
    "for_each_async",
    "own_llm",
    "converter",
    "many_runs",
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory, perform_apps):
    """Every app, played once."""
    with FakeProvider() as fake_provider:
        yield perform_apps(
            [*EXACT, "cut", "timed_out", "cancelled"],
            tmp_path_factory.mktemp("books"),
            fake_provider,
        )


@pytest.mark.parametrize("app", EXACT)
def test_every_exchange_is_charged_once_and_exactly(stage, app):
    """Tokens and cost of every exchange equal the server's own books, to the token and the
    pico-dollar.
    """
    billed, rows = stage.of(app)
    assert stage.played[app].error is None
    assert ledger_lines(rows) == billed_lines(billed)


@pytest.mark.parametrize("app", EXACT)
def test_totals_add_up_to_the_invoice(stage, app):
    """The sum of the ledger's costs is the invoice."""
    billed, rows = stage.of(app)
    assert sum(int(row["cost_pusd"]) for row in rows if row["cost_pusd"] is not None) == sum(
        line[-1] * n for line, n in billed_lines(billed).items()
    )


def test_response_ids_are_the_providers(stage):
    """Where the provider names a response, the row carries that name, and no name stands twice."""
    ids = [row["response_id"] for row in stage.rows if row["response_id"]]
    billed = {entry.response_id for entry in stage.fake_provider.billing_log.billed}
    assert len(ids) == len(set(ids))
    assert set(ids) <= billed


def test_refused_calls_are_rows_without_a_price(stage):
    """A call the provider refused is in the ledger as failed, with no cost rather than a cost of
    0.
    """
    billed, rows = stage.of("failing")
    assert billed == []
    assert rows
    assert {(row["status"], row["cost_pusd"]) for row in rows} == {("error", None)}


def test_a_cut_stream_is_never_free(stage):
    """A stream that broke off was billed: its row is estimated or unknown, not a reported zero."""
    billed, rows = stage.of("cut")
    assert len(billed) == 1
    assert rows
    assert all(
        row["usage_status"] in ("estimated", "missing") and row["cost_pusd"] != 0 for row in rows
    )


def test_nothing_is_left_open(stage):
    """After the last app no step is marked abandoned."""
    assert [step for step in stage.steps if "abandoned" in str(step["details"])] == []


def test_sixty_four_crews_keep_apart(stage):
    """Each of 64 concurrent crews (and 16 threaded ones) has a run of its own, holding its own two
    calls and its one agent.
    """
    _, rows = stage.of("sixty_four")
    runs: dict[object, list[dict[str, object]]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    assert len(runs) == 80
    for calls in runs.values():
        number = str(calls[0]["crew"]).removeprefix("crew-")
        assert [(row["crew"], row["agent"]) for row in calls] == [
            (f"crew-{number}", f"Worker {number}")
        ] * 2
        assert {row["input_tokens"] for row in calls} == {1000 + int(number)}


def test_every_call_of_a_crew_knows_its_context(stage):
    """Crew, task and agent stand on each chat row of a plain crew."""
    for app in ("simple", "with_tool", "streaming", "for_each"):
        for row in stage.of(app)[1]:
            assert row["agent"], app
            assert row["task"], app
            assert row["run"], app


def test_streamed_calls_have_a_first_token(stage):
    """A streamed answer knows its time to the first token, and it is shorter than the call."""
    _, rows = stage.of("streaming")
    assert rows
    assert all(0 < int(row["ttft_ns"]) <= int(row["duration_ns"]) for row in rows)


def test_embeddings_belong_to_the_crew_that_caused_them(stage):
    """Embeddings of memory and knowledge are rows of their crew's run."""
    for app, crew in (("memory", "keepers"), ("knowledge", "readers")):
        embeddings = [row for row in stage.of(app)[1] if row["operation"] == "embeddings"]
        assert embeddings, app
        assert crew in {row["crew"] for row in embeddings}, app


def test_a_call_inside_a_tool_is_the_tools(stage):
    """A completion that a tool makes with the provider's own SDK is charged to that tool's crew,
    agent and tool.
    """
    _, rows = stage.of("direct")
    inside = [row for row in rows if row["request_model"] in ("gpt-4o", "text-embedding-3-small")]
    assert [(row["tool"], row["agent"]) for row in inside] == [("second_opinion", "Researcher")] * 2


def test_a_run_is_one_tree(stage):
    """Every step and call of a nested run (flow, crew, agent, tool, crew, agent) hangs below the
    flow's span.
    """
    steps, (_, rows) = stage.steps_of("nested"), stage.of("nested")
    assert len({step["run"] for step in steps} | {row["run"] for row in rows}) == 1
    ids = {step["span_id"] for step in steps}
    roots = [step["kind"] for step in steps if step["parent_span_id"] not in ids]
    assert roots == ["flow"]
    assert all(row["parent_span_id"] in ids for row in rows)


def test_tool_errors_are_seen(stage):
    """A tool that raises is a failed tool step."""
    tools = [step for step in stage.steps_of("tool_error") if step["kind"] == "tool"]
    assert [step["status"] for step in tools] == ["error"]


def test_an_unanswered_call_says_that_it_may_be_billed(stage):
    """A request the client gave up on has no usage and no cost, and its row says why."""
    billed, rows = stage.of("timed_out")
    assert len(billed) == 1
    assert [(row["status"], row["usage_status"], row["cost_pusd"]) for row in rows] == [
        ("error", "missing", None)
    ]
    assert "may_be_billed" in str(rows[0]["cost_flags"])


def test_a_cancelled_kickoff_is_never_free(stage):
    """What a cancelled crew was billed for is charged or stands there as unknown.

    Versions differ in whether the call goes on.
    """
    billed, rows = stage.of("cancelled")
    assert ledger_lines(rows) == billed_lines(
        [entry for entry in billed if entry.response_id in {row["response_id"] for row in rows}]
    )
    assert [row["agent"] for row in rows] == ["Slow", "Quick"]
    assert all(row["cost_pusd"] or row["usage_status"] == "missing" for row in rows)


def test_parallel_branches_stay_in_one_run(stage):
    """Branches of a flow that run at once keep their crews' names and share the flow's run."""
    _, rows = stage.of("parallel_flow")
    assert len({row["run"] for row in rows}) == 1
    assert {(row["crew"], row["input_tokens"]) for row in rows} == {
        ("left-crew", 310),
        ("right-crew", 320),
        (None, 330),
    }


def test_calls_in_threads_a_tool_starts_belong_to_it(stage):
    """Threads that a tool starts with the caller's context carry the tool's context."""
    _, rows = stage.of("tool_threads")
    inside = [row for row in rows if row["request_model"] == "gpt-4o"]
    assert [(row["crew"], row["tool"]) for row in inside] == [("pollsters", "poll")] * 4
    assert len({row["run"] for row in rows}) == 1


def test_a_cached_tool_result_is_marked(stage):
    """A tool step says that it came from CrewAI's cache exactly where the tool did not run.

    CrewAI 1.15 runs it again, 1.13 does not.
    """
    _, rows = stage.of("tool_cache")
    really_ran = [row["parent_span_id"] for row in rows if row["request_model"] == "gpt-4o"]
    tools = [step for step in stage.steps_of("tool_cache") if step["kind"] == "tool"]
    assert len(tools) == 3
    for step in tools:
        assert ("cached" in str(step["details"])) is (step["span_id"] not in really_ran)


def test_attribution_reaches_every_call(stage):
    """User, team and tags of the enclosing block stand on each call."""
    _, rows = stage.of("many_runs")
    for number, row in enumerate(sorted(rows, key=lambda row: int(str(row["input_tokens"])))):
        assert (row["user"], row["team"]) == (f"user-{number % 3}", f"team-{number % 2}")
        assert f"c-{number % 5}" in str(row["tags"])
