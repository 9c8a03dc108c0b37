"""The loop guard: a run that calls too often, burns too many tokens, or uses one tool with the same arguments again and again."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

__all__ = ["Limits", "LoopGuard", "Verdict"]

MOST_RUNS = 10_000
"""Runs watched at once; the one seen longest ago is forgotten first."""
MOST_ARGUMENTS = 1_000
"""Different tool uses remembered per run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may do; None is no limit. `stop` says whether passing a limit stops the run or only warns."""

    calls: int | None = None
    tokens: int | None = None
    same_tool: int | None = None
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit a run has passed: which one, where it stands, and whether the run must stop."""

    limit: str
    """``calls`` | ``tokens`` | ``same_tool``."""
    value: int
    allowed: int
    stop: bool
    detail: str = ""


@dataclass(slots=True)
class _Run:
    calls: int = 0
    tokens: int = 0
    uses: Counter[bytes] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)


class LoopGuard:
    """Counts per run. Arguments are kept as hashes only. Safe from any thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, run_id: str) -> Verdict | None:
        """One more LLM call is about to be made."""
        with self._lock:
            run = self._run(run_id)
            run.calls += 1
            return self._judge(run, "calls", run.calls, self._limits.calls)

    def tokens(self, run_id: str, count: int) -> Verdict | None:
        """A call used so many tokens."""
        with self._lock:
            run = self._run(run_id)
            run.tokens += count
            return self._judge(run, "tokens", run.tokens, self._limits.tokens)

    def tool(self, run_id: str, name: str, arguments: str) -> Verdict | None:
        """A tool is about to be used with these arguments."""
        with self._lock:
            run = self._run(run_id)
            key = hashlib.blake2b(f"{name}\0{arguments}".encode(), digest_size=16).digest()
            run.uses[key] += 1
            if len(run.uses) > MOST_ARGUMENTS:
                run.uses.pop(next(iter(run.uses)))
            return self._judge(run, "same_tool", run.uses[key], self._limits.same_tool, detail=name)

    def _run(self, run_id: str) -> _Run:
        run = self._runs.pop(run_id, None) or _Run()
        self._runs[run_id] = run
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)
        return run

    def _judge(self, run: _Run, limit: str, value: int, allowed: int | None, *, detail: str = "") -> Verdict | None:
        """A stop is said every time, a warning once per run and limit."""
        if allowed is None or value <= allowed or (not self._limits.stop and limit in run.said):
            return None
        run.said.add(limit)
        return Verdict(limit, value, allowed, self._limits.stop, detail)
