"""Measure crewmeter beside its peers, each in an environment of its own.

    python benchmarks/peers.py --write                # everything: about twenty minutes
    python benchmarks/peers.py --short --write        # 300 calls, two pairs: about eight
    python benchmarks/peers.py openinference logfire  # some of them

uv makes the environments, in seconds; `--keep FOLDER` uses them again. Figures are what a peer adds
to a bare run in the same environment, the median over pairs. Then what each has delivered after a
sudden end, how long the app takes to end where the endpoint is dead, and in how many of ten
scenarios tokens and dollars are those in the books of the provider.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from apps import ROOT, Finished, markdown_table, run_observed, versions_line, write_section
from services import Service, silent_endpoint, started

APPS = ROOT / "tests/e2e/apps"
CREWAI = "crewai[anthropic,google-genai]"
SCENARIOS = (
    "simple",
    "with_tool",
    "streaming",
    "retried",
    "failing",
    "akickoff",
    "hierarchical",
    "flow",
    "providers:anthropic:plain",
    "providers:gemini:stream",
)
DEATH_CALLS = 24
EXIT_TIMEOUT_SECONDS = 90


@dataclass(frozen=True)
class Peer:
    """An observer: its arm in `arms.py`, what to install, the variables it is switched on by."""

    title: str
    arm: str
    install: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


OPENINFERENCE = (
    "openinference-instrumentation-crewai",
    "openinference-instrumentation-openai",
    "opentelemetry-exporter-otlp-proto-http",
)
PEERS = (
    Peer("crewmeter, embedded ledger", "crewmeter", (str(ROOT),)),
    Peer("crewmeter, OTLP", "crewmeter-otlp", (str(ROOT),)),
    Peer("OpenInference", "openinference", OPENINFERENCE),
    Peer("OpenLLMetry", "openllmetry", ("traceloop-sdk",)),
    Peer("OpenLIT", "openlit", ("openlit",)),
    Peer("Langfuse", "langfuse", ("langfuse", *OPENINFERENCE)),
    Peer("Logfire", "logfire", ("logfire",)),
    Peer("MLflow", "mlflow", ("mlflow",)),
    Peer("CrewAI's tracing", "crewai-tracing", (), {"CREWAI_TRACING_ENABLED": "true"}),
)


def make_environment(peer: Peer, folder: Path) -> Path:
    """Install CrewAI and a peer, and return the interpreter.

    A complete environment is used again.
    ."""
    home = folder / peer.arm
    python = home / "bin/python"
    complete = home / "complete"
    if complete.exists():
        return python
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        sys.exit("error: uv is not installed\nhint:  pip install uv")
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)]
    subprocess.run(make, check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python), CREWAI, *peer.install]
    subprocess.run(install, check=True)
    complete.touch()
    return python


class Bench:
    """Measures one peer in its environment."""

    def __init__(self, peer: Peer, python: Path, provider: Service, sink: Service) -> None:
        self.peer = peer
        self.python = str(python)
        self.provider = provider
        self.sink = sink

    def run(self, arm: str, *arguments: str, home: Path, **more: object) -> Finished:
        """Run the observed app under an arm of this environment."""
        variables = {"CREWAI_PLUS_URL": self.sink.url, **self.peer.variables}
        if arm == "bare":
            variables["CREWAI_TRACING_ENABLED"] = "false"
        options = {"sink": self.sink.url, "timeout": 1800, **variables, **more}
        return run_observed(
            arm, *arguments, home=home, provider=self.provider.url, python=self.python, **options
        )

    def load_cells(self, calls: int, kickoffs: int, pairs: int) -> list[str]:
        """Return what it adds to calls and kickoffs, to the start, and to memory."""
        added: dict[str, list[float]] = {}
        for _ in range(pairs):
            results = []
            for arm in ("bare", self.peer.arm):
                with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
                    done = self.run(arm, "load", str(calls), str(kickoffs), home=Path(home))
                if done.result is None:
                    print(f"{self.peer.title}: {done.stderr[-800:]}", file=sys.stderr)
                    return ["failed"] * 7
                results.append(done.result)
            for name, value in compared(*results).items():
                added.setdefault(name, []).append(value)
        typical = {name: statistics.median(values) for name, values in added.items()}
        percents = ("cpu", "cpu_calling", "mean_with_flush", "p95", "kickoff")
        cells = [f"{typical[name]:+.0f} %" for name in percents]
        return [*cells, f"{typical['opening']:+.2f} s", f"{typical['memory']:+.0f} MB"]

    def delivered_after(self, how: str) -> str:
        """Return how many calls are known after a sudden end."""
        self.sink.counts()
        with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
            self.run(self.peer.arm, "death", how, home=Path(home))
            return f"{self.counted(Path(home))['calls']:.0f}"

    def exit_cells(self) -> list[str]:
        """Return what it adds to the app's exit (s): endpoint refusing, and silent."""
        cells = []
        with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
            done = self.run("bare", "exit", home=Path(home))
            bare = done.ended - float(str(done.result))
        with silent_endpoint() as silent:
            for endpoint in ("http://127.0.0.1:9", silent):
                with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
                    done = self.run(
                        self.peer.arm,
                        "exit",
                        home=Path(home),
                        sink=endpoint,
                        CREWAI_PLUS_URL=endpoint,
                        timeout=EXIT_TIMEOUT_SECONDS,
                    )
                if done.result is None:
                    cells.append("failed")
                elif done.exit_code == -9:
                    cells.append(f"over {EXIT_TIMEOUT_SECONDS} s")
                else:
                    cells.append(f"{done.ended - float(str(done.result)) - bare:+.1f} s")
        return cells

    def counted(self, home: Path) -> dict[str, float]:
        """Return what the peer reported: the sink's counts, or what the embedded ledger holds."""
        ledger = home / "ledger.db"
        if self.peer.arm != "crewmeter" or not ledger.exists():
            return self.sink.counts()
        import crewmeter_cost

        total = crewmeter_cost.open(str(ledger)).report().total
        return {
            "calls": float(total["calls"] or 0),
            "input": float(total["input_tokens"] or 0),
            "output": float(total["output_tokens"] or 0),
            "cost_usd": float(total["cost_usd"] or 0),
        }

    def books_cells(self, scenarios: tuple[str, ...]) -> list[str]:
        """Return in how many scenarios tokens, and dollars, equal the provider's books."""
        tokens = dollars = 0
        for app in scenarios:
            self.sink.counts()
            self.provider.counts()
            with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as home:
                self.run(self.peer.arm, "play", str(APPS), app, home=Path(home), timeout=300)
                reported = self.counted(Path(home))
            billed = self.provider.counts()
            tokens += all(reported[name] == billed[name] for name in ("input", "output"))
            dollars += abs(reported["cost_usd"] - billed["cost_usd"]) < 1e-9
        return [f"{tokens} of {len(scenarios)}", f"{dollars} of {len(scenarios)}"]


def compared(bare: dict, observed: dict) -> dict[str, float]:
    """Return what one observed run adds to one bare run, in percent, seconds and MB."""
    full, plain = observed["full speed"], bare["full speed"]
    added = {
        name: 100 * (full[name] - plain[name]) / plain[name]
        for name in ("cpu", "mean_with_flush", "p95")
    }
    added["cpu_calling"] = 100 * (full["cpu_calling"] - plain["cpu_calling"]) / plain["cpu"]
    kickoff, usual = (one["kickoff"]["mean_with_flush"] for one in (observed, bare))
    added["kickoff"] = 100 * (kickoff - usual) / usual
    added["opening"] = observed["opening"]["cpu"] - bare["opening"]["cpu"]
    added["memory"] = observed["memory_mb"] - bare["memory_mb"]
    return added


HEADS = [
    "added to a bare app",
    "processor time",
    "on the calling thread",
    "mean",
    "p95",
    "kickoff",
    "first 2 s, processor",
    "memory",
    "exit, endpoint refuses",
    "exit, endpoint silent",
    "of 24 calls, after os._exit",
    "after kill -9",
    "tokens as in the books",
    "dollars as in the books",
]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", help="arms of arms.py (default: all)")
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--kickoffs", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--scenarios", type=int, default=len(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="300 calls, 10 kickoffs, two pairs")
    parser.add_argument("--keep", type=Path, help="folder that keeps the environments")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    if options.short:
        options.calls, options.kickoffs = 300, 10
        options.pairs = 2
    return options


def main() -> None:
    """Measure the peers, print the table, and write it where that is wanted."""
    options = parse_arguments()
    rows, versions = [], []
    chosen = [peer for peer in PEERS if not options.peers or peer.arm in options.peers]
    with (
        tempfile.TemporaryDirectory(prefix="crewmeter-peers-") as temporary,
        started("provider") as provider,
        started("sink") as sink,
    ):
        folder = options.keep.absolute() if options.keep else Path(temporary)
        for peer in chosen:
            python = make_environment(peer, folder)
            bench = Bench(peer, python, provider, sink)
            row = [
                peer.title,
                *bench.load_cells(options.calls, options.kickoffs, options.pairs),
                *bench.exit_cells(),
                bench.delivered_after("exit"),
                bench.delivered_after("kill"),
                *bench.books_cells(SCENARIOS[: options.scenarios]),
            ]
            rows.append(row)
            print(" | ".join(row), flush=True)
            installed = [name for name in peer.install[:1] if name != str(ROOT)]
            versions.append(versions_line(str(python), ["crewai", *installed]).split(", ", 3)[3])
    table = markdown_table(HEADS, rows)
    if options.write:
        here = versions_line(sys.executable, ["crewmeter"])
        environments = "\n".join(
            f"- {peer.title}: {text}" for peer, text in zip(chosen, versions, strict=True)
        )
        counts = f"{options.calls:,} calls, {options.pairs} pairs"
        write_section("peers", f"Measured {here}; {counts}.\n\n{table}\n\n{environments}")


if __name__ == "__main__":
    main()
