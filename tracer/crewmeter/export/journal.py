"""The journal of a process: every finished span on disk before its call returns.

The ledger is written by a background thread, a moment later. Where the process ends before that, by
``os._exit``, a signal, or as a child of multiprocessing, the journal has what is missing. See
decision 0014.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
from contextlib import suppress
from itertools import count
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from crewmeter.export.journal_format import FILE_SUFFIX, resource_line, span_line
from crewmeter.export.readable_span import final_values
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
"""Size (bytes) of a file. A new one is begun where a line does not fit."""
REUSE_BYTES = 64_000
"""Bytes from which a file without pending spans is written from its beginning again."""
RETRY_S = 60.0
"""How long (s) the journal is off after it could not be written."""

_ATTEMPTS = 10
"""How often a file is tried for that a reader, or the end of another process, takes away."""
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)

_number = count()


class Segment:
    """One file of a journal, locked as long as its process lives."""

    __slots__ = ("_map", "descriptor", "path", "pending", "resource", "size")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        _reserve(descriptor)
        self._map = mmap.mmap(descriptor, SEGMENT_BYTES)
        self.size = 0
        self.pending = 0
        """Spans in it that are not in the ledger yet."""
        self.resource: Resource | None = None
        """The resource that the last line of its kind names."""

    def fits(self, line: bytes) -> bool:
        """Return True where there is room for a line."""
        return self.size + len(line) < SEGMENT_BYTES

    def write(self, line: bytes) -> None:
        """Append a line. It is a copy into the page cache, which survives the process."""
        end = self.size + len(line)
        self._map[self.size : end] = line
        self.size = end

    def reuse(self) -> None:
        """Forget what is in it, and write from the beginning again."""
        self._map[: self.size] = bytes(self.size)
        self.size = 0
        self.resource = None

    def close(self) -> None:
        """Give up the file and its lock. A reader takes what is left in it."""
        self._map.close()
        os.close(self.descriptor)


class Journal:
    """Finished spans on disk until they are in the ledger.

    A line is copied into a map of the file: no system call, and no moment in which another thread
    takes the interpreter. It survives whatever ends the process, but not a power cut. Where there
    is no file, spans wait in memory only.
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
            line = span_line(node, final_values(node))
            with self._lock:
                segment = self._writable(line, resource)
                if segment is None:
                    return
                segment.write(line)
                segment.pending += 1
            node.journal = segment
        # A journal that fails must not fail the app's call.
        except Exception as error:  # noqa: BLE001
            self._turn_off(error)

    def release(self, segments: Iterable[Segment]) -> None:
        """Note that a span of each of these is in the ledger, and delete what is done."""
        with self._lock:
            for segment in segments:
                segment.pending -= 1
            for segment in [full for full in self._full if full.pending <= 0]:
                self._full.remove(segment)
                _delete(segment)
            current = self._segment
            if current is not None and current.pending <= 0 and current.size >= REUSE_BYTES:
                current.reuse()

    def close(self) -> None:
        """Delete the files whose spans are all in the ledger, and leave the others."""
        with self._lock:
            segments = [
                *self._full,
                self._segment,
            ]
            self._segment = None
            self._full = []
            for segment in segments:
                if segment is None:
                    continue
                if segment.pending > 0:
                    segment.close()
                else:
                    _delete(segment)
        with suppress(OSError):  # not empty, or never made
            self._folder.rmdir()

    def after_fork(self) -> None:
        """Begin a journal of its own in a forked child.

        The parent's stays locked by the parent.
        """
        inherited = [
            *self._full,
            self._segment,
        ]
        self._reset()
        for segment in inherited:
            if segment is not None:
                segment.close()

    def _writable(self, line: bytes, resource: Resource) -> Segment | None:
        """Return the file to write ``line`` to, None while the journal is off."""
        segment = self._segment
        if segment is not None and segment.resource is resource and segment.fits(line):
            return segment
        if monotonic() < self._off_until:
            return None
        named = resource_line(resource.attributes)
        if segment is None or not segment.fits(named + line):
            if segment is not None:
                self._full.append(segment)
                self._segment = None
            segment = self._segment = _begin(self._folder)
        segment.write(named)
        segment.resource = resource
        return segment

    def _turn_off(self, error: Exception) -> None:
        """Write no journal for a while."""
        with self._lock:
            self._off_until = monotonic() + RETRY_S
            if self._segment is not None:
                self._full.append(self._segment)
                self._segment = None
        if self._limit.allows(monotonic()):
            logger.debug("no journal in %s: %s", self._folder, error)


def _begin(folder: Path) -> Segment:
    """Make a file, readable by its owner only, and lock it."""
    for _ in range(_ATTEMPTS):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.lstat(folder).st_uid != os.geteuid():
            raise OSError(f"{folder} belongs to somebody else")
        path = folder / f"{os.getpid()}-{time_ns():x}-{next(_number)}{FILE_SUFFIX}"
        try:
            descriptor = os.open(path, _NEW_FILE, 0o600)
        except FileNotFoundError:
            # A process that has ended took the empty folder away.
            continue
        try:
            fcntl.flock(
                descriptor,
                fcntl.LOCK_EX | fcntl.LOCK_NB,
            )
            # A reader that was faster finds nothing in the file and deletes it.
            if os.fstat(descriptor).st_nlink:
                return Segment(path, descriptor)
        except BlockingIOError:
            pass
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(f"no file of our own in {folder}")


def _reserve(descriptor: int) -> None:
    """Reserve the space of a file, or raise OSError.

    A process that writes to a map where the disk has no space is killed.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
    elif os.pwrite(descriptor, bytes(SEGMENT_BYTES), 0) != SEGMENT_BYTES:  # macOS
        raise OSError("no space left on the disk")


def _delete(segment: Segment) -> None:
    """Delete a file before its lock is given up, so that nobody reads it in between."""
    segment.path.unlink(missing_ok=True)
    segment.close()
