"""Loop limits: the calls, tokens and repeated tool uses that one run may make."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crewmeter_cost.errors import CrewMeterError

__all__ = ["LoopGuard", "LoopLimits", "LoopVerdict", "is_loop_form", "parse_limits"]

LimitKind = Literal["calls", "tokens", "same_tool"]

MOST_RUNS = 10_000
"""Runs watched at once. The one seen longest ago is forgotten first."""
MOST_ARGUMENTS = 1_000
"""Different tool uses remembered per run."""
_COUNTS = ("calls", "tokens", "same_tool")
_HINT = (
    "the keys are calls, tokens and same_tool (whole numbers above zero) and stop (true or false)"
)


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """How much one run may do.

    None is no limit. `stop` says whether passing a limit stops the run or only warns.
    """

    calls: int | None = None
    tokens: int | None = None
    same_tool: int | None = None
    stop: bool = False


def is_loop_form(text: str) -> bool:
    """Return whether a short form is about loops: ``loop calls=50 same_tool=5 stop``."""
    return text.split(maxsplit=1)[:1] == ["loop"]


def parse_limits(source: object, *, where: str) -> LoopLimits:
    """Return limits from ``"loop calls=50 stop"`` or a mapping with these keys.

    Raises `CrewMeterError` naming `where` and the key at fault.
    """
    if isinstance(source, str):
        source = _words(source)
    if not isinstance(source, Mapping):
        raise CrewMeterError(f"{where}: {source!r} is not a table of limits", hint=_HINT)
    for key, value in source.items():
        if not _is_valid(key, value):
            raise CrewMeterError(f"{where}: {key} = {value!r} is no limit for loops", hint=_HINT)
    if not set(source) - {"stop"}:
        raise CrewMeterError(f"{where}: no limit is given", hint=_HINT)
    return LoopLimits(**source)


def _words(text: str) -> dict[str, object]:
    """Return the ``key=value`` words of a short form. A word without a value is true."""
    found: dict[str, object] = {}
    for word in text.split()[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            found[key] = True
        elif value.isascii() and value.isdecimal() and len(value) < 19:
            found[key] = int(value)
        else:
            found[key] = value
    return found


def _is_valid(key: object, value: object) -> bool:
    if key == "stop":
        return isinstance(value, bool)
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return key in _COUNTS and value > 0


@dataclass(frozen=True, slots=True)
class LoopVerdict:
    """A limit a run has passed: which one, its value, and whether the run must stop."""

    limit: LimitKind
    value: int
    allowed: int
    stop: bool
    detail: str = ""

    @property
    def text(self) -> str:
        """Return what to tell a person."""
        done = {
            "calls": "model calls made",
            "tokens": "tokens used",
            "same_tool": f"uses of {self.detail!r} with the same arguments",
        }
        return (
            f"the run is going in circles: {self.value} {done[self.limit]}, "
            f"{self.allowed} are allowed"
        )


@dataclass(slots=True)
class _WatchedRun:
    calls: int = 0
    tokens: int = 0
    uses: Counter[bytes] = field(default_factory=Counter)
    warned: set[str] = field(default_factory=set)
    stopped: LoopVerdict | None = None


class LoopGuard:
    """Counts per run, safe from any thread. Arguments are remembered as hashes only."""

    def __init__(self, limits: LoopLimits) -> None:
        self._limits = limits
        self._runs: OrderedDict[str, _WatchedRun] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, run_id: str) -> LoopVerdict | None:
        """Count an LLM call that is about to be made."""
        with self._lock:
            run = self._run(run_id)
            if run.stopped is not None:
                return run.stopped
            run.calls += 1
            return self._judge(
                run,
                "calls",
                run.calls,
                self._limits.calls,
            )

    def tokens(self, run_id: str, count: int) -> LoopVerdict | None:
        """Count the tokens of a finished call."""
        with self._lock:
            run = self._run(run_id)
            run.tokens += count
            return self._judge(
                run,
                "tokens",
                run.tokens,
                self._limits.tokens,
            )

    def tool(self, run_id: str, name: str, arguments: str) -> LoopVerdict | None:
        """Count a tool use that is about to be made with these arguments."""
        with self._lock:
            run = self._run(run_id)
            use = f"{name}\0{arguments}".encode("utf-8", "surrogatepass")
            key = hashlib.blake2b(use, digest_size=16).digest()
            run.uses[key] += 1
            if len(run.uses) > MOST_ARGUMENTS:
                run.uses.pop(next(iter(run.uses)))
            return self._judge(
                run,
                "same_tool",
                run.uses[key],
                self._limits.same_tool,
                detail=name,
            )

    def after_fork(self) -> None:
        """Replace the lock in a forked child, where a thread of the parent may hold it."""
        self._lock = threading.Lock()

    def _run(self, run_id: str) -> _WatchedRun:
        run = self._runs.pop(run_id, None) or _WatchedRun()
        self._runs[run_id] = run
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)
        return run

    def _judge(
        self,
        run: _WatchedRun,
        limit: LimitKind,
        value: int,
        allowed: int | None,
        *,
        detail: str = "",
    ) -> LoopVerdict | None:
        """Return the verdict: a stop every time, a warning once per run and limit."""
        if allowed is None or value <= allowed:
            return None
        if limit in run.warned and not self._limits.stop:
            return None
        run.warned.add(limit)
        verdict = LoopVerdict(
            limit,
            value,
            allowed,
            self._limits.stop,
            detail,
        )
        if verdict.stop:
            run.stopped = verdict
        return verdict
