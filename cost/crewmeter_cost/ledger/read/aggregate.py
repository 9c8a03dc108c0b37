"""The groups of a report while it adds up.

They are packed, and cut to the first so many on request.
"""

from __future__ import annotations

from array import array
from heapq import nsmallest
from itertools import chain
from operator import add, itemgetter
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema.report_columns import AMOUNTS, SUMS
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Groups", "Key", "Ranked", "first_of"]

Key = tuple[int | str, ...]
"""A group in the ledger's terms: label ids, tag values, run numbers, seconds; 0 is "no name"."""

Ranked = tuple[tuple[object, ...], Key, list[int]]
"""(rank, key, sums in the order of `report_columns.SUMS`): the lowest rank comes first."""

HELD = 400_000
"""Groups held at a time where a limit is given (100 MB). The sources are read again for others."""

_WIDTH = len(SUMS)
_CALLS = AMOUNTS["calls"]
_WHOLE = AMOUNTS["cost_whole_usd"]
_PICO = AMOUNTS["cost_pusd"]


class Groups:
    """Sums by key, about 250 bytes a group.

    Holds the keys of one residue class (hash modulo `parts`), by default all of them.
    """

    def __init__(self, *, parts: int = 1, part: int = 0) -> None:
        self.parts = parts
        self.part = part
        self._starts: dict[Key, int] = {}
        self._amounts = array("q")

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, key: Key, sums: Sequence[int]) -> None:
        """Add to a key's sums, which are in the order of `SUMS`."""
        if self.parts > 1 and hash(key) % self.parts != self.part:
            return
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = len(self._amounts)
            self._amounts.extend([0] * _WIDTH)
        known = self._of(start)
        total = list(map(add, known, sums))
        # Each of the two columns of a cost fits in 64 bits as long as pico-USD carry.
        carry, total[_PICO] = divmod(
            total[_PICO],
            PICO,
        )
        total[_WHOLE] += carry
        self._amounts[start : start + _WIDTH] = array("q", total)

    def _of(self, start: int) -> list[int]:
        return self._amounts[start : start + _WIDTH].tolist()

    def halve(self) -> Groups:
        """Keep half of the keys' class.

        Returns the other half, empty, for another reading.
        """
        other = Groups(
            parts=self.parts * 2,
            part=self.part + self.parts,
        )
        starts = self._starts
        amounts = self._amounts
        self.parts *= 2
        self._starts = {}
        self._amounts = array("q")
        for key, start in starts.items():
            if hash(key) % self.parts == self.part:
                self._starts[key] = len(self._amounts)
                self._amounts.extend(amounts[start : start + _WIDTH])
        return other

    def drop_empty(self) -> None:
        """Remove groups that count nothing: all of theirs lies outside the window."""
        empty = [key for key, start in self._starts.items() if not any(self._of(start))]
        for key in empty:
            del self._starts[key]

    def total(self) -> list[int]:
        """Return the sums over every key, unbounded."""
        return [sum(self._amounts[column::_WIDTH]) for column in range(_WIDTH)]

    def ranked(self, *, chronological: bool) -> Iterator[Ranked]:
        """Yield every group with its rank.

        The earliest comes first if the first key is a time. Then, or else, the most expensive.
        """
        for key, start in self._starts.items():
            sums = self._of(start)
            time = key[0] if chronological else 0
            yield (time, -sums[_WHOLE], -sums[_PICO], -sums[_CALLS], key), key, sums


def first_of(
    sources: Callable[[], Iterable[tuple[Key, Sequence[int]]]],
    limit: int | None,
    *,
    chronological: bool,
) -> tuple[list[Ranked], list[int], int]:
    """Return the first `limit` groups, the total over all, and how many there are.

    `sources` yields what to add up, and is called again for every `HELD` groups. Without a limit
    all groups are returned.
    """
    best: list[Ranked] = []
    total = [0] * _WIDTH
    count = 0
    waiting = [Groups()]
    while waiting:
        groups = waiting.pop()
        for key, sums in sources():
            groups.add(key, sums)
            if limit is not None and len(groups) > HELD:
                waiting.append(groups.halve())
        total = list(
            map(
                add,
                total,
                groups.total(),
            )
        )
        groups.drop_empty()
        count += len(groups)
        found = groups.ranked(chronological=chronological)
        if limit is None:
            best = [*best, *found]
        else:
            best = nsmallest(
                limit,
                chain(best, found),
                key=itemgetter(0),
            )
    return best, total, count
