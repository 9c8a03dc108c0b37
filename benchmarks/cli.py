"""What a command costs on a ledger of 10,000 calls: processor time, most of it start-up.

    python benchmarks/cli.py [--calls 10000] [--rounds 5]

Each command runs in a process of its own, `--rounds` times in turn with two yardsticks: importing
`sqlite3` and `typer`, and a Typer program that does nothing (Typer imports Pydantic when it reads a
command line). Medians of user and system time are printed. The exit code is 1 where a command is
over its limit.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

LIMIT_SECONDS = 0.6
DAYS = 30
IMPORTS = "import sqlite3, typer"
EMPTY_PROGRAM = """
import sqlite3, typer
app = typer.Typer()
@app.command()
def main(name: str = ""):
    pass
app()
"""
COMMANDS = (
    ("--help",),
    ("report",),
    ("report", "--by", "team", "--format", "json"),
    ("runs",),
    ("show", "last"),
    ("forecast",),
    ("export", "--since", "1d"),
)


def processor_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the user and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user = after.ru_utime - before.ru_utime
    return user + after.ru_stime - before.ru_stime


def main() -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000, help="calls in the ledger")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each command")
    options = parser.parse_args()
    yardsticks = [[sys.executable, "-c", script] for script in (IMPORTS, EMPTY_PROGRAM)]
    script = "from crewmeter_cost.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "ledger.db")
        with Ledger.open(path) as ledger:
            a_day = options.calls // DAYS + 1
            load_history(ledger, days=DAYS, seed=1, until=datetime.now(UTC), calls_per_day=a_day)
        environment = {**os.environ, "CREWMETER_LEDGER": path}
        lines = [*yardsticks, *([sys.executable, "-c", script, *words] for words in COMMANDS)]
        took: list[list[float]] = [[] for _ in lines]
        for _ in range(options.rounds):
            for index, line in enumerate(lines):
                took[index].append(processor_seconds(line, environment))
    imports, empty, *seconds = (median(each) for each in took)
    print(f"{'processor time':<36}{'s':>8}{'× empty':>9}{'× import':>10}{'limit s':>9}")
    print(f"{IMPORTS:<36}{imports:>8.2f}")
    print(f"{'a Typer program that does nothing':<36}{empty:>8.2f}")
    for words, spent in zip(COMMANDS, seconds, strict=True):
        name = f"crewmeter {' '.join(words)}"
        ratios = f"{spent / empty:>9.1f}{spent / imports:>10.1f}"
        print(f"{name[:35]:<36}{spent:>8.2f}{ratios}{LIMIT_SECONDS:>9.2f}")
    return int(max(seconds) > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
