"""The tests that cost most, printed after a run with the fact each of them shows.

Seconds of processor time count, the test's own and that of the processes it waited for: they hardly
change with what else the machine does, and in a parallel run they are what a test costs others.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SlowestTests"]

PRINTED = 20
PROPERTY = "cost"
BEGAN = pytest.StashKey[float]()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one test took: processor seconds, and why it is worth them."""

    cpu: float
    test: str
    fact: str


def processor_seconds() -> float:
    """Return the seconds that this process and its finished children have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class SlowestTests:
    """A pytest plugin; also works with pytest-xdist, where workers report what tests took."""

    def __init__(self) -> None:
        self._costs: list[Cost] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note where a test begins."""
        item.stash[BEGAN] = processor_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Put into the last report of a test what it took with its fixtures."""
        report = yield
        if report.when == "teardown":
            document = getattr(getattr(item, "function", None), "__doc__", None) or ""
            fact = document.strip().partition("\n")[0]
            used = processor_seconds() - item.stash[BEGAN]
            report.user_properties.append((PROPERTY, [used, fact]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what a test took, from this process or a worker."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                used, fact = value
                self._costs.append(Cost(used, report.nodeid, fact))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the tests that cost most."""
        if len(self._costs) <= PRINTED:
            return
        costliest = sorted(self._costs, key=lambda cost: cost.cpu, reverse=True)[:PRINTED]
        total = sum(cost.cpu for cost in self._costs)
        terminalreporter.section(f"{PRINTED} costliest of {len(self._costs)} tests")
        terminalreporter.line(f"{total:.0f} s of processor time in all")
        for cost in costliest:
            name = cost.test.removeprefix("tests/")
            terminalreporter.line(f"{cost.cpu:6.1f} s  {name}")
            terminalreporter.line(f"          {cost.fact}")
