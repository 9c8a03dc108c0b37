"""The loop guard: a run that calls too often, burns too many tokens, or uses one tool with the same arguments again and again."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from crewmeter_cost.errors import CrewMeterError

__all__ = ["LoopGuard", "LoopLimits", "LoopVerdict", "is_loop_form", "parse_limits"]

MOST_RUNS = 10_000
"""Runs watched at once; the one seen longest ago is forgotten first."""
MOST_ARGUMENTS = 1_000
"""Different tool uses remembered per run."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """How much one run may do; None is no limit. `stop` says whether passing a limit stops the run or only warns."""

    calls: int | None = None
    tokens: int | None = None
    same_tool: int | None = None
    stop: bool = False


def is_loop_form(text: str) -> bool:
    """Whether a short form is about loops: ``loop calls=50 same_tool=5 stop``."""
    return text.split(maxsplit=1)[:1] == ["loop"]


def parse_limits(source: object, *, where: str) -> LoopLimits:
    """`LoopLimits` from ``"loop calls=50 tokens=200000 same_tool=5 stop"`` or a mapping with these keys. Raises `CrewMeterError`."""
    hint = "the keys are calls, tokens and same_tool (whole numbers above zero) and stop (true or false)"
    if isinstance(source, str):
        words = [word.partition("=") for word in source.split()[1:]]
        source = {
            key: (True if not equals else int(value) if value.isdecimal() else value)
            for key, equals, value in words
        }
    if not isinstance(source, Mapping):
        raise CrewMeterError(f"{where}: {source!r} is not a table of limits", hint=hint)
    for key, value in source.items():
        is_flag = key == "stop" and isinstance(value, bool)
        is_count = (
            key in ("calls", "tokens", "same_tool")
            and isinstance(value, int)
            and not isinstance(value, bool)
            and value > 0
        )
        if not (is_flag or is_count):
            raise CrewMeterError(f"{where}: {key} = {value!r} is no limit for loops", hint=hint)
    if not set(source) - {"stop"}:
        raise CrewMeterError(f"{where}: no limit is given", hint=hint)
    return LoopLimits(**source)


@dataclass(frozen=True, slots=True)
class LoopVerdict:
    """A limit a run has passed: which one, where it stands, and whether the run must stop."""

    limit: str
    """``calls`` | ``tokens`` | ``same_tool``."""
    value: int
    allowed: int
    stop: bool
    detail: str = ""

    @property
    def text(self) -> str:
        """What to tell a person."""
        done = {
            "calls": "model calls made",
            "tokens": "tokens used",
            "same_tool": f"uses of {self.detail!r} with the same arguments",
        }
        return f"the run is going in circles: {self.value} {done[self.limit]}, {self.allowed} are allowed"


@dataclass(slots=True)
class _Run:
    calls: int = 0
    tokens: int = 0
    uses: Counter[bytes] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)
    stopped: LoopVerdict | None = None


class LoopGuard:
    """Counts per run. Arguments are kept as hashes only. Safe from any thread."""

    def __init__(self, limits: LoopLimits) -> None:
        self._limits = limits
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, run_id: str) -> LoopVerdict | None:
        """One more LLM call is about to be made."""
        with self._lock:
            run = self._run(run_id)
            if run.stopped is not None:
                return run.stopped
            run.calls += 1
            return self._judge(run, "calls", run.calls, self._limits.calls)

    def tokens(self, run_id: str, count: int) -> LoopVerdict | None:
        """A call used so many tokens."""
        with self._lock:
            run = self._run(run_id)
            run.tokens += count
            return self._judge(run, "tokens", run.tokens, self._limits.tokens)

    def tool(self, run_id: str, name: str, arguments: str) -> LoopVerdict | None:
        """A tool is about to be used with these arguments."""
        with self._lock:
            run = self._run(run_id)
            key = hashlib.blake2b(f"{name}\0{arguments}".encode(), digest_size=16).digest()
            run.uses[key] += 1
            if len(run.uses) > MOST_ARGUMENTS:
                run.uses.pop(next(iter(run.uses)))
            return self._judge(run, "same_tool", run.uses[key], self._limits.same_tool, detail=name)

    def after_fork(self) -> None:
        """In a forked child: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()

    def _run(self, run_id: str) -> _Run:
        run = self._runs.pop(run_id, None) or _Run()
        self._runs[run_id] = run
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)
        return run

    def _judge(
        self, run: _Run, limit: str, value: int, allowed: int | None, *, detail: str = ""
    ) -> LoopVerdict | None:
        """A stop is said every time, a warning once per run and limit."""
        if allowed is None or value <= allowed or (not self._limits.stop and limit in run.said):
            return None
        run.said.add(limit)
        verdict = LoopVerdict(limit, value, allowed, self._limits.stop, detail)
        if verdict.stop:
            run.stopped = verdict
        return verdict
