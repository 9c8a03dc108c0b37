"""What a budget's guard costs, and how far a shared hard budget is overshot.

``python benchmarks/budgets.py`` prints the time of one reserve + settle with no budget near, and the overshoot of a hard
budget in one process and in 4 processes with 8 threads each, beside their limits.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from crewmeter import semconv
from crewmeter.usage import TokenUsage, usage_attributes
from crewmeter_cost.budgets.bank import LedgerBank
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.guard import Guard
from crewmeter_cost.budgets.pool import Refusal
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.book import PriceBook

CALL = {semconv.OPERATION: "chat", semconv.PROVIDER: "openai", semconv.REQUEST_MODEL: "gpt-4o-mini", semconv.AGENT_NAME: "Writer"}
ENDED = {**CALL, **usage_attributes(TokenUsage(input=1000, output=166))}
COST = 249_600_000
PROCESSES, THREADS = 4, 8


def guard_for(path: str, budget: str) -> Guard:
    return Guard([parse_budget(budget)], bank=LedgerBank(Ledger.open(path).engine), book=PriceBook.load())


def microseconds(path: str) -> float:
    """Median of one reserve + settle far from the limit."""
    guard = guard_for(path, "1000000 USD/day")
    samples = []
    for _ in range(5000):
        begun = time.perf_counter_ns()
        guard.settle(guard.reserve(CALL, input_chars=3000), ENDED)
        samples.append(time.perf_counter_ns() - begun)
    guard.close()
    return statistics.median(samples) / 1e3


def work(path: str, budget: str, threads: int, queue: multiprocessing.Queue) -> None:
    """One process: threads that call until the guard refuses. Reports (calls, spent)."""
    guard = guard_for(path, budget)

    def crew(_: int) -> int:
        made = 0
        while not isinstance(reservation := guard.reserve(CALL, input_chars=3000), Refusal):
            time.sleep(0.002)  # the call itself
            guard.settle(reservation, ENDED)
            made += 1
        return made

    with ThreadPoolExecutor(threads) as pool:
        made = sum(pool.map(crew, range(threads)))
    guard.close()
    queue.put(made)


def overshoot(path: str, budget: str, processes: int, threads: int) -> tuple[int, int]:
    """(calls made, pico-USD spent beyond the limit; negative is below)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    running = [context.Process(target=work, args=(path, budget, threads, queue)) for _ in range(processes)]
    for process in running:
        process.start()
    calls = sum(queue.get(timeout=120) for _ in running)
    for process in running:
        process.join()
    return calls, calls * COST - parse_budget(budget).amount_pusd


def main() -> None:
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        took = microseconds(f"{folder}/quick.db")
        passed.append(took <= 20)
        print(f"{'guard, no budget near (reserve + settle, median)':<58}{took:>9.1f} µs   limit 20 µs")
        for name, budget, processes, threads in (
            ("one process, one crew, $0.002", "0.002 USD/day", 1, 1),
            (f"{PROCESSES} processes × {THREADS} crews, $0.2", "0.2 USD/day", PROCESSES, THREADS),
        ):
            calls, over = overshoot(f"{folder}/{processes}.db", budget, processes, threads)
            most = processes * threads
            passed.append(over <= most * COST)
            limit = f"{most} call{'s' if most > 1 else ''} in flight (${most * COST / 1e12:.6f})"
            print(f"{name:<58}{calls:>5} calls, {over / 1e12:+.6f} USD against the limit; at most {limit}")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
