"""The form of a journal: where it is, and what its lines say.

A journal is a file of JSON lines, one a finished span, written by the app and read by whoever lives
when the app has ended. A line without its line feed was cut by the end of the process and counts as
not written.

    ["resource", {attribute: value, …}]      applies to the spans below it
    ["span", trace id, span id, parent's span id or null, name, start (ns), end (ns), failed,
             {attribute: value, …}]
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crewmeter.spans.span import OpenSpan

__all__ = [
    "FILE_SUFFIX",
    "JournalSpan",
    "journal_folder",
    "ledger_file",
    "read_spans",
    "resource_line",
    "span_line",
]

FILE_SUFFIX = ".jsonl"
_FOLDER_SUFFIX = ".pending"
_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_CONTENT = frozenset(
    {
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.TOOL_ARGUMENTS,
        semconv.TOOL_RESULT,
    }
)
"""Attributes that no journal holds, even where content is captured: names and numbers only."""

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


@dataclass(frozen=True, slots=True)
class JournalSpan:
    """One span as a journal holds it.

    Times are nanoseconds since 1970, ids lower-case hex.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: Mapping[str, object]
    resource: Mapping[str, object]


def ledger_file(option: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of the embedded ledger, None where that is no SQLite file.

    It is the option, else ``CREWMETER_LEDGER``, else ``~/.crewmeter/ledger.db``.
    """
    text = option or environ.get("CREWMETER_LEDGER")
    if not text:
        return Path.home() / ".crewmeter" / "ledger.db"
    driver, separator, rest = text.partition("://")
    if separator:
        if driver not in _SQLITE_DRIVERS or not rest.startswith("/"):
            return None
        text = unquote(rest.removeprefix("/").partition("?")[0])
    if not text or "\0" in text or text == ":memory:" or text.startswith("file:"):
        return None
    return Path(text).expanduser().absolute()


def journal_folder(ledger: Path) -> Path:
    """Return the folder of the journals of a SQLite ledger, beside its file.

    Symbolic links are followed, so that whoever knows the ledger by another name finds them.
    """
    real = Path(os.path.realpath(ledger))
    return real.with_name(real.name + _FOLDER_SUFFIX)


def resource_line(attributes: Mapping[str, object]) -> bytes:
    """Return the line that says what the following spans come from."""
    return (_encode(("resource", dict(attributes))) + "\n").encode()


def span_line(node: OpenSpan, attributes: Mapping[str, object]) -> bytes:
    """Return the line of a finished node."""
    context = node.context
    parent = node.parent_context
    values = attributes
    if not _CONTENT.isdisjoint(attributes):
        values = {name: value for name, value in attributes.items() if name not in _CONTENT}
    record = (
        "span",
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        None if parent is None else f"{parent.span_id:016x}",
        node.name,
        node.started_ns,
        node.ended_ns,
        node.error_type is not None,
        values,
    )
    return (_encode(record) + "\n").encode()


def read_spans(lines: Iterable[bytes]) -> Iterator[JournalSpan]:
    """Read a journal's spans. Lines that are cut or damaged are skipped."""
    resource: Mapping[str, object] = {}
    for line in lines:
        if line.startswith(b"\0"):
            # The rest of the file is not written yet.
            return
        record = _record(line)
        if not record:
            continue
        if record[0] == "resource" and len(record) == 2 and isinstance(record[1], dict):
            resource = record[1]
        elif record[0] == "span" and len(record) == 9 and isinstance(record[8], dict):
            _, trace_id, span_id, parent_id, name, started_ns, ended_ns, failed, values = record
            yield JournalSpan(
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent_id,
                name=name,
                started_ns=started_ns,
                ended_ns=ended_ns,
                failed=failed,
                attributes={key: _unlisted(value) for key, value in values.items()},
                resource=resource,
            )


def _record(line: bytes) -> list[Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if isinstance(record, list):
        return record
    return None


def _unlisted(value: object) -> object:
    """Return a list of JSON as the tuple that OpenTelemetry has for it."""
    if isinstance(value, list):
        return tuple(value)
    return value
