"""What real crews do beside the plain run.

A question to a person, a guardrail, a wrong tool argument, training, testing, a silent model.
"""

from __future__ import annotations

import io
import sys

import pytest

pytest.importorskip("crewai")

from crewai import BaseLLM
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from crewai.tools import tool


def billed(fake_provider) -> list[tuple[int, int]]:
    """What the provider billed, as (input, output) tokens."""
    return sorted(
        (entry.usage.input, entry.usage.output) for entry in fake_provider.billing_log.billed
    )


def booked(meter) -> list[tuple[object, object]]:
    """What the ledger has, likewise."""
    return sorted((call["input_tokens"], call["output_tokens"]) for call in meter.calls())


def test_a_persons_wish_is_another_call_of_the_agent(
    meter, monkeypatch, fake_provider, worker, job, team
):
    """With `human_input` the answer is made again after feedback.

    Both calls are the agent's, and nothing stays open.
    """
    monkeypatch.setattr(sys, "stdin", io.StringIO("Make it shorter.\n\n"))
    team(job(worker(), human_input=True, name="write"), name="human").kickoff()
    assert booked(meter) == billed(fake_provider)
    assert len(meter.calls()) >= 2
    assert {(call["task"], call["agent"]) for call in meter.calls()} == {("write", "Researcher")}
    assert meter.still_open == 0


def test_a_guardrail_that_says_no_once_is_two_steps_and_two_calls(
    meter, fake_provider, worker, job, team
):
    """The first verdict is a refusal, the second lets it pass.

    The second answer is billed as well.
    """
    verdicts = iter([(False, "too long"), (True, "fine")])

    def brief(output):
        return next(verdicts)

    team(job(worker(), guardrail=brief, name="write"), name="guarded").kickoff()
    guards = [step for step in meter.steps() if step["kind"] == "guardrail"]
    assert ['"passed": false' in str(step["details"]) for step in guards] == [True, False]
    assert {step["status"] for step in guards} == {"ok"}
    assert len(meter.calls()) == 2
    assert booked(meter) == billed(fake_provider)
    assert meter.still_open == 0


def test_a_tool_called_with_wrong_arguments_is_a_failed_step(
    meter, fake_provider, worker, job, team
):
    """The model forgot an argument.

    The tool is a failed step of the agent, and the crew goes on.
    """

    @tool
    def fetch(url: str) -> str:
        """Fetch a page."""
        return url

    team(
        job(worker(tools=[fetch]), '[[tool:fetch {"uri": 1}]] [[say:never mind]]'), name="wrong"
    ).kickoff()
    tools = [step for step in meter.steps() if step["kind"] == "tool"]
    assert tools
    assert {step["status"] for step in tools} == {"error"}
    assert {step["name"] for step in tools} == {"fetch"}
    assert booked(meter) == billed(fake_provider)
    assert meter.still_open == 0


def test_training_is_a_run_with_its_crew_inside(
    meter, monkeypatch, tmp_path, fake_provider, worker, job, team
):
    """`crew.train` is the run.

    Its iterations are crews in it, and whatever it asks models is billed to it.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Better.\n"))
    crew = team(job(worker(), "[[say:hello]]", name="write"), name="trained")
    crew.train(n_iterations=1, filename="trained.pkl")
    roots = [step for step in meter.steps() if step["span_id"] == step["run"]]
    assert [(step["kind"], step["name"]) for step in roots] == [("train", "crew_train trained")]
    assert [step["name"] for step in meter.steps() if step["kind"] == "crew"] == ["trained"]
    assert booked(meter) == billed(fake_provider)
    assert {call["run"] for call in meter.calls()} == {roots[0]["span_id"]}
    assert meter.still_open == 0


def test_testing_is_a_run_and_pays_for_its_judge(meter, fake_provider, worker, job, team, llm):
    """`crew.test` is the run: the crew's calls and the evaluator's are billed to it."""
    crew = team(job(worker(), "[[say:hello]]", name="write"), name="tested")
    crew.test(n_iterations=1, eval_llm=llm)
    roots = [step for step in meter.steps() if step["span_id"] == step["run"]]
    assert [(step["kind"], step["name"]) for step in roots] == [("test", "crew_test tested")]
    assert booked(meter) == billed(fake_provider)
    assert {call["run"] for call in meter.calls()} == {roots[0]["span_id"]}
    assert meter.still_open == 0


class Counting(BaseLLM):
    """A model behind a transport nobody sees, whose events say nothing of tokens, but which counts
    them.
    """

    def call(
        self,
        messages,
        tools=None,
        callbacks=None,
        available_functions=None,
        from_task=None,
        from_agent=None,
        response_model=None,
    ):
        """Answer.

        Start and end have different call ids, as CrewAI gives them to whoever does not know its
        `llm_call_context`.
        """
        self._emit_call_started_event(messages, from_task=from_task, from_agent=from_agent)
        self._track_token_usage_internal(
            {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730}
        )
        self._emit_call_completed_event(
            "hello", LLMCallType.LLM_CALL, from_task=from_task, from_agent=from_agent
        )
        return "Thought: I know.\nFinal Answer: hello"


class Knowing(Counting):
    """The same, under one call id."""

    def call(self, *arguments, **more):
        with llm_call_context():
            return super().call(*arguments, **more)


@pytest.mark.parametrize("kind", [Counting, Knowing])
def test_a_silent_models_own_counter_is_booked(meter, worker, job, team, kind):
    """Neither the event nor the wire has usage.

    What the object's counter gained is the call's, and says where it is from.
    """
    model = kind(model="gpt-4o-mini", provider="openai")
    team(
        job(worker(llm=model), name="write"),
        job(worker("Writer", llm=model), name="check"),
        name="silent",
    ).kickoff()
    calls = meter.calls()
    assert [
        (call["input_tokens"], call["output_tokens"], call["usage_status"]) for call in calls
    ] == [(700, 30, "reconciled")] * 2
    summary = model.get_token_usage_summary()
    assert (summary.prompt_tokens, summary.completion_tokens) == (1400, 60)
    assert all(call["cost_pusd"] for call in calls)
    assert meter.still_open == 0
