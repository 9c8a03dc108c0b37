"""The largest avoidable costs, each with the calls or runs that show it.

Pure over billed calls.

Every figure is an upper bound of what could be saved and says how it was reached. Prompts are not in the ledger, so "the same
call again" means the same agent, model and token counts within one run.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from crewmeter.semconv import EMBEDDINGS
from crewmeter_cost.analysis.whatif import cached_usage
from crewmeter_cost.pricing.charge import Charge, charge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.ledger.read.calls import Billed
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["Saving", "savings"]

EXAMPLES = 5
"""Ids shown behind each saving."""
ENOUGH_CALLS = 20
"""An agent with fewer calls says nothing about how well its prompts could be cached."""
OVERSIZED = 4.0
"""A context is oversized at so many times the median input of the same agent on the same model."""
OVERSIZED_TOKENS = 8_000

_ADVICE = {
    "failed_runs": "runs that failed after spending; stop them earlier (crewmeter show RUN)",
    "cache_misses": "input that would be cheaper if this agent's prompts were cached as well as the best agent's on the same model",
    "repeated_calls": "the same agent, model and token counts again in one run: a retry or a loop; cache the answer or cap the iterations",
    "oversized_contexts": f"input beyond {OVERSIZED:g} times what this agent usually sends; trim or summarise it",
    "batchable": "not streamed, so nobody waited word by word; the batch tier sells the same tokens for less",
}


@dataclass(slots=True)
class Saving:
    """One kind of avoidable cost of one crew, agent or run name.

    `pusd` is integer pico-USD. `examples` are run or span ids, the most expensive first.
    """

    kind: str
    subject: str
    calls: int = 0
    pusd: int = 0
    behind: list[tuple[int, str]] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """What it is and what to do."""
        return _ADVICE[self.kind]

    @property
    def examples(self) -> list[str]:
        """The dearest calls or runs behind it."""
        return [name for _, name in sorted(self.behind, reverse=True)[:EXAMPLES]]

    def add(self, pusd: int, example: str) -> None:
        """One more call."""
        self.calls += 1
        self.pusd += pusd
        self.behind.append((pusd, example))
        if len(self.behind) > 20 * EXAMPLES:
            self.behind = sorted(self.behind, reverse=True)[:EXAMPLES]


class _Found(defaultdict[tuple[str, str], Saving]):
    def __missing__(self, key: tuple[str, str]) -> Saving:
        self[key] = saving = Saving(*key)
        return saving


def savings(
    calls: Callable[[], Iterable[Billed]],
    *,
    failed_runs: Collection[str],
    book: PriceBook,
    most: int = 10,
) -> list[Saving]:
    """Return the `most` largest avoidable costs, most expensive first.

    `calls` is read twice. `failed_runs` are ids of runs that ended in an error.
    """
    found = _Found()
    usual, best = _habits(calls())
    seen: set[tuple[object, ...]] = set()
    for call in calls():
        if not call.cost_pusd:
            continue
        record, cost = call.record, call.cost_pusd or 0
        agent = _subject(call)
        span = str(record["span_id"])
        if record["run_id"] in failed_runs:
            found["failed_runs", str(record["crew"] or record["flow"] or agent)].add(
                cost, str(record["run_id"])
            )
            continue
        again = (record["run_id"], agent, record["request_model"], call.usage, record["operation"])
        if record["run_id"] and again in seen and record["operation"] != EMBEDDINGS:
            found["repeated_calls", agent].add(cost, span)
            continue
        seen.add(again)
        _cheaper(found, call, agent, span, usual, best, book)
    return sorted(
        (saving for saving in found.values() if saving.pusd > 0),
        key=lambda saving: (-saving.pusd, saving.kind, saving.subject),
    )[:most]


def _cheaper(
    found: _Found,
    call: Billed,
    agent: str,
    span: str,
    usual: dict[tuple[str, str], float],
    best: dict[str, float],
    book: PriceBook,
) -> None:
    """What this call could have cost: less input, more of it cached, or in a batch."""
    model, tokens = str(call.record["request_model"]), call.usage.input or 0
    cost = call.cost_pusd or 0
    median_input = usual.get((agent, model))
    if median_input and tokens > max(OVERSIZED_TOKENS, OVERSIZED * median_input):
        trimmed = _priced(call, _scaled(call.usage, round(OVERSIZED * median_input)), book)
        if trimmed is not None and trimmed < cost:
            found["oversized_contexts", agent].add(cost - trimmed, span)
    share = best.get(model, 0.0)
    if tokens and call.usage.cache_read / tokens < share:
        cached = _priced(call, cached_usage(call.usage, share), book)
        if cached is not None and cached < cost:
            found["cache_misses", agent].add(cost - cached, span)
    if call.streamed is False and call.service_tier is None:
        batch = _priced(call, call.usage, book, tier="batch")
        if batch is not None and batch < cost:
            found["batchable", agent].add(cost - batch, span)


def _habits(calls: Iterable[Billed]) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Return median input by agent and model, and the best cached share by model.

    Only agents with enough calls count.
    """
    inputs: defaultdict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))
    cached: Counter[tuple[str, str]] = Counter()
    for call in calls:
        if call.cost_pusd and call.usage.input and call.record["operation"] != EMBEDDINGS:
            key = _subject(call), str(call.record["request_model"])
            inputs[key].append(call.usage.input)
            cached[key] += call.usage.cache_read
    enough = {key: values for key, values in inputs.items() if len(values) >= ENOUGH_CALLS}
    best: dict[str, float] = {}
    for (agent, model), values in enough.items():
        best[model] = max(best.get(model, 0.0), cached[agent, model] / sum(values))
    return {key: median(values) for key, values in enough.items()}, best


def _scaled(usage: TokenUsage, tokens: int) -> TokenUsage:
    """The same call with less input, the cached parts in proportion."""
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
    call: Billed, usage: TokenUsage, book: PriceBook, *, tier: str | None = None
) -> int | None:
    """Return what `usage` costs at the call's time, or None where it is not certain."""
    record = call.record
    outcome = charge(
        usage,
        book,
        provider=None if record["provider"] is None else str(record["provider"]),
        model=None if record["request_model"] is None else str(record["request_model"]),
        response_model=None if record["response_model"] is None else str(record["response_model"]),
        host=call.host,
        at_ns=call.started_ns,
        tier=tier or call.service_tier,
        operation=str(record["operation"]),
        duration_ns=call.duration_ns,
    )
    known = isinstance(outcome, Charge) and not {"tier_assumed", "cache_read_rate_missing"} & set(
        outcome.flags
    )
    return outcome.cost_pusd if known and isinstance(outcome, Charge) else None


def _subject(call: Billed) -> str:
    record = call.record
    return str(record["agent"] or record["crew"] or record["flow"] or "(no agent)")
