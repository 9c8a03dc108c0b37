"""A pytest plugin: what each test's model calls cost, and a limit on it.

    pytest --crewmeter

    @pytest.mark.crewmeter(max="0.05 USD")
    def test_my_crew(): ...

Costs are what the provider would bill for the responses that a test saw, recorded ones included.
Imported by every pytest run of an environment, so it imports nothing heavy until it is used.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from crewmeter_cost.ledger.read.report import ReportRow

__all__ = ["pytest_addoption", "pytest_configure"]

_PREFIX = "crewmeter_"
_COUNTS = ("calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens")
_TAG = "test"
_MAX_TAG = 300
"""Characters of a test's id in the ledger; a longer id ends in a hash."""
_FLUSH_SECONDS = 10.0
_LISTED = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("crewmeter", "what each test's model calls cost")
    group.addoption(
        "--crewmeter",
        action="store_true",
        help="meter every test: cost per test, and limits by @pytest.mark.crewmeter(max=…)",
    )
    group.addoption(
        "--crewmeter-ledger",
        metavar="URL",
        help="where to record the calls (default: a temporary ledger)",
    )
    group.addoption(
        "--crewmeter-baseline",
        metavar="FILE",
        help="write the costs as a baseline for `crewmeter gate --baseline FILE`",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and the meter where it is wanted."""
    config.addinivalue_line(
        "markers",
        "crewmeter(max=None, max_calls=None): fail the test where its model calls cost more "
        "than max ('0.05 USD'), or are more than max_calls; needs --crewmeter",
    )
    if config.getoption("--crewmeter"):
        config.pluginmanager.register(_Meter(config), "crewmeter-meter")


class _Meter:
    """Meters the tests of one process, and prints what those of all processes cost."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder = tempfile.TemporaryDirectory(prefix="crewmeter-pytest-")
        self._ledger = config.getoption("--crewmeter-ledger") or str(
            Path(self._folder.name) / "ledger.db"
        )
        self._tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tag every call of a test, those of its fixtures included."""
        import crewmeter

        # A test may undo the installation, so each one asks for it again.
        crewmeter.instrument(ledger=self._ledger, summary=False)
        with crewmeter.attribute(**{_TAG: _tag_value(item.nodeid)}):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record what the test cost, and fail it where that is over its limit."""
        passed = False
        try:
            result = yield
            passed = True
        finally:
            total = self._total(item.nodeid)
            if total is not None:
                _record(item, total)
                if passed:
                    _check_limits(item, total)
        return result

    def _total(self, nodeid: str) -> ReportRow | None:
        """Return the sums of a test's calls, None where nothing was recorded."""
        import crewmeter
        from crewmeter_cost.errors import CrewMeterError
        from crewmeter_cost.ledger.read.report import report
        from crewmeter_cost.ledger.store import Ledger

        crewmeter.flush(_FLUSH_SECONDS)
        try:
            with Ledger.open(self._ledger, read_only=True) as ledger:
                where = {f"tag:{_TAG}": _tag_value(nodeid)}
                return report(ledger, by=(), where=where).total
        except CrewMeterError:
            # No test has called a model yet, so there is no ledger.
            return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what a test recorded, in this process or in a worker of pytest-xdist."""
        if report.when != "call":
            return
        recorded = {
            name.removeprefix(_PREFIX): value
            for name, value in report.user_properties
            if name.startswith(_PREFIX)
        }
        if recorded:
            self._tests[report.nodeid] = recorded

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the most expensive tests and the sum, and write the baseline."""
        from crewmeter_cost.formatting import counted

        billed = {name: test for name, test in self._tests.items() if test["calls"]}
        terminalreporter.section("crewmeter: cost per test")
        ordered = sorted(
            billed.items(),
            key=lambda pair: -Decimal(pair[1]["cost_usd"] or 0),
        )
        for nodeid, test in ordered[:_LISTED]:
            terminalreporter.write_line(
                f"{_cost_text(test):>16}  {counted(test['calls'], 'call'):>9}  {nodeid}"
            )
        if len(ordered) > _LISTED:
            terminalreporter.write_line(f"and {len(ordered) - _LISTED:,} more tests")
        totals = _summed(billed)
        of = counted(len(billed), "test")
        calls = counted(totals["calls"], "call")
        terminalreporter.write_line(f"{_cost_text(totals):>16}  {calls:>9}  in {of}")
        self._write_baseline(totals, billed)

    def _write_baseline(
        self, totals: Mapping[str, Any], tests: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write the baseline file, where one is wanted and this is not a worker."""
        path = self._config.getoption("--crewmeter-baseline")
        if not path or hasattr(self._config, "workerinput"):
            return
        from crewmeter_cost.analysis.cost_gate import baseline_document

        text = (
            json.dumps(
                baseline_document(totals, tests),
                indent=2,
            )
            + "\n"
        )
        Path(path).write_text(text, "utf-8")

    def pytest_unconfigure(self) -> None:
        """Stop metering."""
        import crewmeter

        crewmeter.uninstrument()
        self._folder.cleanup()


def _tag_value(nodeid: str) -> str:
    """Return a test's id as it is stored."""
    if len(nodeid) <= _MAX_TAG:
        return nodeid
    digest = hashlib.sha256(nodeid.encode()).hexdigest()[:16]
    return f"{nodeid[:_MAX_TAG]}…{digest}"


def _record(item: pytest.Item, total: ReportRow) -> None:
    """Put the sums beside the test's result.

    They become properties in JUnit XML.
    """
    from crewmeter_cost.money import exact_usd

    for name in _COUNTS:
        item.user_properties.append((_PREFIX + name, total.sums[name]))
    cost = total.cost_pusd
    item.user_properties.append((_PREFIX + "cost_usd", None if cost is None else exact_usd(cost)))


def _check_limits(item: pytest.Item, total: ReportRow) -> None:
    """Fail the test where it is over a limit of its mark."""
    from crewmeter_cost.formatting import counted
    from crewmeter_cost.money import exact_usd

    mark = item.get_closest_marker("crewmeter")
    if mark is None:
        return
    limit = mark.kwargs.get("max")
    max_calls = mark.kwargs.get("max_calls")
    calls = total.sums["calls"]
    unpriced = total.sums["unpriced_calls"]
    if max_calls is not None and calls > max_calls:
        pytest.fail(
            f"{counted(calls, 'model call')}, over max_calls={max_calls}",
            pytrace=False,
        )
    if limit is None:
        return
    allowed = _usd(limit)
    if unpriced:
        pytest.fail(
            f"{counted(unpriced, 'call')} without a price, so max={limit!r} cannot be checked",
            pytrace=False,
        )
    cost = Decimal(exact_usd(total.cost_pusd or 0))
    if cost > allowed:
        pytest.fail(
            f"model calls cost ${cost:f} ({counted(calls, 'call')}), over max={limit!r}",
            pytrace=False,
        )


def _usd(limit: object) -> Decimal:
    """Return the amount in USD of ``"0.05 USD"``, ``"$0.05"`` or a number."""
    from crewmeter_cost.errors import CrewMeterError
    from crewmeter_cost.number_text import exact_decimal

    text = str(limit).strip().removesuffix("USD").strip().removeprefix("$")
    try:
        amount = exact_decimal(text)
    except CrewMeterError:
        amount = Decimal(-1)
    if amount < 0:
        raise pytest.UsageError(
            f"crewmeter mark: max={limit!r} is not an amount such as '0.05 USD'"
        )
    return amount


def _summed(tests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums over tests. The cost is of the calls that have a price."""
    totals: dict[str, Any] = {name: sum(test[name] for test in tests.values()) for name in _COUNTS}
    cost = sum(
        (Decimal(test["cost_usd"] or 0) for test in tests.values()),
        Decimal(0),
    )
    totals["cost_usd"] = f"{cost.normalize():f}"
    return totals


def _cost_text(sums: Mapping[str, Any]) -> str:
    """Return a cost for the summary.

    A star marks calls without a price.
    """
    if sums["cost_usd"] is None:
        return "unpriced"
    star = "*" if sums["unpriced_calls"] else ""
    return f"${Decimal(sums['cost_usd']).normalize():f}{star}"
