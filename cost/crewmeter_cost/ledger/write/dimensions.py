"""Names as small integers.

Each label, tag set and price version stands once in the ledger.

What was looked up is remembered across transactions, so a name costs one look-up in a dict. Names
first met in a transaction that is rolled back are forgotten again. Only the holder of the ledger's
write lock adds names, so no two processes race.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from crewmeter.providers.hosts import resolve_provider
from crewmeter_cost.ledger.schema import columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.write.statements import Statements
    from crewmeter_cost.pricing.charge_result import FrozenRates

__all__ = ["LONGEST_NAME", "Labels", "clean"]

LONGEST_NAME = 500
"""Characters of a name. Longer ones (content in the wrong field) are cut and end in an ellipsis."""

_MAX_REMEMBERED = 200_000
"""Names in memory, some 30 MB at most. Beyond, the memory starts afresh."""

_LONGEST_KEY, _LONGEST_VALUE = 100, 380
"""Characters of a tag, so that its label `key=value` is never cut."""


def clean(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name as every database takes it.

    NUL and lone surrogates are taken out, and a long name is cut.
    """
    if "\0" in name:
        name = name.replace("\0", "")
    name = name.encode("utf-8", "replace").decode()
    if len(name) <= longest:
        return name
    return name[: longest - 1] + "…"


class _Interned(dict[Any, Any]):
    """A dict that calls `intern` for what it does not hold, and remembers the result."""

    def __init__(self, intern: Callable[[Any], Any], added: list[tuple[_Interned, Any]]) -> None:
        super().__init__()
        self._intern = intern
        self._added = added

    def __missing__(self, key: Any) -> Any:
        self[key] = value = self._intern(key)
        self._added.append((self, key))
        return value


class Labels:
    """The interned names of one ledger: mappings from what is named to its id.

    They fill as they are used. Look-ups that reach the database happen in the running transaction:
    call `begin` first, and `commit` or `rollback` after.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._session: Session | None = None
        self._frozen: Callable[[str], FrozenRates] | None = None
        self._added: list[tuple[_Interned, Any]] = []
        self.of = self._mapping(self._names_of_kind)
        """kind → name → id of the label. The name None has the id None."""
        self.tag_set = self._mapping(self._intern_tags)
        """Sorted (key, value) pairs → id of the tag set."""
        self.tags_of = self._mapping(self._read_tags)
        """Id of a tag set → ids of its `key=value` labels (kind `tag`)."""
        self.flags = self._mapping(self._intern_flags)
        """Flags of a charge or a usage → id of one label with all of them, joined by commas."""
        self.price_version = self._mapping(self._intern_price)
        """Content hash → id of the frozen rates."""
        self.billed_by = self._mapping(self._resolve)
        """(declared provider, host) → id of the provider that bills: that of a known host, else
        the declared one."""

    def begin(self, session: Session, frozen: Callable[[str], FrozenRates] | None = None) -> None:
        """Use `session` for unknown names and `frozen` for the rates of a version."""
        self._session = session
        self._frozen = frozen
        self._added.clear()

    def commit(self) -> None:
        """Keep what this transaction added."""
        self._session = self._frozen = None
        self._added.clear()
        if sum(map(len, self._remembered())) > _MAX_REMEMBERED:
            self.forget()

    def rollback(self) -> None:
        """Forget what this transaction added: its rows are gone."""
        self._session = self._frozen = None
        for mapping, key in self._added:
            mapping.pop(key, None)
        self._added.clear()

    def forget(self) -> None:
        """Look every name up again: they changed in the ledger, or are too many."""
        for mapping in self._remembered():
            mapping.clear()

    def _remembered(self) -> list[_Interned]:
        # The mappings inside `of` are bound by their users, so they are emptied, not replaced.
        return [
            self.tag_set,
            self.tags_of,
            self.flags,
            self.price_version,
            self.billed_by,
            *self.of.values(),
        ]

    def _mapping(self, intern: Callable[[Any], Any]) -> _Interned:
        return _Interned(intern, self._added)

    def _open(self) -> Session:
        if self._session is None:
            raise RuntimeError("labels are interned inside a transaction only")
        return self._session

    def _names_of_kind(self, kind: str) -> _Interned:
        return self._mapping(lambda name: self._intern_name(kind, name))

    def _intern_name(self, kind: str, name: str | None) -> int | None:
        if name is None:
            return None
        key = {"kind": kind, "value": clean(name)}
        return self._statements.intern(
            self._open(),
            columns.LABEL,
            key,
            {},
        )

    def _intern_tags(self, tags: tuple[tuple[str, str], ...]) -> int:
        cleaned = {clean(key, _LONGEST_KEY): clean(value, _LONGEST_VALUE) for key, value in tags}
        text = json.dumps(cleaned, sort_keys=True, ensure_ascii=False)
        return self._statements.intern(
            self._open(),
            columns.TAG_SET,
            {"tags": text},
            {},
        )

    def _read_tags(self, number: int) -> tuple[int, ...]:
        query = self._statements.text("SELECT tags FROM tag_set WHERE id = ?")
        (text,) = self._open().execute(query, (number,)).fetchone()
        labels = self.of["tag"]
        return tuple(labels[f"{key}={value}"] for key, value in json.loads(text).items())

    def _intern_flags(self, flags: tuple[str, ...]) -> int | None:
        found: int | None = self.of["flags"][",".join(sorted(set(flags)))]
        return found

    def _intern_price(self, version: str) -> int | None:
        if not version:
            return None
        query = self._statements.text("SELECT id FROM price_version WHERE hash = ?")
        known = self._open().execute(query, (version,)).fetchone()
        if known is not None:
            return int(known[0])
        if self._frozen is None:
            raise RuntimeError(f"no rates at hand for price version {version}")
        rates = self._frozen(version)
        row = {
            "source": rates.source,
            "provider": rates.provider,
            "model": rates.model,
            "rates": rates.rates,
            "created_ns": time.time_ns(),
        }
        return self._statements.intern(
            self._open(),
            columns.PRICE_VERSION,
            {"hash": version},
            row,
        )

    def _resolve(self, who: tuple[str | None, str | None]) -> int | None:
        found: int | None = self.of["provider"][resolve_provider(*who)[0]]
        return found
