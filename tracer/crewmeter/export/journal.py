"""The journal of a process: every finished span on disk before its call returns.

The ledger is written by a background thread, a moment later. Where the process ends before that, by
``os._exit``, a signal, or as a child of multiprocessing, the journal has what is missing. See
decision 0014.
"""

from __future__ import annotations

import logging
import os
import threading
from itertools import count
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from crewmeter.export.journal_format import FILE_SUFFIX, resource_line, span_line
from crewmeter.export.readable_span import readable
from crewmeter.log_rate_limit import RateLimit

try:
    import fcntl
except ImportError:  # Windows: without its locks nobody could tell whether a journal's owner lives
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from opentelemetry.sdk.resources import Resource

    from crewmeter.spans.span import OpenSpan

__all__ = ["Journal", "Segment"]

logger = logging.getLogger("crewmeter")

SEGMENT_BYTES = 1_000_000
"""Size (bytes) from which a new file is begun, so that the old one can be deleted."""
TRUNCATE_BYTES = 64_000
"""Size (bytes) from which a file without pending spans is emptied."""
RETRY_S = 60.0
"""How long (s) the journal is off after it could not be written."""

_number = count()


class Segment:
    """One file of a journal, locked as long as its process lives."""

    __slots__ = ("descriptor", "path", "pending", "resource", "size")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self.pending = 0
        """Spans in it that are not in the ledger yet."""
        self.resource: Resource | None = None
        """The resource that the last line of its kind names."""

    def write(self, line: bytes) -> None:
        """Append a line. Raises OSError where it is not written whole."""
        if os.write(self.descriptor, line) != len(line):
            raise OSError("the disk is full")
        self.size += len(line)


class Journal:
    """Finished spans on disk until they are in the ledger.

    A line is one ``write`` to a file opened for appending, so it survives whatever ends the process.
    It does not survive a power cut. Where it cannot be written, spans wait in memory only.
    """

    def __init__(self, folder: Path, resource: Callable[[], Resource]) -> None:
        self._folder = folder
        self._resource = resource
        self._limit = RateLimit()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._full: list[Segment] = []
        self._off_until = 0.0

    def append(self, node: OpenSpan) -> None:
        """Write a finished node, on the thread that finished it. Never raises."""
        if fcntl is None:
            return
        try:
            resource = self._resource()
            span = readable(node, resource)
            line = span_line(node, span.attributes or {})
            with self._lock:
                segment = self._writable()
                if segment is None:
                    return
                if segment.resource is not resource:
                    segment.write(resource_line(resource.attributes))
                    segment.resource = resource
                segment.write(line)
                segment.pending += 1
            node.journal = segment
        except Exception as error:  # noqa: BLE001  # a journal that fails must not fail the app's call
            self._turn_off(error)

    def release(self, segments: Iterable[Segment]) -> None:
        """Note that a span of each of these is in the ledger, and delete what is done with."""
        with self._lock:
            for segment in segments:
                segment.pending -= 1
            for segment in [full for full in self._full if full.pending <= 0]:
                self._full.remove(segment)
                _delete(segment)
            current = self._segment
            if current is None or current.pending > 0 or current.size < TRUNCATE_BYTES:
                return
            os.ftruncate(current.descriptor, 0)
            current.size = 0
            current.resource = None

    def close(self) -> None:
        """Delete the files whose spans are all in the ledger, and leave the others to be read."""
        with self._lock:
            segments = [*self._full, self._segment]
            self._segment = None
            self._full = []
            for segment in segments:
                if segment is None:
                    continue
                if segment.pending > 0:
                    os.close(segment.descriptor)
                else:
                    _delete(segment)

    def after_fork(self) -> None:
        """Begin a journal of its own in a forked child. The parent's stays locked by the parent."""
        inherited = [*self._full, self._segment]
        self._reset()
        for segment in inherited:
            if segment is not None:
                os.close(segment.descriptor)

    def _writable(self) -> Segment | None:
        """Return the file to write to, None while the journal is off."""
        segment = self._segment
        if segment is not None and segment.size < SEGMENT_BYTES:
            return segment
        if monotonic() < self._off_until:
            return None
        if segment is not None:
            self._full.append(segment)
        self._segment = _begin(self._folder)
        return self._segment

    def _turn_off(self, error: Exception) -> None:
        """Write no journal for a while, and close the file that may end in half a line."""
        with self._lock:
            self._off_until = monotonic() + RETRY_S
            if self._segment is not None:
                self._full.append(self._segment)
                self._segment = None
        if self._limit.allows(monotonic()):
            logger.debug("crewmeter: no journal in %s: %s", self._folder, error)


def _begin(folder: Path) -> Segment:
    """Make a file, readable by its owner only, and lock it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.lstat(folder).st_uid != os.geteuid():
        raise OSError(f"{folder} belongs to somebody else")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    while True:
        path = folder / f"{os.getpid()}-{time_ns():x}-{next(_number)}{FILE_SUFFIX}"
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A reader was faster. It finds nothing in the file and deletes it.
            os.close(descriptor)
            continue
        if os.fstat(descriptor).st_nlink:
            return Segment(path, descriptor)
        os.close(descriptor)


def _delete(segment: Segment) -> None:
    """Delete a file before its lock is given up, so that nobody reads it in between."""
    segment.path.unlink(missing_ok=True)
    os.close(segment.descriptor)
