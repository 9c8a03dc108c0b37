"""The largest avoidable costs.

Each with the calls or runs that show it. Pure over billed calls.

Every amount is an upper bound of what could be saved, with the figures that prove it. Prompts are
not in the ledger, so "the same call again" means the same agent, model and token counts within one
run.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from crewmeter.semconv import EMBEDDINGS
from crewmeter_cost.analysis.whatif import cached_usage
from crewmeter_cost.formatting import counted
from crewmeter_cost.pricing.charge import Charge, charge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.ledger.read.calls import BilledCall
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["Saving", "savings"]

EXAMPLES = 5
"""Ids listed with each saving."""
ENOUGH_CALLS = 20
"""An agent with fewer calls says nothing about how well its prompts could be cached."""
OVERSIZED = 4.0
"""A context is oversized at so many times the median input of the same agent on the same model."""
OVERSIZED_TOKENS = 8_000

_ADVICE = {
    "failed_runs": "runs that failed after spending; stop them earlier (crewmeter show RUN)",
    "cache_misses": "input that would be cheaper if this agent's prompts were cached as well as "
    "the best agent's on the same model",
    "repeated_calls": "the same agent, model and token counts again in one run: a retry or a loop; "
    "cache the answer or cap the iterations",
    "oversized_contexts": f"input beyond {OVERSIZED:g} times what this agent usually sends; trim "
    "or summarise it",
    "batchable": "not part of an agent's loop and not streamed; if no user waits for the answer, "
    "the batch tier sells the same tokens for less",
}
_UNCERTAIN_FLAGS = frozenset({"tier_assumed", "cache_read_rate_missing"})


@dataclass(slots=True)
class Saving:
    """One kind of avoidable cost of one crew, agent or operation, in pico-USD."""

    kind: str
    subject: str
    calls: int = 0
    pusd: int = 0
    evidence: str = ""
    """The figures that prove it, in words."""
    runs: set[str] = field(default_factory=set)
    largest: list[tuple[int, str]] = field(default_factory=list)
    """The most expensive calls or runs, with their pico-USD."""

    @property
    def advice(self) -> str:
        """What it is and what to do."""
        return _ADVICE[self.kind]

    @property
    def examples(self) -> list[str]:
        """The most expensive calls or runs behind it."""
        ranked = sorted(self.largest, reverse=True)
        return list(dict.fromkeys(name for _, name in ranked))[:EXAMPLES]

    def add(self, pusd: int, example: str, run_id: object) -> None:
        """Add one call."""
        self.calls += 1
        self.pusd += pusd
        if run_id is not None:
            self.runs.add(str(run_id))
        self.largest.append((pusd, example))
        if len(self.largest) > 20 * EXAMPLES:
            self.largest = sorted(self.largest, reverse=True)[:EXAMPLES]


class _Found(defaultdict[tuple[str, str], Saving]):
    def __missing__(self, key: tuple[str, str]) -> Saving:
        self[key] = saving = Saving(*key)
        return saving


class _CacheUse(NamedTuple):
    """The best share of cached input on one model, and who reached it."""

    share: float
    agent: str


@dataclass(frozen=True, slots=True)
class _Habits:
    """Usual input by agent and model, cached shares, and the best by model."""

    input_tokens: Mapping[tuple[str, str], float]
    cached_share: Mapping[tuple[str, str], float]
    best_cache: Mapping[str, _CacheUse]


def savings(
    calls: Callable[[], Iterable[BilledCall]],
    *,
    failed_runs: Collection[str],
    book: PriceBook,
    most: int = 10,
) -> list[Saving]:
    """Return the `most` largest avoidable costs, most expensive first.

    `calls` is read twice. `failed_runs` are the ids of runs that ended in an error.
    """
    found = _Found()
    habits = _habits(calls())
    seen: set[tuple[object, ...]] = set()
    run_ids: set[object] = set()
    for call in calls():
        run_ids.add(call.record["run_id"])
        if call.cost_pusd:
            _add_call(found, call, failed_runs, seen, habits, book)
    for saving in found.values():
        saving.evidence = _evidence(
            saving,
            habits,
            runs=len(run_ids),
        )
    avoidable = [saving for saving in found.values() if saving.pusd > 0]
    avoidable.sort(key=lambda saving: (-saving.pusd, saving.kind, saving.subject))
    return avoidable[:most]


def _add_call(
    found: _Found,
    call: BilledCall,
    failed_runs: Collection[str],
    seen: set[tuple[object, ...]],
    habits: _Habits,
    book: PriceBook,
) -> None:
    """Add one call to the savings that it is part of."""
    record = call.record
    cost = call.cost_pusd or 0
    agent = _subject(call)
    run_id = record["run_id"]
    if run_id in failed_runs:
        crew = str(record["crew"] or record["flow"] or agent)
        found["failed_runs", crew].add(
            cost,
            str(run_id),
            run_id,
        )
        return
    again = (run_id, agent, record["request_model"], call.usage, record["operation"])
    if run_id and again in seen and record["operation"] != EMBEDDINGS:
        found["repeated_calls", agent].add(
            cost,
            str(record["span_id"]),
            run_id,
        )
        return
    seen.add(again)
    _add_cheaper(found, call, habits, book)


def _add_cheaper(found: _Found, call: BilledCall, habits: _Habits, book: PriceBook) -> None:
    """Add what this call could have saved by less input, caching or a batch."""
    record = call.record
    agent = _subject(call)
    model = str(record["request_model"])
    tokens = call.usage.input or 0
    ways: dict[str, int | None] = {}
    usual = habits.input_tokens.get((agent, model))
    if usual and tokens > max(OVERSIZED_TOKENS, OVERSIZED * usual):
        trimmed = _scaled(
            call.usage,
            round(OVERSIZED * usual),
        )
        ways["oversized_contexts"] = _priced(call, trimmed, book)
    best = habits.best_cache.get(model)
    if best and tokens and call.usage.cache_read / tokens < best.share:
        ways["cache_misses"] = _priced(
            call,
            cached_usage(call.usage, best.share),
            book,
        )
    if record["agent"] is None and not call.streamed and call.service_tier is None:
        # A step of an agent's loop waits for the answer before it, and a batch takes hours.
        ways["batchable"] = _priced(
            call,
            call.usage,
            book,
            tier="batch",
        )
    cost = call.cost_pusd or 0
    for kind, cheaper in ways.items():
        if cheaper is not None and cheaper < cost:
            saved = cost - cheaper
            found[kind, agent].add(
                saved,
                str(record["span_id"]),
                record["run_id"],
            )


def _evidence(saving: Saving, habits: _Habits, *, runs: int) -> str:
    """Return the figures that prove a saving."""
    calls = counted(saving.calls, "call")
    in_runs = f"in {counted(len(saving.runs), 'run')}"
    if saving.kind == "failed_runs":
        return f"{calls} in {counted(len(saving.runs), 'failed run')} of {runs:,}"
    if saving.kind == "repeated_calls":
        return f"{calls} repeat an identical one {in_runs}"
    if saving.kind == "cache_misses":
        return _cache_evidence(saving.subject, habits)
    if saving.kind == "oversized_contexts":
        usual = max(
            (value for (agent, _), value in habits.input_tokens.items() if agent == saving.subject),
            default=0,
        )
        return f"{calls} over {OVERSIZED * usual:,.0f} input tokens; the median is {usual:,.0f}"
    return f"{calls} outside an agent's loop, on the standard tier"


def _cache_evidence(agent: str, habits: _Habits) -> str:
    """Return an agent's cached share beside the best one, model by model."""
    parts = []
    for (name, model), share in habits.cached_share.items():
        best = habits.best_cache.get(model)
        if name == agent and best is not None and best.agent != agent:
            parts.append(f"{share:.0%} of input cached on {model}, {best.agent} {best.share:.0%}")
    return "; ".join(parts) or "less cached than the best agent on the model"


def _habits(calls: Iterable[BilledCall]) -> _Habits:
    """Return what is usual, over agents with enough calls."""
    inputs: defaultdict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))
    cached: Counter[tuple[str, str]] = Counter()
    for call in calls:
        usage = call.usage
        is_chat = call.record["operation"] != EMBEDDINGS
        if call.cost_pusd and usage.input and is_chat:
            model = str(call.record["request_model"])
            key = (_subject(call), model)
            inputs[key].append(usage.input)
            cached[key] += usage.cache_read
    usual: dict[tuple[str, str], float] = {}
    shares: dict[tuple[str, str], float] = {}
    best: dict[str, _CacheUse] = {}
    for key, values in inputs.items():
        if len(values) < ENOUGH_CALLS:
            continue
        usual[key] = median(values)
        share = cached[key] / sum(values)
        shares[key] = share
        agent, model = key
        if model not in best or share > best[model].share:
            best[model] = _CacheUse(share, agent)
    return _Habits(usual, shares, best)


def _scaled(usage: TokenUsage, tokens: int) -> TokenUsage:
    """Return the same call with less input, the cached parts in proportion."""
    share = tokens / (usage.input or 1)
    return replace(
        usage,
        input=tokens,
        input_audio=0,
        input_image=0,
        cache_read=int(usage.cache_read * share),
        cache_write_5m=int(usage.cache_write_5m * share),
        cache_write_1h=int(usage.cache_write_1h * share),
    )


def _priced(
    call: BilledCall, usage: TokenUsage, book: PriceBook, *, tier: str | None = None
) -> int | None:
    """Return what `usage` costs at that time, None where that is uncertain."""
    record = call.record
    outcome = charge(
        usage,
        book,
        provider=_text(record["provider"]),
        model=_text(record["request_model"]),
        response_model=_text(record["response_model"]),
        host=call.host,
        at_ns=call.started_ns,
        tier=tier or call.service_tier,
        operation=str(record["operation"]),
        duration_ns=call.duration_ns,
    )
    if isinstance(outcome, Charge) and not _UNCERTAIN_FLAGS & set(outcome.flags):
        return outcome.cost_pusd
    return None


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value)


def _subject(call: BilledCall) -> str:
    """Return who made a call: the agent, else the crew or flow."""
    record = call.record
    return str(record["agent"] or record["crew"] or record["flow"] or "(no agent)")
