"""Measure what the embedded writer costs an app: `python benchmarks/ledger_writer.py`.

Two figures: the CPU of opening a ledger in a fresh process, and the CPU of `Ledger.write` a call at
several batch sizes. `--against FOLDER` measures another checkout in turn with this one, so that a
change is judged by figures of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = (1, 10, 25, 100)
CALLS_PER_SIZE = 1_500
LIMITS = {"open, new file": 0.25, "open, current file": 0.25}


def opening(path: str) -> dict[str, float]:
    """CPU seconds until the first span is committed, in a process that has OpenTelemetry."""
    import opentelemetry.sdk.trace.export  # noqa: F401 - the app has it in any case

    began = time.process_time()
    from crewmeter_cost.exporter import LedgerSpanExporter

    exporter = LedgerSpanExporter(ledger=path)
    exporter.warm_up()
    opened = time.process_time() - began
    modules = ("sqlalchemy", "sqlmodel", "pydantic", "alembic", "grpc")
    heavy = {f"imports {name}": float(name in sys.modules) for name in modules}
    exporter.shutdown()
    return {"cpu": opened, **heavy}


def writing(path: str) -> dict[str, float]:
    """CPU microseconds of `Ledger.write` a call, by batch size."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from ledger import batches, frozen

    from crewmeter_cost.ledger.store import Ledger

    spent: dict[str, float] = {}
    with Ledger.open(path) as ledger:
        for seed, size in enumerate((*SIZES, *SIZES)):  # the first round warms up
            given = list(batches(CALLS_PER_SIZE, size, 1 / 24, seed))
            began = time.thread_time()
            for batch in given:
                ledger.write(batch, (), frozen)
            spent[str(size)] = (time.thread_time() - began) / CALLS_PER_SIZE * 1e6
    return spent


def child(checkout: Path, what: str, path: Path) -> dict[str, float]:
    """Run one measurement in a fresh process with the sources of `checkout`."""
    roots = os.pathsep.join(str(checkout / name) for name in ("tracer", "cost", "dashboards"))
    command = [sys.executable, __file__, "--child", what, str(path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": roots}, check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measured(checkout: Path, folder: Path, round_: int) -> dict[str, float]:
    """Every figure of one checkout, once."""
    path = folder / f"{round_}-{checkout.name}.db"
    figures = {"open, new file": child(checkout, "opening", path)["cpu"]}
    again = child(checkout, "opening", path)
    figures["open, current file"] = again.pop("cpu")
    figures |= again
    for size, cost in child(checkout, "writing", path).items():
        figures[f"µs a call, batches of {size}"] = cost
    return figures


def main() -> None:
    """Print the median of every figure, for each checkout."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--against", type=Path, help="another checkout, measured in turn")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    requested = options.parse_args()
    if requested.child:
        what, path = requested.child
        print(json.dumps({"opening": opening, "writing": writing}[what](path)))
        return
    checkouts = [each.resolve() for each in (requested.against, ROOT) if each is not None]
    results: dict[Path, list[dict[str, float]]] = {each: [] for each in checkouts}
    with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as folder:
        for round_ in range(requested.rounds):
            for checkout in checkouts:
                results[checkout].append(measured(checkout, Path(folder), round_))
    print(f"{'':34}" + "".join(f"{each.name:>18}" for each in checkouts) + f"{'limit':>9}")
    for name in results[checkouts[-1]][0]:
        medians = [statistics.median(each[name] for each in results[one]) for one in checkouts]
        cells = "".join(f"{value:18.3f}" for value in medians)
        print(f"{name:34}{cells}{LIMITS.get(name, ''):>9}")


if __name__ == "__main__":
    main()
