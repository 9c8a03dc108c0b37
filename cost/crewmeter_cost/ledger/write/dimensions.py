"""Names as small integers: every label, tag set and price version stands once in the ledger and is remembered here.

The memory outlives transactions, so a name costs one look-up in a dict. Names first met in a transaction that is
rolled back are forgotten again. Only the holder of the ledger's write lock interns, so no two processes race.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from crewmeter.providers.hosts import resolve_provider
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.name_cleaning import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.pricing.charge_result import FrozenRates

__all__ = ["Labels", "names_of"]

_MAX_REMEMBERED = 200_000
"""Names kept in memory (some 30 MB at most); beyond, the memory starts afresh and names are looked up again."""

_LONGEST_KEY, _LONGEST_VALUE = 100, 380
"""Characters of a tag, so that its label ``key=value`` is never cut."""

_LABEL, _TAG_SET, _PRICE_VERSION = core_tables.label, core_tables.tag_set, core_tables.price_version


def names_of(connection: Connection, ids: Iterable[int | None]) -> dict[int, str]:
    """Names of labels by id."""
    wanted = sorted({number for number in ids if number})
    names: dict[int, str] = {}
    for start in range(0, len(wanted), 5000):
        query = select(_LABEL.c.id, _LABEL.c.value).where(
            _LABEL.c.id.in_(wanted[start : start + 5000])
        )
        names.update((row[0], row[1]) for row in connection.execute(query))
    return names


class _Interned(dict[Any, Any]):
    """A dict that asks `intern` for what it does not hold, and remembers it."""

    def __init__(self, intern: Callable[[Any], Any], added: list[tuple[_Interned, Any]]) -> None:
        super().__init__()
        self._intern, self._added = intern, added

    def __missing__(self, key: Any) -> Any:
        self[key] = value = self._intern(key)
        self._added.append((self, key))
        return value


class Labels:
    """The interned names of one ledger: mappings from what is named to its id, filled as they are asked.

    Look-ups that reach the database happen on the connection of the running transaction: call `begin` first, and
    `commit` or `rollback` after.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._frozen: Callable[[str], FrozenRates] | None = None
        self._added: list[tuple[_Interned, Any]] = []
        self.of = self._mapping(
            lambda kind: self._mapping(lambda name: self._intern_name(kind, name))
        )
        """kind → name → id of the label; the name None has the id None."""
        self.tag_set = self._mapping(self._intern_tags)
        """Sorted (key, value) pairs → id of the tag set."""
        self.tags_of = self._mapping(self._read_tags)
        """Id of a tag set → ids of its ``key=value`` labels (kind ``tag``)."""
        self.flags = self._mapping(self._intern_flags)
        """Flags of a charge or a usage → id of one label naming them all, separated by commas."""
        self.price_version = self._mapping(self._intern_price)
        """Content hash → id of the frozen rates."""
        self.billed_by = self._mapping(self._resolve)
        """(declared provider, host) → id of the provider that bills: the one behind a known host, else the declared one."""

    def _mapping(self, intern: Callable[[Any], Any]) -> _Interned:
        return _Interned(intern, self._added)

    def begin(
        self, connection: Connection, frozen: Callable[[str], FrozenRates] | None = None
    ) -> None:
        """Use `connection` for names not yet known; `frozen` gives the rates behind a price version's hash."""
        self._connection, self._frozen = connection, frozen
        self._added.clear()

    def commit(self) -> None:
        """Keep what this transaction learnt."""
        self._connection = self._frozen = None
        self._added.clear()
        remembered = (
            self.tag_set,
            self.tags_of,
            self.flags,
            self.price_version,
            self.billed_by,
            *self.of.values(),
        )
        if sum(map(len, remembered)) > _MAX_REMEMBERED:
            for mapping in remembered:
                mapping.clear()

    def rollback(self) -> None:
        """Forget what this transaction learnt: its rows are gone."""
        self._connection = self._frozen = None
        for mapping, key in self._added:
            mapping.pop(key, None)
        self._added.clear()

    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("labels are interned inside a transaction only")
        return self._connection

    def _intern_name(self, kind: str, name: str | None) -> int | None:
        if name is None:
            return None
        return self._row(_LABEL, {"kind": kind, "value": clean(name)}, {})

    def _intern_tags(self, tags: tuple[tuple[str, str], ...]) -> int:
        kept = {clean(key, _LONGEST_KEY): clean(value, _LONGEST_VALUE) for key, value in tags}
        text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
        return self._row(_TAG_SET, {"tags": text}, {})

    def _read_tags(self, number: int) -> tuple[int, ...]:
        text = (
            self._open()
            .execute(select(_TAG_SET.c.tags).where(_TAG_SET.c.id == number))
            .scalar_one()
        )
        return tuple(self.of["tag"][f"{key}={value}"] for key, value in json.loads(text).items())

    def _intern_flags(self, flags: tuple[str, ...]) -> int | None:
        found: int | None = self.of["flags"][",".join(sorted(set(flags)))]
        return found

    def _intern_price(self, version: str) -> int | None:
        if not version:
            return None
        known = (
            self._open()
            .execute(select(_PRICE_VERSION.c.id).where(_PRICE_VERSION.c.hash == version))
            .scalar()
        )
        if known is not None:
            return int(known)
        if self._frozen is None:
            raise RuntimeError(f"no rates at hand for price version {version}")
        rates = self._frozen(version)
        values = {
            "source": rates.source,
            "provider": rates.provider,
            "model": rates.model,
            "rates": rates.rates,
        }
        return self._row(
            _PRICE_VERSION, {"hash": version}, {**values, "created_ns": time.time_ns()}
        )

    def _resolve(self, who: tuple[str | None, str | None]) -> int | None:
        found: int | None = self.of["provider"][resolve_provider(*who)[0]]
        return found

    def _row(self, table: Table, key: dict[str, str], rest: dict[str, object]) -> int:
        """The id of the row with this key, inserted where missing. The write lock is held, so nobody inserts it in between."""
        connection = self._open()
        query = select(table.c.id).where(*(table.c[name] == value for name, value in key.items()))
        known = connection.execute(query).scalar()
        if known is None:
            connection.execute(insert(table).inline().values(**key, **rest))
            known = connection.execute(query).scalar_one()
        return int(known)
