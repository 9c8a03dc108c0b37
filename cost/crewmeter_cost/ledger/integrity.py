"""Checks of a SQLite ledger's bytes: its pages and its log's checksums.

SQLite verifies a WAL's checksums when it recovers one, not while connections are open. Bytes that
change on disk under a live writer are read as they are, so they are looked for here. The format:
https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import math
import sqlite3
import struct
import sys
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.database_errors import DAMAGE, primary_code
from crewmeter_cost.ledger.sqlite_file import real_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["damage_of", "wal_damage"]

_WAL_HEADER = struct.Struct(">IIIIIIII")
"""Magic, version, page size, checkpoint sequence, two salts, two checksums."""
_FRAME_HEADER = struct.Struct(">IIIIII")
"""Page, database size after a commit, two salts, two checksums."""
_BIG_ENDIAN_MAGIC = 0x377F0683
_LITTLE_ENDIAN_MAGIC = 0x377F0682
_WORD = 0xFFFFFFFF
_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock."""


def damage_of(path: Path, *, most_seconds: float = math.inf) -> str | None:
    """Return what is wrong with a ledger's file or WAL, None where nothing is found.

    A file that is missing or locked counts as sound. Takes about a second for 500 MB, and ends
    after `most_seconds` with what was looked at by then.
    """
    path = real_path(path)
    if not path.exists():
        return None
    deadline = time.monotonic() + most_seconds
    frame = wal_damage(path.with_name(f"{path.name}-wal"), deadline=deadline)
    if frame is not None:
        return f"frame {frame} of its write-ahead log has a wrong checksum"
    return _page_damage(path, deadline)


def _page_damage(path: Path, deadline: float) -> str | None:
    # Read-only: closing another kind of connection could fold the WAL into a damaged file.
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=ro",
            uri=True,
            timeout=1.0,
        )
        # What it says of a damaged schema may quote bytes that are no text.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if primary_code(error) in DAMAGE:
            return str(error)
        return None
    except UnicodeDecodeError:
        # The message quoted bytes of a damaged schema, and the driver takes it for UTF-8.
        return "malformed database schema"
    if found == "ok":
        return None
    return str(found).splitlines()[-1]


def wal_damage(path: Path, *, deadline: float = math.inf) -> int | None:
    """Return the first damaged frame (from 1) of a WAL, None for a sound one.

    Frames that are not reached before `deadline` (monotonic seconds) count as sound.

    A frame at the end may be half written, and frames after it may be left from before the last
    checkpoint. So a bad frame counts only where a frame of the same generation follows it.
    """
    try:
        data = path.read_bytes()
        before = data[: _WAL_HEADER.size]
        frame = _first_bad_frame(data, deadline)
        with path.open("rb") as again:
            unchanged = again.read(_WAL_HEADER.size) == before
    except OSError:
        return None
    # A WAL that was begun anew meanwhile was read half old, half new.
    return frame if unchanged else None


@dataclass(frozen=True, slots=True)
class _WalHeader:
    """The first 32 bytes of a WAL."""

    page_size: int
    salts: list[int]
    sums: tuple[int, int]
    big_endian: bool

    @classmethod
    def of(cls, data: bytes) -> _WalHeader | None:
        """Return the header of a WAL, None where it is none."""
        if len(data) < _WAL_HEADER.size:
            return None
        fields = _WAL_HEADER.unpack_from(data)
        magic = fields[0]
        if magic not in (_BIG_ENDIAN_MAGIC, _LITTLE_ENDIAN_MAGIC):
            return None
        return cls(
            page_size=fields[2],
            salts=list(fields[4:6]),
            sums=fields[6:8],
            big_endian=magic == _BIG_ENDIAN_MAGIC,
        )


def _first_bad_frame(data: bytes, deadline: float) -> int | None:
    header = _WalHeader.of(data)
    if header is None:
        return None
    sums = header.sums
    size = _FRAME_HEADER.size + header.page_size
    starts = range(_WAL_HEADER.size, len(data) - size + 1, size)
    for number, start in enumerate(starts, 1):
        if _salts(data, start) != header.salts or time.monotonic() > deadline:
            return None
        # A frame's checksum covers the first 8 bytes of its header, and its page.
        page = start + _FRAME_HEADER.size
        covered = data[start : start + 8] + data[page : start + size]
        sums = _checksum(covered, sums, big_endian=header.big_endian)
        stored = _FRAME_HEADER.unpack_from(data, start)[4:6]
        if sums != stored:
            later_starts = starts[number:]
            follows = any(_salts(data, later) == header.salts for later in later_starts)
            return number if follows else None
    return None


def _salts(data: bytes, start: int) -> list[int]:
    fields = _FRAME_HEADER.unpack_from(data, start)
    return list(fields[2:4])


def _checksum(data: bytes, sums: tuple[int, int], *, big_endian: bool) -> tuple[int, int]:
    """Return SQLite's running checksum after these bytes."""
    words = array("I", data)
    if big_endian != (sys.byteorder == "big"):
        words.byteswap()
    first, second = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
