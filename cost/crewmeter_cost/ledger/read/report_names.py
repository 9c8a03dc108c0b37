"""A report's filters as SQL, and the names behind its raw keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crewmeter_cost.ledger.schema import core_tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery

__all__ = ["ReportNames"]

_RUN = core_tables.run
_LABEL = core_tables.label
_TAGS = core_tables.tag_set
_CHUNK = 5000


class ReportNames:
    """The names one report speaks of, over one connection."""

    def __init__(self, connection: Connection, query: ReportQuery) -> None:
        self._connection = connection
        self._query = query
        self._tags: dict[str, dict[int, str]] = {}

    def conditions(self, columns: dict[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
        """Return the filters as conditions on these columns (filter name → column)."""
        return [columns[name].in_(self._ids(name, value)) for name, value in self._query.where]

    def _ids(self, name: str, value: str) -> Any:
        """Return the raw keys that a filter allows."""
        if name == "run":
            return select(_RUN.c.id).where(_RUN.c.run_id == value)
        if name.startswith("tag:"):
            sets = self._values_of(name[4:]).items()
            return [number for number, text in sets if text == value]
        return select(_LABEL.c.id).where(
            _LABEL.c.kind == name,
            _LABEL.c.value == value,
        )

    def key(self, values: Iterable[Any]) -> Key:
        """Return a raw key: 0 for no name, the tag's value for a tag set."""
        return tuple(
            self._part(value, name) for value, name in zip(values, self._query.by, strict=True)
        )

    def _part(self, value: Any, group: str) -> int | str:
        if group.startswith("tag:"):
            return self._values_of(group[4:]).get(value, 0)
        part: int | str = value or 0
        return part

    def _values_of(self, key: str) -> dict[int, str]:
        """Return the value of one tag in every tag set that has it, by the set's number."""
        if key not in self._tags:
            values: dict[int, str] = {}
            for number, tags in self._connection.execute(select(_TAGS.c.id, _TAGS.c.tags)):
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
        if group == "run":
            column = _RUN.c.id
            text = _RUN.c.run_id
        else:
            column = _LABEL.c.id
            text = _LABEL.c.value
        for start in range(0, len(wanted), _CHUNK):
            query = select(column, text).where(column.in_(wanted[start : start + _CHUNK]))
            names.update((row[0], row[1]) for row in self._connection.execute(query))
        return names
