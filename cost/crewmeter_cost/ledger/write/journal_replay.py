"""Journals of processes that have ended.

The spans in them that are not in the ledger yet.

An app writes every finished span to a journal before its call returns, see
`crewmeter.export.journal_format`. Its own background thread writes the ledger. What a journal still
holds when the process ends is read here by whoever lives: another app, its parent, or a command.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.export.journal_format import FILE_SUFFIX, journal_folder, read_spans
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.records import Span

try:
    import fcntl
except ImportError:  # Windows: no app writes a journal there
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crewmeter.export.journal_format import JournalSpan

__all__ = ["has_journals", "own_span_ids", "replay_journals"]

_log = logging.getLogger("crewmeter")

_BATCH_SPANS = 500


def has_journals(ledger: Path) -> bool:
    """Return True where an ended process left a journal beside a SQLite ledger."""
    for path in _files(ledger):
        with _claimed(path) as descriptor:
            if descriptor is not None:
                return True
    return False


def own_span_ids(ledger: Path) -> set[tuple[str, str]]:
    """Return the (trace id, span id) of each span in this process's own journal."""
    held: set[tuple[str, str]] = set()
    for path in _files(ledger):
        if not path.name.startswith(f"{os.getpid()}-"):
            continue
        with suppress(OSError), path.open("rb") as lines:
            held.update((span.trace_id, span.span_id) for span in read_spans(lines))
    return held


def replay_journals(ledger: Path, write: Callable[[list[Span]], object]) -> int:
    """Write the spans of ended processes' journals, then delete the journals.

    ``write`` takes the spans.

    Spans that the ledger has already are in it by their ids, so it leaves them alone.

    Args:
        ledger: The SQLite ledger's file.
        write: Writes a batch, and returns when it is committed. What it raises ends the replay and
            leaves the journal for the next time.

    Returns:
        The number of spans read.
    """
    count = 0
    for path in _files(ledger):
        with _claimed(path) as descriptor:
            if descriptor is None:
                continue
            with open(descriptor, "rb", closefd=False) as lines:
                spans = map(_span, read_spans(lines))
                while batch := list(islice(spans, _BATCH_SPANS)):
                    _write(batch, write)
                    count += len(batch)
            path.unlink(missing_ok=True)
    if count:
        with suppress(OSError):  # another process has a journal there
            journal_folder(ledger).rmdir()
    return count


def _write(batch: list[Span], write: Callable[[list[Span]], object]) -> None:
    """Write a batch. A span that cannot be read is dropped, and only that one.

    Otherwise one such span would come back with every replay.
    """
    try:
        write(batch)
    except (CrewMeterError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever a damaged file makes of a span
        if len(batch) == 1:
            _log.warning("a span of an ended process was dropped: %r", error)
            return
        for span in batch:
            _write([span], write)


def _files(ledger: Path) -> list[Path]:
    """Return the journals of a ledger, oldest first."""
    if fcntl is None:
        return []
    try:
        names = os.listdir(journal_folder(ledger))
    except OSError:
        return []
    folder = journal_folder(ledger)
    return sorted(folder / name for name in names if name.endswith(FILE_SUFFIX))


@contextmanager
def _claimed(path: Path) -> Iterator[int | None]:
    """Lock a journal whose process has ended.

    None where it lives, or somebody else reads it.
    """
    try:
        descriptor = os.open(
            path,
            os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW,
        )
    except OSError:  # gone, or not ours to read
        yield None
        return
    try:
        try:
            fcntl.flock(
                descriptor,
                fcntl.LOCK_EX | fcntl.LOCK_NB,
            )
        except OSError:
            yield None
        else:
            # One that another reader has dealt with meanwhile has no name any more.
            yield descriptor if os.fstat(descriptor).st_nlink else None
    finally:
        os.close(descriptor)


def _span(record: JournalSpan) -> Span:
    return Span(
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        name=record.name,
        started_ns=record.started_ns,
        ended_ns=max(record.ended_ns, record.started_ns),
        error=record.failed,
        attributes=record.attributes,
        resource=record.resource,
        scope=semconv.SCOPE,
    )
