"""What the meter costs the app, against the same app without it, in one run.

``python benchmarks/overhead.py [--calls 400] [--kickoffs 40] [--pairs 3]`` prints the median of one LLM call through
CrewAI's native OpenAI client and of one kickoff, and what the meter adds to them: blocks without and with it take turns, and
the median of the differences between neighbours is told, since a busy machine slows both alike. Then what ``instrument()``
takes, memory, exit time with a healthy ledger, a refusing and a silent endpoint, and what is kept after ``os._exit`` and
``kill -9``. Every figure stands beside its limit.
The stand-in provider runs in a process of its own, so that only the app's side is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",
    "OPENAI_API_KEY": "sk-stand-in",
}

SERVER = """
import signal, sys
from crewmeter_cost.demo.fake_provider import FakeProvider
with FakeProvider() as server:
    print(server.base_url("openai"), flush=True)
    sys.stdin.read()
"""

APP = """
import json, os, statistics, sys, time
import crewai
from crewai import LLM, Agent, Crew, Task
import crewmeter

calls, kickoffs, blocks = int(sys.argv[1]), int(sys.argv[2]), 10
llm = LLM(model="gpt-4o-mini", base_url=os.environ["STANDIN"], api_key="sk-stand-in")

def one_call():
    llm.call("Say hello.")

def one_kickoff():
    agent = Agent(role="Writer", goal="Write", backstory="Writes.", llm=llm)
    Crew(agents=[agent], tasks=[Task(description="Write one line.", expected_output="A line.", agent=agent)]).kickoff()

def timed(act, count):
    samples = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        act()
        samples.append(time.perf_counter_ns() - begun)
    return samples

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

timed(one_call, 50), timed(one_kickoff, 3)
before = rss()
begun = time.perf_counter()
handle = crewmeter.instrument()
instrument_s = time.perf_counter() - begun
timed(one_call, 50), timed(one_kickoff, 3)
handle.flush(5)
memory = rss() - before
handle.uninstrument()
median = statistics.median
def block(settle):
    # The same before either kind: the steady state is meant, what opening costs is measured on its own.
    timed(one_call, 3), timed(one_kickoff, 1), settle(5), time.sleep(0.5)
    timed(one_call, 3)
    return median(timed(one_call, calls // blocks)) / 1e3, median(timed(one_kickoff, max(1, kickoffs // blocks))) / 1e6
bare, on = [], []
for _ in range(blocks):
    bare.append(block(lambda _: None))
    handle = crewmeter.instrument()
    on.append(block(handle.flush))
    handle.flush(5)
    handle.uninstrument()
call, kick = zip(*bare)
added, added_kick = zip(*[(with_us - without_us, with_ms - without_ms) for (with_us, with_ms), (without_us, without_ms) in zip(on, bare)])
print("RESULT" + json.dumps({"bare_us": median(call), "added_us": median(added), "bare_kick_ms": median(kick),
    "added_kick_ms": median(added_kick), "instrument_ms": instrument_s * 1e3, "memory_mb": memory / 2**20}))
"""

EXIT = """
import os, sys, time
from crewai import LLM
if sys.argv[1] == "on":
    import crewmeter
    crewmeter.instrument()
llm = LLM(model="gpt-4o-mini", base_url=os.environ["STANDIN"], api_key="sk-stand-in")
for _ in range(5):
    llm.call("Say hello.")
print("RESULT" + str(time.time()), flush=True)
"""

DEATH = """
import os, signal, sys, time
from crewai import LLM
import crewmeter
crewmeter.instrument()
llm = LLM(model="gpt-4o-mini", base_url=os.environ["STANDIN"], api_key="sk-stand-in")
llm.call("Warm up."); crewmeter.flush(5)
for _ in range(23):
    llm.call("Say hello.")
time.sleep(0.5)
os._exit(0) if sys.argv[1] == "exit" else os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def stand_in():
    """The stand-in provider in a process of its own; gives its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=5)


@contextmanager
def black_hole():
    """A port that accepts nothing and answers nothing: a full backlog swallows every connection attempt."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


def app(code: str, *args: str, base_url: str, home: Path, **env: str) -> tuple[str, float, int]:
    """Run an app; its RESULT line, when it ended (unix seconds), and its exit code."""
    script = home / "app.py"
    script.write_text(textwrap.dedent(code))
    full = {
        **os.environ,
        **QUIET,
        "HOME": str(home),
        "CREWAI_STORAGE_DIR": str(home),
        "STANDIN": base_url,
        **env,
    }
    done = subprocess.run(
        [sys.executable, str(script), *args],
        env=full,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    ended = time.time()
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not results and done.returncode not in (0, -signal.SIGKILL):
        sys.exit(done.stderr)
    return (results[-1].removeprefix("RESULT") if results else ""), ended, done.returncode


def exit_seconds(mode: str, base_url: str, home: Path, **env: str) -> float:
    """Seconds from the app's last line to the end of its process."""
    told, ended, _ = app(EXIT, mode, base_url=base_url, home=home, **env)
    return ended - float(told)


def kept(how: str, base_url: str, home: Path) -> int:
    """Calls in the ledger after the process died without a goodbye."""
    ledger = home / f"{how}.db"
    app(DEATH, how, base_url=base_url, home=home, CREWMETER_LEDGER=str(ledger))
    with sqlite3.connect(ledger) as connection:
        return connection.execute("SELECT count(*) FROM call").fetchone()[0]


def row(name: str, value: str, limit: str, ok: bool) -> bool:
    print(f"{name:<58}{value:>16}{limit:>16}  {'ok' if ok else 'OVER'}")
    return ok


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--kickoffs", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    passed = []
    print(f"{'':<58}{'measured':>16}{'limit':>16}")
    with tempfile.TemporaryDirectory() as folder, stand_in() as url:
        home = Path(folder)
        ledger = {"CREWMETER_LEDGER": str(home / "ledger.db")}
        told, _, _ = app(
            APP, str(asked.calls), str(asked.kickoffs), base_url=url, home=home, **ledger
        )
        got = json.loads(told)
        print(f"{'one LLM call, uninstrumented':<58}{got['bare_us']:>13.0f} µs")
        print(f"{'one kickoff, uninstrumented':<58}{got['bare_kick_ms']:>13.2f} ms")
        added = got["added_us"]
        passed.append(
            row("one LLM call, added (median)", f"+{added:.0f} µs", "+100 µs", added <= 100)
        )
        added = got["added_kick_ms"]
        passed.append(row("one kickoff, added (median)", f"+{added:.2f} ms", "+2 ms", added <= 2))
        passed.append(
            row(
                "instrument(), crewai imported",
                f"{got['instrument_ms']:.0f} ms",
                "150 ms",
                got["instrument_ms"] <= 150,
            )
        )
        passed.append(
            row("memory added", f"+{got['memory_mb']:.1f} MB", "+25 MB", got["memory_mb"] <= 25)
        )
        with black_hole() as silent:
            refused = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            }
            swallowed = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": silent,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            }
            bare = statistics.median(exit_seconds("off", url, home) for _ in range(asked.pairs))
            for name, env, limit in (
                ("exit, embedded ledger", ledger, 0.2),
                ("exit, endpoint refuses", refused, 2.0),
                ("exit, endpoint swallows", swallowed, 2.0),
                (
                    "exit, gRPC endpoint refuses",
                    {**refused, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                    2.0,
                ),
                (
                    "exit, gRPC endpoint swallows",
                    {**swallowed, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                    2.0,
                ),
            ):
                added = (
                    statistics.median(
                        exit_seconds("on", url, home, **env) for _ in range(asked.pairs)
                    )
                    - bare
                )
                passed.append(
                    row(
                        f"{name}, added to {bare:.2f} s",
                        f"{added:+.2f} s",
                        f"+{limit} s",
                        added <= limit,
                    )
                )
        for how, name in (
            ("exit", "calls kept after os._exit"),
            ("kill", "calls kept after kill -9"),
        ):
            count = kept(how, url, home)
            passed.append(row(name, f"{count} of 24", "24", count == 24))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
