"""Whether the event handler's memory stays flat over a million events.

``python benchmarks/soak.py [--events 1000000]`` feeds the event handler one kickoff after the
other (crew, task, agent, a streamed model call, a tool: 15 events), prints the resident memory
(MB) every tenth of the way, and exits 1 if it grows by 5 MB or more after the first fifth. Linux
only: the figure is read from ``/proc/self/statm``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from crewmeter.crewai.event_handler import EventHandler
from crewmeter.redaction import Content
from crewmeter.spans.recorder import Recorder

LIMIT_MB = 5.0
CHUNKS = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_USAGE = {"prompt_tokens": 1000, "completion_tokens": 20}


def resident_mb() -> float:
    """Memory of this process that is in RAM (MB)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


class Teller:
    """Emits the events of kickoffs as CrewAI numbers and nests them."""

    def __init__(self, event_handler: EventHandler) -> None:
        self.reported = 0
        self._event_handler = event_handler
        self._number = count()

    def kickoff(self) -> None:
        """One crew of one task whose agent asks a streaming model and uses a tool."""
        crew, task, agent = (
            SimpleNamespace(name="crew"),
            SimpleNamespace(id="t", name="write"),
            SimpleNamespace(id="a", role="Writer"),
        )
        model = SimpleNamespace(model="gpt-4o-mini", provider="openai")
        run = self._start("crew_kickoff_started", None, crew, crew_name="crew", inputs=None)
        work = self._start("task_started", run, task, task=task)
        who = self._start("agent_execution_started", work, agent, agent=agent, task_prompt="p")
        call = self._start(
            "llm_call_started", who, model, call_id=f"call-{run}", model="gpt-4o-mini", messages="m"
        )
        for _ in range(CHUNKS):
            self._print_summary("llm_stream_chunk", model, call_id=f"call-{run}")
        self._print_summary(
            "llm_call_completed",
            model,
            started_event_id=call,
            call_id=f"call-{run}",
            usage=_USAGE,
            response="r",
        )
        tool = self._start("tool_usage_started", who, agent, tool_name="fetch", tool_args={})
        self._print_summary(
            "tool_usage_finished", agent, started_event_id=tool, tool_name="fetch", output="o"
        )
        self._print_summary(
            "agent_execution_completed", agent, started_event_id=who, agent=agent, output="o"
        )
        self._print_summary("task_completed", task, started_event_id=work, task=task, output=None)
        self._print_summary("crew_kickoff_completed", crew, started_event_id=run, crew_name="crew")

    def _start(self, kind: str, parent: str | None, source: object, **fields: object) -> str:
        return self._print_summary(kind, source, parent_event_id=parent, **fields)

    def _print_summary(self, kind: str, source: object, **fields: Any) -> str:
        event = SimpleNamespace(
            type=kind, event_id=f"e{next(self._number)}", **{"parent_event_id": None, **fields}
        )
        self.reported += 1
        self._event_handler.handle(source, event, time.time_ns())
        return str(event.event_id)


def main() -> int:
    """Run; 0 if flat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    ended = count()
    recorder = Recorder(lambda node: void(next(ended)), sampler=DEFAULT_ON)
    feeder = Teller(EventHandler(recorder, Content()))
    print(f"{'events':>10}  {'resident MB':>11}")
    print(f"{0:>10}  {resident_mb():>11.2f}")
    seen: list[float] = []
    begun = time.perf_counter()
    for tenth in range(1, 11):
        while feeder.reported < events * tenth // 10:
            feeder.kickoff()
        recorder.sweep(time.time_ns())
        seen.append(resident_mb())
        print(f"{feeder.reported:>10}  {seen[-1]:>11.2f}", flush=True)
    took = time.perf_counter() - begun
    growth = max(seen[2:]) - seen[1]
    still_open = recorder.open_count
    print(
        f"{next(ended)} spans, {still_open} left open, {took / feeder.reported * 1e6:.1f} us an "
        "event"
    )
    print(
        f"growth after the first fifth: {growth:+.2f} MB (limit {LIMIT_MB:.0f} MB): "
        f"{'flat' if growth < LIMIT_MB else 'NOT FLAT'}"
    )
    return 0 if growth < LIMIT_MB and not still_open else 1


def void(_: object) -> None:
    """Handle every finished span here."""


if __name__ == "__main__":
    sys.exit(main())
