"""Which spans lie below which, as far as their parents are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.semconv import INVOKE_AGENT, KIND_AGENT
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.rows import CALL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction
    from crewmeter_cost.records import Step

__all__ = ["Ancestry"]

SpanKey = tuple[bytes, bytes]


class Ancestry:
    """The parents of spans, from the calls and steps of the ledger and of a batch."""

    def __init__(self, transaction: Transaction, steps: Iterable[Step]) -> None:
        of = transaction.labels.of
        self._transaction = transaction
        self._agent = of["operation"][INVOKE_AGENT]
        self._agent_step = of["kind"][KIND_AGENT]
        self._parents: dict[SpanKey, bytes | None] = {}
        self._agents: set[SpanKey] = set()
        self._loaded: set[bytes] = set()
        for step in steps:
            parent = step.parent_span_id
            span = bytes.fromhex(step.trace_id), bytes.fromhex(step.span_id)
            self._add(
                span,
                None if parent is None else bytes.fromhex(parent),
                is_agent=step.kind == KIND_AGENT,
            )

    def add_call(self, row: Row) -> None:
        """Remember the parent of a call."""
        self._add(
            (row[CALL.trace_id], row[CALL.span_id]),
            row[CALL.parent_span_id],
            is_agent=row[CALL.operation] == self._agent,
        )

    def is_below(self, row: Row, total: Row) -> bool | None:
        """Return whether a row's span is below another's of its trace.

        None where the parent of the row is not known yet, so that it may be. Parents end, and are
        reported, after their children.
        """
        trace = row[CALL.trace_id]
        self._load(trace)
        above = self._above(row)
        if total[CALL.span_id] in above:
            return True
        if not above or not set(above).isdisjoint(self._above(total)):
            return False
        is_known = (trace, above[-1]) in self._parents
        through_agent = any((trace, span) in self._agents for span in above)
        return False if is_known or through_agent else None

    def _add(self, span: SpanKey, parent: bytes | None, *, is_agent: bool) -> None:
        self._parents[span] = parent
        if is_agent:
            self._agents.add(span)

    def _load(self, trace: bytes) -> None:
        """Read the steps of a trace from the ledger, once."""
        if trace in self._loaded:
            return
        self._loaded.add(trace)
        names = ("span_id", "parent_span_id", "kind")
        found = self._transaction.statements.select(
            self._transaction.session, columns.STEP, names, "trace_id", [trace]
        )
        for span, parent, kind in found:
            self._add(
                (trace, bytes(span)),
                None if parent is None else bytes(parent),
                is_agent=kind == self._agent_step,
            )

    def _above(self, row: Row) -> list[bytes]:
        """Return a span's ancestors, nearest first.

        The last may be unreported. Cycles end.
        """
        above: list[bytes] = []
        span = row[CALL.parent_span_id]
        while span is not None and span not in above:
            above.append(span)
            span = self._parents.get((row[CALL.trace_id], span))
        return above
