"""Run a Python program, metered, as ``python`` itself would run it.

The same ``__main__``, ``sys.argv`` and ``sys.path``, the same exit code, and a traceback that
shows the program's frames only.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.util
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

    from crewmeter_cost.ledger.read.report import ReportRow

__all__ = ["launch"]

_INTERRUPTED = 130
"""What a shell reports for a program ended by Ctrl-C."""


def launch(
    target: str, arguments: Sequence[str], *, module: bool, ledger: str | None, summary: bool
) -> None:
    """Run the file (or module) `target` to its end.

    The process exits with its code.

    `ledger` as for `Ledger.open`. With `summary`, one line on stderr at the very end says what the
    run cost. Raises `CrewMeterError` where there is nothing to run.
    """
    main, code = _module(target) if module else _script(target)
    sys.argv = [
        str(main.__file__),
        *arguments,
    ]
    sys.modules["__main__"] = main
    summary = (
        summary
        and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        and not os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    if summary:  # with an endpoint, the money is counted behind it
        atexit.register(
            _summarise, ledger, datetime.now(UTC)
        )  # before instrument(), whose own exit hook must run first
    import crewmeter

    crewmeter.instrument(ledger=ledger, summary=False)
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    # As the interpreter does: it reports whatever a program does not catch.
    except BaseException as error:  # noqa: BLE001
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.excepthook(
            type(error),
            error.with_traceback(trace),
            trace,
        )  # without this frame
        sys.exit(_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)


def _main(file: str, spec: ModuleSpec | None) -> ModuleType:
    main = ModuleType("__main__")
    main.__file__ = file
    main.__spec__ = spec
    main.__loader__ = spec.loader if spec is not None else None
    main.__package__ = spec.parent if spec is not None else None
    main.__dict__["__builtins__"] = __builtins__
    return main


def _script(target: str) -> tuple[ModuleType, CodeType]:
    """``python SCRIPT``: the script's folder leads the path.

    A folder or zip file with a ``__main__.py`` runs too.
    """
    path = Path(target)
    if path.is_dir() or path.suffix in (".zip", ".pyz"):
        sys.path[0] = str(path)
        return _module("__main__", displayed=target)
    try:
        with io.open_code(str(path.absolute())) as file:
            source = file.read()
    except OSError as error:
        raise CrewMeterError(
            f"can't open {target!r}: {error.strerror}",
            hint="crewmeter run SCRIPT [ARGS…], or -m MODULE",
        ) from error
    sys.path[0] = str(path.absolute().parent)
    try:
        return _main(target, None), compile(source, target, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        sys.excepthook(
            type(error),
            error.with_traceback(None),
            None,
        )
        sys.exit(1)


def _module(target: str, *, displayed: str | None = None) -> tuple[ModuleType, CodeType]:
    """``python -m MODULE``: the current folder leads the path.

    A package runs its ``__main__``.
    """
    if displayed is None:
        sys.path[0] = os.getcwd()
    try:
        spec = importlib.util.find_spec(target)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{target}.__main__")
    except (ImportError, ValueError) as error:
        raise CrewMeterError(
            f"no module named {target!r} ({error})", hint="crewmeter run -m MODULE [ARGS…]"
        ) from error
    loader = spec.loader if spec is not None else None
    code = (
        loader.get_code(spec.name)
        if spec is not None and isinstance(loader, importlib.abc.InspectLoader)
        else None
    )
    if spec is None or code is None:
        raise CrewMeterError(
            f"{displayed or target!r} has nothing to run",
            hint="crewmeter run -m MODULE [ARGS…]; a package needs a __main__.py",
        )
    return _main(
        spec.origin or target,
        spec,
    ), code


def _summarise(ledger: str | None, began: datetime) -> None:
    """Print one line on stderr.

    What the ledger got since the program began, or what was lost.
    """
    from crewmeter_cost.ledger.read.report import report
    from crewmeter_cost.ledger.read.runs import runs
    from crewmeter_cost.ledger.store import Ledger

    try:
        with Ledger.open(ledger, read_only=True) as opened:
            total = report(opened, since=began).total
            count = len(runs(opened, since=began, limit=None))
    except CrewMeterError as error:
        sys.stderr.write(f"crewmeter: no summary: {error.message}\n")
    else:
        sys.stderr.write(f"crewmeter: {_summary(total, count, ledger)}\n")
    loss = _loss()
    if loss:
        sys.stderr.write(f"crewmeter: {loss}\n")


def _summary(total: ReportRow, runs: int, ledger: str | None) -> str:
    """Return runs, calls, tokens and cost in words, and how to see more."""
    from crewmeter_cost.formatting import counted, usd

    sums = total.sums
    if not sums["calls"] and not runs:
        return "no crew ran and no model was called"
    calls = counted(sums["calls"], "call")
    if sums["failed_calls"]:
        calls += f" ({sums['failed_calls']:,} failed)"
    cost = []
    if sums["priced_calls"]:
        cost.append(usd(total.cost_pusd))
    if sums["unpriced_calls"]:
        cost.append(f"{counted(sums['unpriced_calls'], 'call')} unpriced")
    show = "crewmeter show last"
    if ledger:
        show += f" --ledger {ledger}"
    tokens = f"{sums['input_tokens']:,} in + {sums['output_tokens']:,} out tokens"
    billed = " and ".join(cost) or "nothing billed"
    return " · ".join(
        [
            counted(runs, "run"),
            calls,
            tokens,
            billed,
            show,
        ]
    )


def _loss() -> str:
    """Return which calls reached no ledger and what they cost.

    Nothing where all did.
    """
    from crewmeter_cost.exporter import unwritten_spans
    from crewmeter_cost.formatting import counted, usd
    from crewmeter_cost.intake.classify import read
    from crewmeter_cost.pricing.charge import Charge, charge_call
    from crewmeter_cost.pricing.price_book import PriceBook
    from crewmeter_cost.records import Call

    found = [read(span) for span in unwritten_spans()]
    calls = [each for each in found if isinstance(each, Call)]
    if not calls:
        return ""
    book = PriceBook.load()
    charges = [charge_call(call, book) for call in calls]
    priced = [each.cost_pusd for each in charges if isinstance(each, Charge)]
    cost = usd(sum(priced)) if priced else "of unknown cost"
    unpriced = len(calls) - len(priced)
    without = f" and {counted(unpriced, 'call')} without a price" if priced and unpriced else ""
    return f"NOT RECORDED: {counted(len(calls), 'call')}, {cost}{without}; the ledger took none"
