"""The form of a journal: where it is, and what its lines say.

A journal is a file of JSON lines, one a finished span, written by the app and read by whoever lives
when the app has ended. A line without its line feed was cut by the end of the process and counts as
not written.

    ["resource", {attribute: value, …}]      applies to the spans below it
    ["span", trace id, span id, parent's span id or null, name, start (ns), end (ns),
             error's type or null, kind, sampled, {inherited attribute: value, …},
             {attribute: value, …}, [value of a call, …] or null]

A call's values are in the order of `span_attributes.CALL_NAMES`.
"""

from __future__ import annotations

import json
import json.encoder
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from crewmeter import semconv
from crewmeter.spans.span_attributes import span_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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
_SPAN_LENGTH = 13
_SAMPLED = 1
"""W3C's trace flag, here without OpenTelemetry, which a reader need not import."""
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


def _make_encode() -> Callable[[object], str]:
    """Return what encodes a record.

    ``JSONEncoder.encode`` makes its C encoder anew each time, which is half of what it takes.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(separators=(",", ":"), default=str).encode
    encode = make(
        None,  # markers of a search for circles
        str,  # what makes text of an unknown type
        json.encoder.encode_basestring_ascii,
        None,  # indent
        ":",
        ",",
        False,  # sort_keys
        False,  # skipkeys
        True,  # allow_nan
    )
    return lambda record: "".join(encode(record, 0))


_encode = _make_encode()


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
    return _line(("resource", dict(attributes)))


def span_line(node: OpenSpan, call_values: tuple[object, ...] | None) -> bytes:
    """Return the line of a finished node, whose call's values are nameless there."""
    trace_id, span_id, _, flags, *_ = node.context
    parent = node.parent_context
    own: Mapping[str, object] = node.attributes
    if not _CONTENT.isdisjoint(own):
        own = {name: value for name, value in own.items() if name not in _CONTENT}
    return _line(
        (
            "span",
            f"{trace_id:032x}",
            f"{span_id:016x}",
            None if parent is None else f"{parent.span_id:016x}",
            node.name,
            node.started_ns,
            node.ended_ns,
            node.error_type,
            node.kind,
            bool(flags & _SAMPLED),
            node.scope,
            own,
            call_values,
        )
    )


def _line(record: tuple[object, ...]) -> bytes:
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
        elif record[0] == "span" and len(record) == _SPAN_LENGTH:
            span = _span(record[1:], resource)
            if span is not None:
                yield span


def _span(record: list[Any], resource: Mapping[str, object]) -> JournalSpan | None:
    *head, error_type, kind, sampled, scope, own, values = record
    if not isinstance(scope, dict) or not isinstance(own, dict):
        return None
    if values is not None and (not isinstance(values, list) or not values):
        return None
    trace_id, span_id, parent_id, name, started_ns, ended_ns = head
    attributes = span_attributes(
        kind,
        scope,
        own,
        values,
        error_type=error_type,
        sampled=sampled,
    )
    return JournalSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_id,
        name=name,
        started_ns=started_ns,
        ended_ns=ended_ns,
        failed=error_type is not None,
        attributes={key: _unlisted(value) for key, value in attributes.items()},
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
