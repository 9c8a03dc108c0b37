"""One sample run span by span: tasks, agents, model and tool calls, failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.demo.history.workforce import EMBEDDER, Crew, Job, Model, Role, Tool
from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

__all__ = ["FailureRates", "run_spans"]

_NS = 10**9
_CHATTING_TEAM = "support"
"""Its runs of a day for one user are the turns of one conversation."""
_GROWTH = 0.35
"""How much of an answer and its tool result comes back as input in the next turn, relative to the
first prompt.
"""
_LONGEST = 12
"""Turns after which a conversation is trimmed and grows no more."""
_KILLED = 0.004
"""Share of runs whose process went away half-way: closed as abandoned, not finished."""
_LOOP_TURNS = 30
"""Model calls of an agent that has run into a loop, before its iteration limit stops it."""


@dataclass(frozen=True, slots=True)
class FailureRates:
    """What goes wrong around the time a run starts."""

    refusals: float = 0.01
    """Share of model calls the provider turns away first (429, 5xx)."""
    looping: bool = False
    """The researcher does not find its way out."""


@dataclass(slots=True)
class _Run:
    """A run under construction.

    `now` (nanoseconds since 1970) advances as its parts are added.
    """

    crew: Crew
    rng: Random
    failure_rates: FailureRates
    now: int
    trace_id: str
    run_id: str
    context: Mapping[str, object]
    resource: Mapping[str, object]
    spans: list[Span] = field(default_factory=list)

    def ident(self) -> str:
        return f"{self.rng.getrandbits(64) or 1:016x}"

    def lay(
        self,
        name: str,
        started: int,
        parent: str | None,
        attributes: Mapping[str, object],
        *,
        span_id: str = "",
        error: str | None = None,
    ) -> None:
        """Add a finished span from `started` to now."""
        merged = {**self.context, **attributes}
        if error:
            merged[semconv.ERROR_TYPE] = error
        self.spans.append(
            Span(
                trace_id=self.trace_id,
                span_id=span_id or self.ident(),
                parent_span_id=parent,
                name=name,
                started_ns=started,
                ended_ns=self.now,
                error=error is not None,
                attributes=merged,
                resource=self.resource,
                scope=semconv.SCOPE,
            )
        )

    def wait(self, seconds: float, spread: float = 0.35) -> None:
        """Let time pass: log-normal round `seconds`, the way service times are spread."""
        self.now += max(1_000_000, int(seconds * self.rng.lognormvariate(0, spread) * _NS))


def run_spans(crew: Crew, started_ns: int, rng: Random, failure_rates: FailureRates) -> list[Span]:
    """Return every span of one run, children before parents as exporters send them."""
    trace_id, run_id = f"{rng.getrandbits(128) or 1:032x}", f"{rng.getrandbits(64) or 1:016x}"
    name = crew.flow or crew.name
    context: dict[str, object] = {
        semconv.RUN_ID: run_id,
        semconv.RUN_KIND: semconv.KIND_FLOW if crew.flow else semconv.KIND_CREW,
        semconv.RUN_NAME: name,
        semconv.TEAM: crew.team,
        semconv.USER: rng.choice(crew.users),
        semconv.SESSION: f"s-{rng.getrandbits(32):08x}",
    }
    if crew.team == _CHATTING_TEAM:
        day = started_ns // (86_400 * _NS)
        context[semconv.SESSION] = f"chat-{context[semconv.USER]}-{day}"
    if crew.flow:
        context[semconv.FLOW] = crew.flow
    if crew.customers:
        context[semconv.TAG_PREFIX + "customer"] = rng.choice(crew.customers)
    environment = crew.environments[0] if rng.random() < 0.8 else crew.environments[-1]
    resource = {semconv.SERVICE_NAME: crew.service, semconv.ENVIRONMENT: environment}
    run = _Run(crew, rng, failure_rates, started_ns, trace_id, run_id, context, resource)
    failure = _in_flow(run, crew.flow) if crew.flow else _crew(run, None, run_id)
    if crew.flow:
        attributes = {
            semconv.KIND: semconv.KIND_FLOW,
            semconv.OPERATION: semconv.INVOKE_WORKFLOW,
            semconv.WORKFLOW_NAME: crew.flow,
        }
        run.lay(
            f"invoke_workflow {crew.flow}",
            started_ns,
            None,
            attributes,
            span_id=run_id,
            error=failure,
        )
    return run.spans


def _in_flow(run: _Run, flow: str) -> str | None:
    """Add the flow's methods: one prepares, one runs the crew."""
    started = run.now
    run.wait(0.05)
    run.lay("prepare", started, run.run_id, {semconv.KIND: semconv.KIND_METHOD})
    method, started = run.ident(), run.now
    failure = _crew(run, method, run.ident())
    run.lay(
        f"{flow}.work",
        started,
        run.run_id,
        {semconv.KIND: semconv.KIND_METHOD},
        span_id=method,
        error=failure,
    )
    return failure


def _crew(run: _Run, parent: str | None, span_id: str) -> str | None:
    """Add the crew's tasks in turn, and return the error type of an early end."""
    started = run.now
    crew = run.crew
    outer = run.context
    run.context = {**outer, semconv.CREW: crew.name}
    fails_at = run.rng.randrange(len(crew.jobs)) if run.rng.random() < crew.fails else None
    failure = None
    killed = run.rng.random() < _KILLED
    for index, job in enumerate(crew.jobs):
        if killed and index:
            break
        run.wait(0.02)
        failure = _task(run, job, span_id, doomed=index == fails_at)
        if failure:
            break
    attributes: dict[str, object] = {
        semconv.KIND: semconv.KIND_CREW,
        semconv.OPERATION: semconv.INVOKE_WORKFLOW,
        semconv.WORKFLOW_NAME: crew.name,
    }
    if killed:
        attributes[semconv.ABANDONED] = True
    run.lay(
        f"invoke_workflow {crew.name}", started, parent, attributes, span_id=span_id, error=failure
    )
    run.context = outer
    return failure


def _task(run: _Run, job: Job, parent: str, *, doomed: bool) -> str | None:
    started, outer = run.now, run.context
    task, agent = run.ident(), run.ident()
    run.context = {**outer, semconv.TASK: job.name, semconv.AGENT_NAME: job.role.name}
    for _ in range(run.crew.embeds):
        _embed(run, task)
    agent_started = run.now
    failure = _work(run, job.role, agent, doomed=doomed)
    about = {semconv.KIND: semconv.KIND_AGENT, semconv.OPERATION: semconv.INVOKE_AGENT}
    run.lay(
        f"invoke_agent {job.role.name}", agent_started, task, about, span_id=agent, error=failure
    )
    run.lay(
        f"task {job.name}",
        started,
        parent,
        {semconv.KIND: semconv.KIND_TASK},
        span_id=task,
        error=failure,
    )
    run.context = outer
    return failure


def _work(run: _Run, role: Role, agent: str, *, doomed: bool) -> str | None:
    """Add an agent's loop: model, tool, model … until the answer, or the error."""
    looping = run.failure_rates.looping and role.turns >= 5
    turns = _LOOP_TURNS if looping else max(1, role.turns + run.rng.choice((-1, 0, 0, 0, 1)))
    for turn in range(turns):
        last = turn == turns - 1
        if doomed and last:
            error = run.rng.choice(
                (
                    "APITimeoutError",
                    "RateLimitError",
                    "InternalServerError",
                    "ContextWindowExceeded",
                )
            )
            _refused(run, role.model, agent, error)
            return error
        if run.rng.random() < run.failure_rates.refusals:
            _refused(
                run,
                role.model,
                agent,
                run.rng.choice(("RateLimitError", "RateLimitError", "InternalServerError")),
            )
        _chat(run, role, agent, turn, last=last)
        if role.tools and not last:
            _tool(run, role.tools[turn % len(role.tools)], agent)
    return "MaxIterationsReached" if looping else None


def _about_call(model: Model) -> dict[str, object]:
    return {
        semconv.PROVIDER: model.provider,
        semconv.DECLARED_PROVIDER: model.provider,
        semconv.SERVER_ADDRESS: model.host,
        semconv.SERVER_PORT: 443,
        semconv.REQUEST_MODEL: model.name,
        semconv.CALL_ORIGIN: "event",
        semconv.USAGE_SOURCE: "wire",
    }


def _chat(run: _Run, role: Role, parent: str, turn: int, *, last: bool) -> None:
    """One answered model call."""
    model = role.model
    rng = run.rng
    started = run.now
    usage = _usage(role, turn, rng, last=last, cacheable=not run.failure_rates.looping)
    run.wait(model.first_token_s, 0.45)
    first_token = run.now
    run.wait((usage.output or 0) / model.tokens_per_s, 0.2)
    attributes = _about_call(model) | usage_attributes(usage)
    finish = "stop" if last else "tool_calls"
    if rng.random() < 0.008:
        finish = "length"
    attributes |= {
        semconv.OPERATION: semconv.CHAT,
        semconv.KIND: semconv.KIND_LLM,
        semconv.RESPONSE_MODEL: model.answers_as,
        semconv.RESPONSE_ID: f"resp-{rng.getrandbits(96):024x}",
        semconv.FINISH_REASONS: (finish,),
    }
    if model.tier:
        attributes[semconv.SERVICE_TIER] = model.tier
    if model.says_cost:
        rate_in, rate_out = model.says_cost
        attributes[semconv.REPORTED_COST_USD] = (
            f"{((usage.input or 0) * rate_in + (usage.output or 0) * rate_out) / 1e6:.9f}"
        )
    if role.streams:
        attributes[semconv.REQUEST_STREAM] = True
        attributes[semconv.TIME_TO_FIRST_TOKEN] = (first_token - started) / _NS
    run.lay(f"chat {model.name}", started, parent, attributes)


def _usage(role: Role, turn: int, rng: Random, *, last: bool, cacheable: bool) -> TokenUsage:
    """Return the tokens of a role's `turn`-th call.

    The conversation grows and the cache covers more of it, except in a loop, whose

    prompts), reasoning is part of the output.
    """
    model = role.model
    tokens_in = int(
        role.tokens_in * (1 + _GROWTH * min(turn, _LONGEST)) * rng.lognormvariate(0, 0.25)
    )
    tokens_out = max(8, int(role.tokens_out * (1.0 if last else 0.4) * rng.lognormvariate(0, 0.4)))
    read = written = 0
    if model.cached and rng.random() < 0.85 and cacheable:
        read = min(tokens_in, int(tokens_in * min(0.9, model.cached * (1 + 0.2 * turn)))) // 64 * 64
    if model.writes_cache:
        written = (tokens_in - read) * 3 // 5
    reasoning = int(tokens_out * model.reasoning)
    return TokenUsage(
        input=tokens_in,
        output=tokens_out,
        cache_read=read,
        cache_write_5m=written,
        reasoning=reasoning,
    )


def _refused(run: _Run, model: Model, parent: str, error: str) -> None:
    """Add a model call that returned no answer.

    What the provider billed is nothing where it refused, else unknown.
    """
    started = run.now
    run.wait(30.0 if error == "APITimeoutError" else 0.25)
    rejected = error != "APITimeoutError"
    usage = TokenUsage(status="missing", flags=("rejected",) if rejected else ())
    attributes = _about_call(model) | usage_attributes(usage)
    run.lay(
        f"chat {model.name}",
        started,
        parent,
        attributes | {semconv.OPERATION: semconv.CHAT, semconv.KIND: semconv.KIND_LLM},
        error=error,
    )
    run.wait(1.0)


def _embed(run: _Run, parent: str) -> None:
    """Add a memory or knowledge look-up, and the embedding call it makes."""
    started, memory = run.now, run.ident()
    run.wait(0.01)
    call_started = run.now
    run.wait(EMBEDDER.first_token_s, 0.3)
    usage = TokenUsage(
        input=int(260 * run.rng.lognormvariate(0, 0.8)) + 4,
        output=0,
    )
    attributes = _about_call(EMBEDDER) | usage_attributes(usage)
    attributes |= {
        semconv.OPERATION: semconv.EMBEDDINGS,
        semconv.KIND: semconv.KIND_EMBEDDING,
        semconv.RESPONSE_MODEL: EMBEDDER.answers_as,
        semconv.CALL_ORIGIN: "wire",
    }
    run.lay(f"embeddings {EMBEDDER.name}", call_started, memory, attributes)
    run.wait(0.02)
    run.lay("search_memory", started, parent, {semconv.KIND: semconv.KIND_MEMORY}, span_id=memory)


def _tool(run: _Run, tool: Tool, parent: str) -> None:
    """One tool call: from CrewAI's cache, failed and tried again, or simply done."""
    started, rng = run.now, run.rng
    cached = rng.random() < tool.cached
    failed = not cached and rng.random() < tool.fails
    seconds = tool.seconds * 4 if failed else tool.seconds
    if cached:
        seconds = 0.002
    run.wait(seconds, 0.5)
    attributes: dict[str, object] = {
        semconv.KIND: semconv.KIND_TOOL,
        semconv.OPERATION: semconv.EXECUTE_TOOL,
        semconv.TOOL_NAME: tool.name,
    }
    if cached:
        attributes[semconv.CACHED_RESULT] = True
    if failed:
        attributes[semconv.ATTEMPTS] = 3
    run.lay(
        f"execute_tool {tool.name}",
        started,
        parent,
        attributes,
        error=tool.error if failed else None,
    )
