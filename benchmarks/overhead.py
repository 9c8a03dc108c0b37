"""Measure what metering costs an app, against the same app without it, in one run.

    python benchmarks/overhead.py               # 1,500 calls an arm, five pairs: eight minutes
    python benchmarks/overhead.py --write       # also writes the table of docs/benchmarks.md
    python benchmarks/overhead.py --calls 60 --pairs 1 --kickoffs 3    # to see that it works

Each arm runs in processes of its own, in turn: bare, embedded ledger, OTLP out. The fake provider
and the OTLP sink are other processes. Everything until the flush counts. The figures are ratios
within a pair, the median over the pairs, since a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

from apps import markdown_table, run_observed, versions_line, write_section
from services import Service, silent_endpoint, started

ARMS = {"crewmeter": "embedded", "crewmeter-otlp": "OTLP"}
LOADS = ("full speed", "20 ms thinking", "8 threads", "64 coroutines", "kickoff")
# Figure, its name in the result, and the limit in percent of a bare call (embedded, full speed).
FIGURES = (
    ("processor time", "cpu", 10),
    ("on the calling thread", "cpu_calling", 4),
    ("mean, flush included", "mean_with_flush", 7),
    ("median", "median", None),
    ("p95", "p95", 10),
)
EXIT_LIMIT_SECONDS = 2.0
DEATH_CALLS = 24
Run = dict[str, dict]


def line_items(options: argparse.Namespace, provider: Service, sink: Service) -> list[Run]:
    """Run every arm once a pair; the order turns, so that none is always first."""
    runs = []
    order = ["bare", *ARMS]
    for pair in range(options.pairs):
        run: Run = {}
        for arm in order:
            with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
                done = run_observed(
                    arm,
                    "load",
                    str(options.calls),
                    str(options.kickoffs),
                    home=Path(home),
                    provider=provider.url,
                    sink=sink.url,
                    timeout=1800,
                )
            if done.result is None:
                sys.exit(done.stderr)
            run[arm] = done.result
        runs.append(run)
        order = order[1:] + order[:1]
        print(f"pair {pair + 1} of {options.pairs} done", file=sys.stderr)
    return runs


def read(runs: list[Run], arm: str, path: tuple[str, ...]) -> list[float]:
    """Return a figure of an arm in each pair."""
    figures = []
    for run in runs:
        found = run[arm]
        for key in path:
            found = found[key]
        figures.append(found)
    return figures


def typical(runs: list[Run], *path: str) -> float:
    """Return the median of a bare figure."""
    return statistics.median(read(runs, "bare", path))


def added(runs: list[Run], arm: str, *path: str) -> float:
    """Return the median, over the pairs, of what an arm adds to a figure."""
    pairs = zip(read(runs, arm, path), read(runs, "bare", path), strict=True)
    return statistics.median(with_us - bare for with_us, bare in pairs)


def added_percent(runs: list[Run], arm: str, load: str, figure: str) -> float:
    """Return what an arm adds to a figure, in percent of a bare call.

    A thread's share is given in percent of the whole processor time of a bare call.
    """
    base = "cpu" if figure.startswith("cpu") else figure
    with_us = read(runs, arm, (load, figure))
    without = read(runs, "bare", (load, figure))
    whole = read(runs, "bare", (load, base))
    triples = zip(with_us, without, whole, strict=True)
    return statistics.median(100 * (more - less) / bare for more, less, bare in triples)


def load_rows(runs: list[Run]) -> list[list[str]]:
    """Return the rows on sustained load."""
    rows = []
    for load in LOADS:
        for title, figure, limit in FIGURES:
            if load == "20 ms thinking" and figure in ("mean_with_flush", "median", "p95"):
                continue  # a pause hides in them
            limited = limit is not None and load == "full speed"
            bare = typical(runs, load, figure)
            more = [f"{added_percent(runs, arm, load, figure):+.1f} %" for arm in ARMS]
            stated = f"+{limit} %" if limited else ""
            rows.append([f"{load}: {title}", f"{bare:,.0f} µs", *more, stated])
    return rows


def opening_rows(runs: list[Run]) -> list[list[str]]:
    """Return the rows on the first two seconds, and on memory."""
    rows = []
    for title, figure, limit in (
        ("first two seconds: processor time", "cpu", "+0.25 s"),
        ("first ten calls together", "first_ten_calls", ""),
    ):
        bare = typical(runs, "opening", figure)
        more = [f"{added(runs, arm, 'opening', figure):+.3f} s" for arm in ARMS]
        rows.append([title, f"{bare:.3f} s", *more, limit])
    more = [f"{added(runs, arm, 'memory_mb'):+.1f} MB" for arm in ARMS]
    rows.append(["memory", f"{typical(runs, 'memory_mb'):.0f} MB", *more, "+12 MB"])
    return rows


def exit_seconds(arm: str, provider: Service, endpoint: str) -> float:
    """Return the seconds from the app's last line to the end of its process."""
    with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
        done = run_observed(arm, "exit", home=Path(home), provider=provider.url, sink=endpoint)
    return done.ended - float(str(done.result))


def exit_rows(options: argparse.Namespace, provider: Service, sink: Service) -> list[list[str]]:
    """Return the rows on how long the app takes to end."""
    with silent_endpoint() as silent:
        cases = (
            ("exit, ledger", "crewmeter", sink.url),
            ("exit, endpoint answers", "crewmeter-otlp", sink.url),
            ("exit, endpoint refuses", "crewmeter-otlp", "http://127.0.0.1:9"),
            ("exit, endpoint is silent", "crewmeter-otlp", silent),
        )
        bare = statistics.median(
            exit_seconds("bare", provider, sink.url) for _ in range(options.exits)
        )
        rows = []
        for title, arm, endpoint in cases:
            seconds = [exit_seconds(arm, provider, endpoint) for _ in range(options.exits)]
            more = f"{statistics.median(seconds) - bare:+.2f} s"
            cells = [more, ""] if arm == "crewmeter" else ["", more]
            rows.append([title, f"{bare:.2f} s", *cells, f"+{EXIT_LIMIT_SECONDS:g} s"])
    return rows


def death_rows(provider: Service, sink: Service) -> list[list[str]]:
    """Return the rows on what is in the ledger after a sudden end."""
    rows = []
    for how, title in (("exit", "stored after os._exit"), ("kill", "stored after kill -9")):
        with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
            run_observed(
                "crewmeter", "death", how, home=Path(home), provider=provider.url, sink=sink.url
            )
            with sqlite3.connect(Path(home, "ledger.db")) as ledger:
                (calls,) = ledger.execute("SELECT count(*) FROM call").fetchone()
        rows.append([title, "", f"{calls} of {DEATH_CALLS}", "", str(DEATH_CALLS)])
    return rows


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1500, help="calls an arm and kind of load")
    parser.add_argument("--kickoffs", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--exits", type=int, default=2, help="processes a kind of exit")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, and write it where that is wanted."""
    options = parse_arguments()
    with started("provider") as provider, started("sink") as sink:
        runs = line_items(options, provider, sink)
        rows = load_rows(runs) + opening_rows(runs)
        rows += exit_rows(options, provider, sink) + death_rows(provider, sink)
    heads = ["", "bare", *(f"{title}, added" for title in ARMS.values()), "limit (embedded)"]
    table = markdown_table(heads, rows)
    print(table)
    if options.write:
        measured = versions_line(sys.executable, ["crewmeter", "crewai", "openai"])
        counts = f"{options.calls:,} calls an arm and load, {options.pairs} pairs"
        write_section("overhead", f"Measured {measured}; {counts}.\n\n{table}")


if __name__ == "__main__":
    main()
