"""CrewAI's hooks before model and tool calls, registered while a budget is active.

Each registered hook slows every call, so they are taken out when there is no budget.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from crewmeter.budget_error import BudgetExceeded
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.budget_hook.before_call import BeforeCallHook

__all__ = ["BudgetHooks"]

logger = logging.getLogger("crewmeter")

_RECHECK_NS = 100_000_000
"""How often (ns) model calls outside any run look whether there is a budget."""


class BudgetHooks:
    """The registration of our hooks with CrewAI."""

    def __init__(self, before_call: BeforeCallHook) -> None:
        self._before_call: BeforeCallHook | None = before_call
        self._limit = RateLimit()
        self._unregister: Callable[[], None] | None = None
        self.registered = False
        """True while our hooks are in."""
        self.next_check_ns = 0
        """When a model call outside any run shall call `update_at`."""

    def update(self) -> None:
        """Register or take out the hooks, as there is a budget or none."""
        if self._before_call is None or self._before_call.wanted == self.registered:
            return
        if self.registered:
            self.release()
        else:
            self._unregister = self._register(self._before_call)
            self.registered = True

    def update_at(self, now_ns: int) -> None:
        """Do the same at the start of a span: of a model call only where it is time to."""
        self.next_check_ns = now_ns + _RECHECK_NS
        self.update()

    def release(self) -> None:
        """Take the hooks out."""
        unregister = self._unregister
        self._unregister = None
        self.registered = False
        if unregister is not None:
            unregister()

    def disable(self) -> None:
        """Take the hooks out for good. Executors made meanwhile hold on to them."""
        self.release()
        self._before_call = None

    def refusal(
        self, check: Callable[..., BudgetExceeded | None], *subject: object
    ) -> BudgetExceeded | None:
        """Return what a check of the budgets says. A fault of ours must not stop a call."""
        if self._before_call is None:
            return None
        try:
            return check(*subject)
        except Exception as error:  # noqa: BLE001  # see above
            if self._limit.allows(monotonic()):
                name = type(error).__name__
                logger.warning("could not check the budgets: %s", name)
            return None

    def _register(self, before_call: BeforeCallHook) -> Callable[[], None]:
        """Register our hooks. A refusal reaches the caller the way CrewAI means it to.

        Returns:
            The function that takes them out.
        """
        from crewai import hooks

        # Before 1.15 a hook could only return False.
        aborted = getattr(hooks, "HookAborted", None)
        if aborted is not None:
            before_call.error = _aborting_error(aborted)

        def before_llm_call(context: Any) -> bool | None:
            refused = self.refusal(
                before_call.refusal,
                context.llm,
                context.messages,
            )
            if refused is None:
                return None
            if aborted is not None:
                raise refused
            return False

        def before_tool_call(context: Any) -> bool | None:
            """Refuse the tool only. The run stops as its next model call is refused, too."""
            refused = self.refusal(
                before_call.tool_refusal,
                context.tool_name,
                context.tool_input,
            )
            return None if refused is None else False

        hooks.register_before_llm_call_hook(before_llm_call)
        hooks.register_before_tool_call_hook(before_tool_call)

        def unregister() -> None:
            hooks.unregister_before_llm_call_hook(before_llm_call)
            hooks.unregister_before_tool_call_hook(before_tool_call)

        return unregister


def _aborting_error(aborted: type[Exception]) -> type[BudgetExceeded]:
    """Return `BudgetExceeded` as a class that is CrewAI's own stop as well.

    Callers of ``kickoff`` catch the former. What lies between would try again without the latter.
    """
    return type(
        "BudgetExceeded",
        (BudgetExceeded, aborted),
        {"__module__": "crewmeter", "__doc__": BudgetExceeded.__doc__},
    )
