"""Finding runs in a ledger of a million: ``python benchmarks/runs.py [--runs 1000000]``.

The ledger is filled by SQL alone, which takes a minute where spans would take an hour. Questions
that an index answers must take at most 100 ms each; what scans is printed with the note that a
reader gets. ``--keep FILE`` leaves the ledger there, and reads it again the next time.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_MS = 100.0
ROUNDS = 5
DAYS = 90
COUNTS = {
    "crew": 20,
    "agent": 40,
    "task": 60,
    "model": 8,
    "user": 5000,
    "team": 12,
    "session": 100_000,
    "error_type": 6,
    "tool": 10,
}
"""Names of each kind. A session is a conversation of ten runs."""
ONCE = ("kind", "operation", "origin", "cost_status", "usage_status", "provider")
"""Kinds that have one name here."""

INDEXED = {
    "newest 50": {},
    "newest 50 of a day": {"since_days": 40, "until_days": 39},
    "status=failed": {"where": "status=failed"},
    "status=running": {"where": "status=running"},
    "user": {"where": "user=user-77"},
    "session": {"where": "session=session-4242"},
    "team": {"where": "team=team-3"},
    "name": {"where": "name=crew-7"},
    "run id": {"where": "run=00000000000f0000"},
    "model": {"where": "model=model-3"},
    "agent": {"where": "agent=agent-7"},
    "tool": {"where": "tool=tool-4"},
    "session and status": {"where": "session=session-4242 status=ok"},
}
SCANNED = {
    "cost>20 (none)": {"where": "cost>20"},
    "most expensive": {"order": "cost"},
    "slowest": {"order": "duration"},
    "most calls": {"order": "calls"},
    "duration>2h (none)": {"where": "duration>2h"},
    "user without runs": {"where": "user=nobody"},
    "model without runs": {"where": "model=no-such"},
    "agent without runs": {"where": "agent=no-such"},
    "error=nothing": {"where": "error=nothing"},
    "search text": {"search": "agent-7"},
    "search nothing": {"search": "no such text"},
}


def fill(path: Path, runs: int) -> None:
    """Write `runs` runs with a tool step and a call each, evenly over the last 90 days."""
    Ledger.open(str(path)).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -400000")
        first = {kind: _labels(database, kind, count) for kind, count in COUNTS.items()}
        first |= {kind: _labels(database, kind, 1) for kind in ONCE}
        database.execute("UPDATE label SET value = 'tool' WHERE id = ?", (first["kind"],))
        gap = DAYS * 86400 * 10**9 // runs
        start = time.time_ns() - gap * runs
        numbers = {"runs": runs, "start": start, "gap": gap}
        for table, columns in (("run", RUN), ("step", STEP), ("call", CALL)):
            values = {name: text.format(**first) for name, text in columns.items()}
            database.execute(
                f'INSERT INTO "{table}" ({", ".join(_quoted(name) for name in values)}) '
                "WITH RECURSIVE series(n) AS "
                "(SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :runs) "
                f"SELECT {', '.join(values.values())} FROM series",
                numbers,
            )
    database.close()


RUN = {
    "id": "n",
    "run_id": "printf('%016x', n)",
    "trace_id": "randomblob(16)",
    "kind": "'crew'",
    "name": "{crew} + n % 20",
    "team": "{team} + n * 7 % 12",
    "user": "{user} + n * 31 % 5000",
    "session": "{session} + n / 10 % 100000",
    "status": "CASE WHEN n % 50 = 0 THEN 'error' WHEN n > :runs - 3 THEN 'running' ELSE 'ok' END",
    "error_type": "CASE WHEN n % 50 = 0 THEN {error_type} + n / 50 % 6 END",
    "started_ns": ":start + n * :gap",
    "duration_ns": "CASE WHEN n <= :runs - 3 THEN 1000000000 + n * 7919 % 90000000000 END",
    "calls": "1 + n * 13 % 40",
    "priced_calls": "1",
    "tool_calls": "1",
    "input_tokens": "n % 9000",
    "output_tokens": "n % 900",
    "cost_pusd": "n * 104729 % 900000000000",
}
STEP = {
    "id": "n",
    "trace_id": "randomblob(16)",
    "span_id": "randomblob(8)",
    "run": "n",
    "kind": "{kind}",
    "name": "{tool} + n % 10",
    "crew": "{crew} + n % 20",
    "task": "{task} + n % 60",
    "agent": "{agent} + n % 40",
    "state": "0",
    "started_ns": ":start + n * :gap + 1000000",
    "duration_ns": "400000000",
}
CALL = {
    **{name: STEP[name] for name in ("id", "trace_id", "span_id", "run", "crew", "task", "agent")},
    **{name: RUN[name] for name in ("team", "user", "session")},
    "started_ns": STEP["started_ns"],
    "duration_ns": "900000000",
    "operation": "{operation}",
    "origin": "{origin}",
    "provider": "{provider}",
    "request_model": "{model} + n * 3 % 8",
    "state": "n % 50 = 0",
    "error_type": RUN["error_type"],
    "input_tokens": RUN["input_tokens"],
    "output_tokens": RUN["output_tokens"],
    "usage_status": "{usage_status}",
    "cost_status": "{cost_status}",
    "cost_pusd": RUN["cost_pusd"],
}


def _quoted(name: str) -> str:
    return f'"{name}"'


def _labels(database: sqlite3.Connection, kind: str, count: int) -> int:
    """Write the names of a kind under ids that follow each other, and return the first id."""
    (last,) = database.execute("SELECT coalesce(max(id), 0) FROM label").fetchone()
    rows = ((last + 1 + at, kind, f"{kind.removesuffix('_type')}-{at}") for at in range(count))
    database.executemany("INSERT INTO label (id, kind, value) VALUES (?, ?, ?)", rows)
    return int(last) + 1


def timed(action: Callable[[], object]) -> float:
    """Return the median milliseconds of an action."""
    action()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        spent.append((time.perf_counter() - started) * 1000)
    return statistics.median(spent)


def ask(ledger: Ledger, question: dict[str, object]) -> Callable[[], object]:
    """Return the action that answers a question of the tables above."""
    options = dict(question)
    now = time.time()
    for name in ("since", "until"):
        days = options.pop(f"{name}_days", None)
        if isinstance(days, int):
            from datetime import UTC, datetime

            options[name] = datetime.fromtimestamp(now - days * 86400, UTC)
    return lambda: find_runs(ledger, **options)  # type: ignore[arg-type]


def main() -> None:
    """Print each question's time, and exit 1 where an indexed one is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="the ledger's file, made where it is not there")
    requested = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = requested.keep or Path(folder) / "ledger.db"
        if not path.exists():
            started = time.perf_counter()
            fill(path, requested.runs)
            size = os.path.getsize(path) / 1e6
            print(
                f"{requested.runs:,} runs in {time.perf_counter() - started:.0f} s, {size:.0f} MB"
            )
        sys.exit(report(path))


def report(path: Path) -> int:
    """Print the times of every question, and return how many are over the limit."""
    over = 0
    with Ledger.open(str(path), read_only=True) as ledger:
        for name, question in INDEXED.items():
            spent = timed(ask(ledger, question))
            over += spent > LIMIT_MS
            verdict = "ok" if spent <= LIMIT_MS else "OVER"
            print(f"{name:24} {spent:8.1f} ms  limit {LIMIT_MS:.0f} ms  {verdict}")
        spent = timed(lambda: find_run(ledger, f"{61440:016x}"))
        print(f"{'a run by its id':24} {spent:8.1f} ms")
        for name, question in SCANNED.items():
            action = ask(ledger, question)
            note = action().note or "every run was looked at"  # type: ignore[attr-defined]
            print(f"{name:24} {timed(action):8.1f} ms  scans: {note}")
    return 1 if over else 0


if __name__ == "__main__":
    main()
