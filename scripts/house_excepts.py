"""The broad excepts of the source: which there may be, and why.

An `except Exception` that swallows hides bugs. It is allowed where a fault of ours must not reach
the user's app, and where a thread must outlive one bad item.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALLOWED", "broad_excepts"]

BROAD = {"Exception", "BaseException"}

# The function (module, then qualified name) and why it may swallow whatever is raised.
ALLOWED: dict[str, str] = {
    "crewmeter_cost.ledger.store.Ledger.explained": (
        "Re-raises all but SQLAlchemy's wrapper, which may not be imported to name it."
    ),
    "crewmeter_cost.exporter.LedgerSpanExporter._write": (
        "One span that can't be read must not hold up the rest, nor end the app's exports."
    ),
    "crewmeter_cost.pipeline._records": (
        "One span that can't be read must not cost those beside it. It is logged and ignored."
    ),
    "crewmeter_cost.sidecar.background.SupervisedThread._run": (
        "The thread must outlive whatever ends its work, SystemExit included. It logs and counts."
    ),
    "crewmeter_cost.sidecar.background.SerialExecutor._do_first": (
        "The error goes to whoever submitted the task."
    ),
    "crewmeter_cost.sidecar.writer.Writer._write_group": (
        "One batch that can't be written must not cost those beside it. It is logged and refused."
    ),
    "crewmeter.attribution._generator_function.call": (
        "what is thrown into a generator goes on into the one it wraps"
    ),
    "crewmeter.attribution._async_generator_function.call": "the same for asynchronous ones",
    "crewmeter.budget_hook.protocol.BudgetLookup._look": (
        "a broken environment costs a log line, not the app"
    ),
    "crewmeter.crewai.budget_hooks.BudgetHooks.refusal": (
        "a fault of ours must not stop a model call"
    ),
    "crewmeter.redaction._as_text": (
        "content is whatever the app's objects are, and must not cost the span it is on"
    ),
    "crewmeter.last_resort._LastResort.emit": (
        "a malformed log call must not raise into the app; logging's own report prints it"
    ),
    "crewmeter.crewai.event_handler.EventHandler.handle": (
        "the guard of the event bus: the app runs as if we were not there"
    ),
    "crewmeter.export.batch_processor.BatchProcessor._run": (
        "the worker outlives whatever an exporter does"
    ),
    "crewmeter.export.batch_processor.BatchProcessor._warm_up": (
        "a missing exporter is logged, and tried again with the first batch"
    ),
    "crewmeter.export.batch_processor.BatchProcessor._next_batch": (
        "one odd span must not hold up the rest"
    ),
    "crewmeter.export.batch_processor.BatchProcessor._finish": (
        "an exporter's shutdown must not print a traceback at the app's exit"
    ),
    "crewmeter.export.journal.Journal.append": (
        "a span that cannot be written there still goes to the exporter"
    ),
    "crewmeter.export.span_observer.SpanObserver.before_export": (
        "meter provider and budget guard may be anybody's, and must not cost a span"
    ),
    "crewmeter.http.fault_guard.guarded.call": (
        "the guard of HTTP clients: the app's call must not notice us"
    ),
    "crewmeter.http.http_call.HttpExchange._read": (
        "the same guard, for a response that is read late"
    ),
    "crewmeter.import_hook._Finder.imported": (
        "a package that cannot be patched can still be imported"
    ),
    "crewmeter.lifecycle.Installation._crewai_imported": (
        "a CrewAI that cannot be watched can still be imported"
    ),
    "crewmeter_cost.demo.crew._brief.MorningBrief.second_opinion": (
        "whatever the client raises, the brief goes out unchecked"
    ),
    "crewmeter_cost.ledger.write.journal_replay._write": (
        "a span of a damaged file is dropped and logged, or it would come back with every replay"
    ),
    "crewmeter_cost.script_runner.launch": (
        "stands where the interpreter does, and reports what a program does not catch"
    ),
}


def broad_excepts(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the function and line of each broad except that does not raise again."""
    yield from _walk(tree, module)


def _walk(node: ast.AST, where: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        inside = where
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{where}.{child.name}"
        if isinstance(child, ast.ExceptHandler) and is_broad(child) and not raises_again(child):
            yield inside, child.lineno
        yield from _walk(child, inside)


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler catches everything."""
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in BROAD for kind in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler ends by raising what it caught."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None
