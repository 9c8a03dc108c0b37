"""The groups of a report while it adds up: packed, and cut to the first so many where a limit is asked for."""

from __future__ import annotations

from array import array
from heapq import nsmallest
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.write.rollups import SUMS
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Groups", "Key", "Ranked", "first_of"]

Key = tuple[int | str, ...]
"""What a group is called in the ledger: label ids, tag values, run numbers or unix seconds; 0 is "no name"."""

Ranked = tuple[tuple[object, ...], Key, list[int]]
"""(rank, key, sums in the order of `rollups.SUMS`): the lowest rank comes first."""

HELD = 400_000
"""Groups held at a time where a limit is asked for (100 MB); where there are more, the sources are read again for the others."""

_WIDTH = len(SUMS) + 1
"""Numbers a group: the cost is two of them, whole dollars and pico-dollars, so that each fits in 64 bits."""
_WHOLE, _PICO = SUMS.index("cost_pusd"), SUMS.index("cost_pusd") + 1


class Groups:
    """Sums by key, about 250 bytes a group. Holds the keys of one residue class (hash modulo `parts`), by default all of them."""

    def __init__(self, *, parts: int = 1, part: int = 0) -> None:
        self.parts, self.part = parts, part
        self._spots: dict[Key, int] = {}
        self._amounts = array("q")

    def __len__(self) -> int:
        return len(self._spots)

    def add(self, key: Key, sums: Sequence[int]) -> None:
        """Add to a key's sums; they are in the order of the ledger's columns, whole dollars before pico-dollars."""
        if self.parts > 1 and hash(key) % self.parts != self.part:
            return
        amounts, spot = self._amounts, self._spots.get(key)
        if spot is None:
            self._spots[key] = len(amounts)
            amounts.extend(sums)
            return
        for index, amount in enumerate(sums, spot):
            amounts[index] += amount
        whole, amounts[spot + _PICO] = divmod(amounts[spot + _PICO], PICO)
        amounts[spot + _WHOLE] += whole

    def halve(self) -> Groups:
        """Keep half of the keys' class; the other half, empty, is returned for another reading."""
        other = Groups(parts=self.parts * 2, part=self.part + self.parts)
        spots, amounts = self._spots, self._amounts
        self.parts, self._spots, self._amounts = self.parts * 2, {}, array("q")
        for key, spot in spots.items():
            if hash(key) % self.parts == self.part:
                self._spots[key] = len(self._amounts)
                self._amounts.extend(amounts[spot : spot + _WIDTH])
        return other

    def drop_empty(self) -> None:
        """Forget the groups that count nothing: what was in them was taken back, or lies outside the window."""
        for key in [
            key for key, spot in self._spots.items() if not any(self._amounts[spot : spot + _WIDTH])
        ]:
            del self._spots[key]

    def total(self) -> list[int]:
        """The sums over every key, in the order of `rollups.SUMS`."""
        return _joined([sum(self._amounts[column::_WIDTH]) for column in range(_WIDTH)])

    def ranked(self, *, chronological: bool) -> Iterator[Ranked]:
        """Every group with its rank: the earliest first if the first key is a time; then, or else, the dearest."""
        for key, spot in self._spots.items():
            sums = _joined(self._amounts[spot : spot + _WIDTH].tolist())
            yield (key[0] if chronological else 0, -sums[_WHOLE], -sums[0], key), key, sums


def _joined(amounts: list[int]) -> list[int]:
    """The cost as one number."""
    return [*amounts[:_WHOLE], amounts[_WHOLE] * PICO + amounts[_PICO], *amounts[_PICO + 1 :]]


def first_of(
    sources: Callable[[], Iterable[tuple[Key, Sequence[int]]]],
    limit: int | None,
    *,
    chronological: bool,
) -> tuple[list[Ranked], list[int], int]:
    """The first `limit` groups (all of them where it is None), the total over all, and how many there are.

    `sources` yields what to add up, and is asked again for every `HELD` groups.
    """
    best: list[Ranked] = []
    total, count = [0] * len(SUMS), 0
    waiting = [Groups()]
    while waiting:
        groups = waiting.pop()
        for key, sums in sources():
            groups.add(key, sums)
            if limit is not None and len(groups) > HELD:
                waiting.append(groups.halve())
        total = [old + new for old, new in zip(total, groups.total(), strict=True)]
        groups.drop_empty()
        count += len(groups)
        found = groups.ranked(chronological=chronological)
        best = (
            [*best, *found]
            if limit is None
            else nsmallest(limit, chain(best, found), key=itemgetter(0))
        )
    return best, total, count
