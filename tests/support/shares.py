"""Shares of the slow tests: a run of CI takes one in turn, a release takes all."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

__all__ = ["Share"]


@dataclass(frozen=True)
class Share:
    """Share `turn` (from 1) of `shares`. A test file belongs to one of them as a whole.

    Which one depends on its name alone, so that a new file moves no other.
    """

    turn: int
    shares: int

    @classmethod
    def read(cls, text: str) -> Share:
        """Return the share that `CREWMETER_TEST_SHARD` names: `2/3`, or `all`."""
        if text == "all":
            return cls(1, 1)
        turn, _, shares = text.partition("/")
        if not (turn.isdecimal() and shares.isdecimal() and 1 <= int(turn) <= int(shares)):
            raise ValueError(f"CREWMETER_TEST_SHARD is {text!r}, not all or a share such as 2/3")
        return cls(int(turn), int(shares))

    def has(self, file: str) -> bool:
        """Return whether a test file is in this share."""
        return zlib.crc32(file.encode()) % self.shares == self.turn - 1
