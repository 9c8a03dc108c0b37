"""SQL text together with the values of its question marks.

The queries of reports, runs and budgets are put together from these, because importing a query
builder costs more than most of them take. Values are bound, never written into the text, but for
the ids of rows, of which there may be more than a statement has parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "Sql",
    "all_of",
    "any_of",
    "column",
    "contains",
    "listed",
    "negated",
    "one_of",
    "one_of_ids",
    "placeholders",
    "sql",
    "starts_with",
    "where",
]


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL: its text, and a value for each question mark in it."""

    text: str
    values: tuple[Any, ...] = ()


def sql(*parts: str | Sql) -> Sql:
    """Return the parts one after the other, with spaces between."""
    return _joined(" ", parts)


def listed(parts: Iterable[str | Sql]) -> Sql:
    """Return the parts with commas between, as columns of a SELECT or GROUP BY."""
    return _joined(", ", parts)


def _joined(separator: str, parts: Iterable[str | Sql]) -> Sql:
    texts: list[str] = []
    values: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        else:
            texts.append(part.text)
            values.extend(part.values)
    return Sql(separator.join(texts), tuple(values))


def column(table: str, name: str) -> str:
    """Return a column in quotes.

    Some of ours (``user``) are keywords of PostgreSQL.
    """
    return f'{table}."{name}"'


def all_of(conditions: Sequence[Sql]) -> Sql:
    """Return the condition that all of these hold, true for none."""
    if not conditions:
        return Sql("1 = 1")
    return _combined(" AND ", conditions)


def any_of(conditions: Sequence[Sql]) -> Sql:
    """Return the condition that one of these holds, false for none."""
    if not conditions:
        return Sql("1 = 0")
    return _combined(" OR ", conditions)


def _combined(word: str, conditions: Sequence[Sql]) -> Sql:
    in_brackets = (Sql(f"({each.text})", each.values) for each in conditions)
    return _joined(word, in_brackets)


def negated(condition: Sql) -> Sql:
    """Return the opposite of a condition, where unknown (NULL) counts as false."""
    return Sql(f"NOT coalesce({condition.text}, FALSE)", condition.values)


def where(conditions: Sequence[Sql]) -> Sql:
    """Return the WHERE clause of these conditions, nothing for none."""
    if not conditions:
        return Sql("")
    return sql("WHERE", all_of(conditions))


def placeholders(values: Collection[Any]) -> str:
    """Return a question mark for each value, with commas between."""
    return ", ".join("?" * len(values))


def one_of(subject: str, choices: Sql | Sequence[Any]) -> Sql:
    """Return the condition that a column is one of some values, or of a query's."""
    if isinstance(choices, Sql):
        return Sql(f"{subject} IN ({choices.text})", choices.values)
    if not choices:
        return Sql("1 = 0")
    return Sql(f"{subject} IN ({placeholders(choices)})", tuple(choices))


def one_of_ids(subject: str, ids: Iterable[int]) -> Sql:
    """Return the condition that a column is one of any number of ids."""
    written = ",".join(str(int(each)) for each in ids)
    return Sql(f"{subject} IN ({written})") if written else Sql("1 = 0")


def starts_with(subject: str, text: str) -> Sql:
    """Return the condition that a text begins with another. Case as LIKE has it."""
    pattern = f"{_literal(text)}%"
    return Sql(f"{subject} LIKE ? ESCAPE '/'", (pattern,))


def contains(subject: str, text: str) -> Sql:
    """Return the condition that a text has another in it. Case as LIKE has it."""
    pattern = f"%{_literal(text)}%"
    return Sql(f"{subject} LIKE ? ESCAPE '/'", (pattern,))


def _literal(text: str) -> str:
    """Return a text in which LIKE takes nothing for a wildcard."""
    for special in ("/", "%", "_"):
        text = text.replace(special, f"/{special}")
    return text
