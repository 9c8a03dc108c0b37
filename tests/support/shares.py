"""Shares of the slow tests: a run of CI takes one in turn, a release takes all.

make test-rest ARGS='-q --junitxml=rest.xml'
PYTHONPATH=tests python -m support.shares rest.xml    # write what the files of slow tests cost
"""

from __future__ import annotations

import functools
import json
import sys
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["SHARES", "Share"]

SHARES = 6
COSTS = Path(__file__).with_name("slow_costs.json")


@functools.cache
def turns(shares: int) -> dict[str, int]:
    """Return file → turn (from 1) of every file whose cost is recorded.

    The dearest file first, each to the share that has least: shares take about the same time.
    """
    costs = json.loads(COSTS.read_text("utf-8"))
    sums = dict.fromkeys(range(1, shares + 1), 0.0)
    found = {}
    for file in sorted(costs, key=lambda file: (-costs[file], file)):
        turn = min(sums, key=lambda turn: (sums[turn], turn))
        sums[turn] += costs[file]
        found[file] = turn
    return found


@dataclass(frozen=True)
class Share:
    """Share `turn` (from 1) of `shares`. A test file belongs to one of them as a whole.

    A file without a recorded cost goes by a hash of its name, so that it moves no other.
    """

    turn: int
    shares: int

    @classmethod
    def read(cls, text: str) -> Share:
        """Return the share that `CREWMETER_TEST_SHARD` names: `2/6`, or `all`."""
        if text == "all":
            return cls(1, 1)
        turn, _, shares = text.partition("/")
        if not (turn.isdecimal() and shares.isdecimal() and 1 <= int(turn) <= int(shares)):
            raise ValueError(f"CREWMETER_TEST_SHARD is {text!r}, not all or a share such as 2/6")
        return cls(int(turn), int(shares))

    def has(self, file: str) -> bool:
        """Return whether a test file is in this share."""
        recorded = turns(self.shares).get(file)
        if recorded is not None:
            return recorded == self.turn
        return zlib.crc32(file.encode()) % self.shares == self.turn - 1


def costs_of(reports: list[str]) -> dict[str, int]:
    """Return file → seconds that its tests took in JUnit reports, for files of a second or more."""
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            # The name of a class within a file may follow the name of the module.
            module = [part for part in case.get("classname", "").split(".") if part[:1].islower()]
            seconds["/".join(module) + ".py"] += float(case.get("time", 0))
    return {file: round(seconds[file]) for file in sorted(seconds) if seconds[file] >= 1}


if __name__ == "__main__":
    COSTS.write_text(json.dumps(costs_of(sys.argv[1:]), indent=1) + "\n", "utf-8")
