"""Measure what metering costs a call where the machine is not quiet, in one process.

    python benchmarks/turns.py                # 1,500 calls of each kind: a minute
    python benchmarks/turns.py --write        # also writes the table of docs/benchmarks.md

Blocks of calls with and without the embedded ledger take turns. Processor time is what the kernel
gave the process or the calling thread, so waiting for a core does not count, and medians leave out
the calls that something disturbed. `overhead.py` measures more, and needs two idle cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from apps import QUIET, markdown_table, versions_line, write_section
from services import started

WARM_UP = 60
FIRST_CALLS = 10
"""Calls of a block that are not measured: the exporter opens the ledger meanwhile."""
FLUSH_SECONDS = 60


class Samples:
    """Microseconds of processor time: of the calling thread a call, of the process a block."""

    def __init__(self) -> None:
        self.calling: list[float] = []
        self.process: list[float] = []

    def block(self, call, count: int, flush) -> None:
        """Measure one block, its flush included."""
        began = time.process_time()
        for _ in range(count):
            before = time.thread_time_ns()
            call()
            self.calling.append((time.thread_time_ns() - before) / 1e3)
        flush()
        self.process.append((time.process_time() - began) / count * 1e6)


def take_turns(blocks: int, count: int) -> tuple[Samples, Samples]:
    """Return the samples without and with metering."""
    from crewai import LLM

    import crewmeter

    url = os.environ["BENCH_PROVIDER"]
    model = LLM(model="openai/gpt-4o-mini", base_url=url, api_key="sk-bench")

    def call() -> None:
        model.call("Say hello.")

    for _ in range(WARM_UP):
        call()
    bare = Samples()
    metered = Samples()
    for _ in range(blocks):
        for _ in range(FIRST_CALLS):
            call()
        bare.block(call, count, lambda: None)
        handle = crewmeter.instrument(summary=False)
        for _ in range(FIRST_CALLS):
            call()
        handle.flush(FLUSH_SECONDS)
        metered.block(call, count, partial(handle.flush, FLUSH_SECONDS))
        handle.uninstrument()
    return bare, metered


def row(title: str, bare: list[float], metered: list[float], whole: float, limit: int) -> list[str]:
    """Return a row of the table, in percent of the ``whole`` processor time of a bare call."""
    without = statistics.median(bare)
    added = statistics.median(metered) - without
    return [
        title,
        f"{without:,.0f} µs",
        f"{added:+,.0f} µs",
        f"{added / whole:+.1%}",
        f"+{limit} %",
    ]


def main() -> None:
    """Measure, print the table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=15, help="blocks of each kind")
    parser.add_argument("--calls", type=int, default=100, help="calls a block")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
        storage = str(Path(home, "crewai"))
        ledger = str(Path(home, "ledger.db"))
        os.environ.update(QUIET, CREWAI_STORAGE_DIR=storage, CREWMETER_LEDGER=ledger, HOME=home)
        with started("provider") as provider:
            os.environ["BENCH_PROVIDER"] = provider.url
            bare, metered = take_turns(options.blocks, options.calls)
    whole = statistics.median(bare.process)
    rows = [
        row("calling thread, a call", bare.calling, metered.calling, whole, 4),
        row("process, a call, flush included", bare.process, metered.process, whole, 10),
    ]
    heads = ["processor time", "bare", "added", "of a bare call", "limit"]
    table = markdown_table(heads, rows)
    print(table)
    if options.write:
        measured = versions_line(sys.executable, ["crewmeter", "crewai", "openai"])
        counts = f"{options.blocks * options.calls:,} calls with metering and as many without"
        write_section("turns", f"Measured {measured}; {counts}.\n\n{table}")


if __name__ == "__main__":
    main()
