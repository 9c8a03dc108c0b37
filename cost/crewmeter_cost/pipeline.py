"""Spans in, priced rows out.

The one path that the embedded exporter, the sidecar and the demo's history all take.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crewmeter.semconv import INVOKE_AGENT
from crewmeter_cost.intake import classify, span_dedup
from crewmeter_cost.intake.captured_content import captured_content
from crewmeter_cost.pricing.charge import charge_call
from crewmeter_cost.records import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crewmeter_cost.ledger.store import Ledger, Written
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.pricing.charge_result import FrozenRates
    from crewmeter_cost.pricing.price_book import PriceBook
    from crewmeter_cost.records import CapturedContent, Span, Step

__all__ = ["ContentSink", "Pipeline", "Priced", "Receipt"]

_log = logging.getLogger("crewmeter")

_SLICE = 16
"""Spans read between two pauses, in about a tenth of a millisecond."""


class ContentSink(Protocol):
    """Where captured content goes."""

    def write(self, contents: Sequence[CapturedContent]) -> None:
        """Store content whose spans are in the ledger. Never raises."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch of spans. It is in the ledger when you hold this."""

    spans: int
    calls: Sequence[tuple[Call, Outcome]]
    """Every billed call in the batch with its price, also those the ledger had already.

    `written.new_calls` are the new ones.
    """
    steps: Sequence[Step]
    written: Written

    @property
    def ignored(self) -> int:
        """Spans that are neither a call nor a step."""
        return _ignored(self.spans, self.calls, self.steps)


@dataclass(frozen=True, slots=True)
class Priced:
    """A batch read and priced, not yet in the ledger."""

    spans: int
    """How many spans it was read from."""
    calls: Sequence[tuple[Call, Outcome]]
    steps: Sequence[Step]
    contents: Sequence[CapturedContent] = ()
    """What the calls and steps captured, where it is to be stored."""

    @property
    def ignored(self) -> int:
        """Spans that are neither a call nor a step."""
        return _ignored(self.spans, self.calls, self.steps)


def _ignored(spans: int, calls: Sequence[tuple[Call, Outcome]], steps: Sequence[Step]) -> int:
    # An agent's span may be a step and, with the use of its calls, a call as well.
    both = sum(call.operation == INVOKE_AGENT for call, _ in calls)
    return spans - len(calls) - len(steps) + both


def _records(span: Span) -> list[Call | Step]:
    """Return what a span reports.

    One that cannot be read is logged and counts as ignored. Raised, its fault would cost the calls
    beside it, as OTLP senders do not try again after a status of 500.
    """
    try:
        record = classify.read(span)
        if isinstance(record, Call):
            return [record]
        total = classify.aggregate(span)
    except Exception as error:  # noqa: BLE001  listed in scripts/house_excepts.py
        _log.warning("a span that cannot be read was dropped: %s", type(error).__name__)
        return []
    return [each for each in (record, total) if each is not None]


class Pipeline:
    """Reads spans, prices the calls among them, and writes both to a ledger."""

    def __init__(
        self,
        ledger: Ledger,
        book: PriceBook,
        pause: Callable[[], object] | None = None,
        content: ContentSink | None = None,
    ) -> None:
        """Write to ``ledger`` at the prices of ``book``.

        Inside an app ``pause`` is called between slices of work, so that the app's threads need
        not wait for the interpreter until a batch is priced. Without ``content``, what spans
        captured is not looked at.
        """
        self.ledger = ledger
        self.book = book
        self._book_before = book
        self._pause = pause
        self._content = content

    def exchange_book(self, book: PriceBook) -> None:
        """Price by `book` from now on.

        Batches already priced by the one before can still be written.
        """
        self._book_before = self.book
        self.book = book

    def frozen(self, version: str) -> FrozenRates:
        """Return the rates behind a charge's price version, by the book that made it."""
        try:
            return self.book.frozen(version)
        except KeyError:
            return self._book_before.frozen(version)

    def price(self, spans: Sequence[Span]) -> Priced:
        """Return the calls and steps among `spans`, priced and ready to be written.

        Touches no ledger, so any thread may do it.
        """
        calls: list[Call] = []
        steps: list[Step] = []
        contents: list[CapturedContent] = []
        for number, span in enumerate(spans, start=1):
            if self._pause is not None and number % _SLICE == 0:
                self._pause()
            records = _records(span)
            for record in records:
                if isinstance(record, Call):
                    calls.append(record)
                else:
                    steps.append(record)
            if self._content is not None and records:
                contents += captured_content(span, records[0])
        book = self.book
        return Priced(
            len(spans),
            [(call, charge_call(call, book)) for call in span_dedup.paired(calls)],
            steps,
            contents,
        )

    def ingest(self, spans: Sequence[Span]) -> Receipt:
        """Put a batch into the ledger in one transaction.

        Returns when it is committed. Raises `CrewMeterError` where it could not be.
        """
        return self.write([self.price(spans)])

    def write(self, batches: Sequence[Priced]) -> Receipt:
        """Put priced batches into the ledger in one transaction, as `ingest` does."""
        calls = [call for batch in batches for call in batch.calls]
        steps = [step for batch in batches for step in batch.steps]
        spans = sum(batch.spans for batch in batches)
        written = self.ledger.write(calls, steps, self.frozen)
        if self._content is not None:
            # After the commit, in a store of its own: no fault there costs a call.
            contents = [each for batch in batches for each in batch.contents]
            self._content.write(_of_new_spans(contents, calls, steps, written))
        return Receipt(spans, calls, steps, written)


def _of_new_spans(
    contents: Sequence[CapturedContent],
    calls: Sequence[tuple[Call, Outcome]],
    steps: Sequence[Step],
    written: Written,
) -> list[CapturedContent]:
    """Return the content of the spans that the ledger took.

    A span delivered once more must not bring back what was deleted of it since.
    """
    if not contents:
        return []
    new: set[tuple[str, str]] = set()
    for position in written.new_calls:
        call, _ = calls[position]
        new.add((call.trace_id, call.span_id))
    for position in written.new_steps:
        step = steps[position]
        new.add((step.trace_id, step.span_id))
    for trace, span in written.superseding_spans:
        new.add((trace.hex(), span.hex()))
    return [each for each in contents if (each.trace_id, each.span_id) in new]
