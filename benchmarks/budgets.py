"""What a budget's guard costs, and how far a shared hard budget is overshot.

``python benchmarks/budgets.py`` prints the time of one reserve + settle with no budget near and
with no budget at all, and the overshoot of a hard budget in one process, in 4 processes with 8
threads each, and of a real crew against a fake provider, beside their limits.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from crewmeter import semconv
from crewmeter.budget_hook.before_call import BeforeCallHook
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.enforcement import BudgetEnforcer, Reservation
from crewmeter_cost.budgets.loader import guard
from crewmeter_cost.budgets.local_balance import LocalBalanceStore
from crewmeter_cost.budgets.reservations import BudgetRefusal
from crewmeter_cost.demo.fake_provider import FakeProvider
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

CALL = {
    semconv.OPERATION: "chat",
    semconv.PROVIDER: "openai",
    semconv.REQUEST_MODEL: "gpt-4o-mini",
    semconv.AGENT_NAME: "Writer",
}
ENDED = {**CALL, **usage_attributes(TokenUsage(input=1000, output=166))}
COST = 249_600_000
PROCESSES, THREADS = 4, 8


def guard_for(path: str, budget: str) -> BudgetEnforcer:
    return BudgetEnforcer(
        [parse_budget(budget)],
        balance_store=LocalBalanceStore(Ledger.open(path).engine),
        book=PriceBook.load(),
    )


def microseconds(path: str) -> float:
    """Median of one reserve + settle far from the limit."""
    keeper = guard_for(path, "1000000 USD/day")
    samples = []
    for _ in range(5000):
        begun = time.perf_counter_ns()
        reservation = keeper.reserve(CALL, input_chars=3000)
        assert isinstance(reservation, Reservation), reservation
        keeper.settle(reservation, ENDED)
        samples.append(time.perf_counter_ns() - begun)
    keeper.close()
    return statistics.median(samples) / 1e3


def work(path: str, budget: str, threads: int, queue: multiprocessing.Queue[int]) -> None:
    """One process: threads that call until the guard refuses. Reports (calls, spent)."""
    keeper = guard_for(path, budget)

    def calls(_: int) -> int:
        made = 0
        while not isinstance(reservation := keeper.reserve(CALL, input_chars=3000), BudgetRefusal):
            time.sleep(0.002)  # the call itself
            keeper.settle(reservation, ENDED)
            made += 1
        return made

    with ThreadPoolExecutor(threads) as pool:
        made = sum(pool.map(calls, range(threads)))
    keeper.close()
    queue.put(made)


def overshoot(path: str, budget: str, processes: int, threads: int) -> tuple[int, int]:
    """Return (calls made, pico-USD spent beyond the limit; negative is below)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    running = [
        context.Process(target=work, args=(path, budget, threads, queue)) for _ in range(processes)
    ]
    for process in running:
        process.start()
    calls = sum(queue.get(timeout=120) for _ in running)
    for process in running:
        process.join()
    return calls, calls * COST - parse_budget(budget).amount_pusd


def idle_microseconds(path: str) -> float:
    """Median of checking a call while no budget is active, for a call that begins and ends."""
    before_call = BeforeCallHook(guard(None, ledger=path), {})
    node = SimpleNamespace(call=SimpleNamespace(reservation=None, exchange=None))
    samples = []
    for _ in range(5000):
        begun = time.perf_counter_ns()
        before_call.refusal(None, [])
        # An inactive hook reads nothing else of it.
        before_call.is_urgent(node)  # type: ignore[arg-type]
        before_call.seen(node)  # type: ignore[arg-type]  # as above
        samples.append(time.perf_counter_ns() - begun)
    return statistics.median(samples) / 1e3


def crew(folder: str) -> tuple[int, int, str]:
    """Kick a real crew off until its budget of $0.002 stops it.

    (calls the provider billed, pico-USD over, the error).
    """
    with FakeProvider() as provider:
        environment = {
            **os.environ,
            "HOME": folder,
            "CREWAI_STORAGE_DIR": folder,
            "PROVIDER_URL": provider.url,
        }
        environment |= {
            "CREWMETER_LEDGER": f"{folder}/crew.db",
            "CREWMETER_BUDGETS": "0.002 USD/day",
            "OPENAI_API_KEY": "sk-fake",
        }
        environment |= {
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "CREWAI_TESTING": "true",
        }
        done = subprocess.run(
            [sys.executable, "-c", _CREW],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        calls = len(provider.billing_log.billed)
    return calls, calls * COST - 2_000_000_000, json.loads(done.stdout.splitlines()[-1])


_CREW = """
import json, os
import crewmeter
crewmeter.instrument(summary=False)
from crewai import LLM, Agent, Crew, Task
llm = LLM(model="openai/gpt-4o-mini", base_url=os.environ["PROVIDER_URL"] + "/v1")
agent = Agent(role="Writer", goal="write", backstory="writes", llm=llm)
text = "Say hello. [[usage:in=1000 out=166]]"
task = Task(description=text, expected_output="a word", agent=agent)
try:
    for _ in range(30):
        Crew(agents=[agent], tasks=[task]).kickoff()
except crewmeter.BudgetExceeded as stop:
    print(json.dumps(str(stop)))
"""


def main() -> None:
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        took = microseconds(f"{folder}/quick.db")
        passed.append(took <= 20)
        title = "guard, no budget near (reserve + settle, median)"
        print(f"{title:<58}{took:>9.1f} µs   limit 20 µs")
        took = idle_microseconds(f"{folder}/none.db")
        passed.append(took <= 2)
        print(
            f"{'no budget at all (before and after a call, median)':<58}{took:>9.2f} µs   "
            "limit 2 µs"
        )
        for name, budget, processes, threads in (
            ("one process, one crew, $0.002", "0.002 USD/day", 1, 1),
            (f"{PROCESSES} processes × {THREADS} crews, $0.2", "0.2 USD/day", PROCESSES, THREADS),
        ):
            calls, over = overshoot(f"{folder}/{processes}.db", budget, processes, threads)
            most = processes * threads
            passed.append(over <= most * COST)
            limit = f"{most} call{'s' if most > 1 else ''} in flight (${most * COST / 1e12:.6f})"
            print(
                f"{name:<58}{calls:>5} calls, {over / 1e12:+.6f} USD against the limit; at most "
                f"{limit}"
            )
        calls, over, said = crew(folder)
        passed.append(over <= COST)
        print(
            f"{'a real crew, $0.002':<58}{calls:>5} calls, {over / 1e12:+.6f} USD against the "
            f"limit; at most 1 call (${COST / 1e12:.6f})"
        )
        print(f"  {said}")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
