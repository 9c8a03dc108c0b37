"""Benchmark of each panel's query on a ledger of a given size.

``python benchmarks/panels.py [--calls 200000] [--days 30] [--ledger FILE] [--range 30]`` writes
that many calls of the demo's history (or uses a ledger that is there), asks every panel five times
as the local page does, and prints for each, slowest first: the first answer (a cold cache), the
median, and the least processor time of this thread, which says what a busy machine hides. With
SQLite the query runs in this thread; with PostgreSQL that column shows the client alone. The limit,
50 ms at 5 million calls over 30 days, is held against the median; a panel that is over it only
because the machine was busy is marked "busy".
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import text

from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.web.panel_queries import ask_panel, catalogue
from crewmeter_cost.web.params import ANY, PanelParameters
from crewmeter_cost.web.time_buckets import auto_bucket

LIMIT_MS = 50.0
BATCH = 5000
REPEATS = 5


def fill(ledger: Ledger, calls: int, days: int) -> None:
    """Write about `calls` calls of history, ending now."""
    pipeline = Pipeline(ledger, PriceBook.load())
    spans = history(days, 1, datetime.now(UTC), calls_per_day=max(1, calls // days))
    while batch := list(islice(spans, BATCH)):
        pipeline.ingest(batch)


def count(ledger: Ledger) -> int:
    with ledger.engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM call")).scalar() or 0)


def peak_mb() -> float:
    """Return the most memory this process held (MB). Linux counts in KB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def line_items(ledger: Ledger, seconds: int) -> list[tuple[str, float, float, float, int]]:
    """(panel, cold ms, median ms, least processor ms, rows), slowest first."""
    now = int(time.time())
    filters = dict.fromkeys(catalogue()["filters"], (ANY,))
    question = PanelParameters(
        since=now - seconds, until=now, bucket=auto_bucket(seconds), budget=1000.0, filters=filters
    )
    rows = []
    for panel in catalogue()["panels"]:
        times, worked, answer = [], [], {}
        for _ in range(REPEATS):
            begun, busy = time.perf_counter(), time.thread_time()
            answer = ask_panel(ledger.engine, panel, question)
            worked.append((time.thread_time() - busy) * 1000)
            times.append((time.perf_counter() - begun) * 1000)
        rows.append((panel, times[0], statistics.median(times), min(worked), len(answer["rows"])))
    return sorted(rows, key=lambda row: -row[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--range", type=int, default=30, help="days of the range")
    parser.add_argument("--ledger", help="a ledger to use as it is, or to fill where it is empty")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(options.ledger or str(Path(folder) / "ledger.db")) as ledger,
    ):
        if count(ledger) == 0:
            begun = time.perf_counter()
            fill(ledger, options.calls, options.days)
            print(f"wrote {count(ledger):,} calls in {time.perf_counter() - begun:.0f} s")
        print(
            f"{count(ledger):,} calls in {ledger.engine.dialect.name}, {options.range} days of "
            "range\n"
        )
        print(f"{'panel':24} {'cold ms':>9} {'median ms':>10} {'cpu ms':>8} {'rows':>6}")
        measured = line_items(ledger, options.range * 86400)
        own = ledger.engine.dialect.name == "sqlite"
        for panel, cold, median, cpu, rows in measured:
            mark = "" if median <= LIMIT_MS else "  busy" if own and cpu <= LIMIT_MS else "  over"
            print(f"{panel:24} {cold:9.1f} {median:10.1f} {cpu:8.1f} {rows:6}{mark}")
        over = sum(1 for row in measured if row[2] > LIMIT_MS)
        print(
            f"\n{len(measured) - over} of {len(measured)} panels within {LIMIT_MS:.0f} ms; peak "
            f"memory {peak_mb():.0f} MB"
        )


if __name__ == "__main__":
    main()
