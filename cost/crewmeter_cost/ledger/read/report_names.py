"""A report's filters as SQL, and the names behind its raw keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter_cost.ledger.sql import Sql, one_of, one_of_ids, sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.session import Session

__all__ = ["ReportNames"]

_CHUNK = 5000


class ReportNames:
    """The names one report speaks of, over one connection."""

    def __init__(self, session: Session, query: ReportQuery) -> None:
        self._session = session
        self._query = query
        self._tags: dict[str, dict[int, str]] = {}

    def conditions(self, columns: Mapping[str, str]) -> list[Sql]:
        """Return the filters as conditions on these columns (filter name → column)."""
        conditions = []
        for name, value in self._query.where:
            conditions.append(self._is(columns[name], name, value))
        return conditions

    def _is(self, subject: str, name: str, value: str) -> Sql:
        """Return the condition that a column is a raw key that a filter allows."""
        if name.startswith("tag:"):
            sets = self._values_of(name[4:]).items()
            return one_of_ids(subject, [number for number, text in sets if text == value])
        ids = Sql("SELECT id FROM label WHERE kind = ? AND value = ?", (name, value))
        if name == "run":
            ids = Sql("SELECT id FROM run WHERE run_id = ?", (value,))
        return one_of(subject, ids)

    def key(self, values: Iterable[Any]) -> Key:
        """Return a raw key: 0 for no name, the tag's value for a tag set."""
        parts = zip(values, self._query.by, strict=True)
        return tuple(self._part(value, name) for value, name in parts)

    def _part(self, value: Any, group: str) -> int | str:
        if group.startswith("tag:"):
            return self._values_of(group[4:]).get(value, 0)
        part: int | str = value or 0
        return part

    def _values_of(self, key: str) -> dict[int, str]:
        """Return the value of one tag in every tag set that has it, by the set's number."""
        if key not in self._tags:
            values: dict[int, str] = {}
            for number, tags in self._session.rows(Sql("SELECT id, tags FROM tag_set")):
                value = json.loads(tags).get(key)
                if value is not None:
                    values[number] = str(value)
            self._tags[key] = values
        return self._tags[key]

    def names(self, group: str, keys: Iterable[int | str]) -> dict[int | str, str | None]:
        """Return the names behind raw keys: labels and runs by id, tags as they are."""
        if group.startswith("tag:"):
            return {key: None if key == 0 else str(key) for key in keys}
        wanted = sorted({int(key) for key in keys})
        names: dict[int | str, str | None] = dict.fromkeys(wanted)
        query = "SELECT id, value FROM label WHERE"
        if group == "run":
            query = "SELECT id, run_id FROM run WHERE"
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            names.update(self._session.rows(sql(query, one_of("id", chunk))))
        return names
