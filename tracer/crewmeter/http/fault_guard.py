"""The one guard of HTTP observation.

The host's HTTP call must not notice a fault of ours.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

from crewmeter.budget_error import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["guarded", "report_fault"]

_log = logging.getLogger("crewmeter")
_LOG_EVERY_NS = 60 * 10**9

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
_last_logged_ns = -_LOG_EVERY_NS
_swallowed = 0


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """Log what goes wrong in ``method`` once a minute, and return None instead."""

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except BudgetExceeded:
            raise  # a refusal is no fault: the request must not be sent
        # The guard: the host's HTTP call must not notice us.
        except Exception as error:  # noqa: BLE001
            report_fault(method.__name__, error)
            return None

    return cast("Callable[Concatenate[S, P], R | None]", call)


def report_fault(what: str, error: Exception) -> None:
    """Log what went wrong by type and line.

    Never the message, which may quote a body.
    """
    global _last_logged_ns, _swallowed
    now = time.monotonic_ns()
    _swallowed += 1
    if now - _last_logged_ns < _LOG_EVERY_NS:
        return
    _last_logged_ns = now
    count = _swallowed
    _swallowed = 0
    line = 0
    trace = error.__traceback__
    while trace is not None:
        line = trace.tb_lineno
        trace = trace.tb_next
    _log.warning(
        "could not read a model's HTTP exchange (%s in %s, line %d; %d so far)",
        type(error).__name__,
        what,
        line,
        count,
    )
