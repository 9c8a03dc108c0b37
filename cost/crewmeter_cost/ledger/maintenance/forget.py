"""Forgetting a person: their name becomes a random pseudonym, every sum stays.

Rows name people by the number of a label, so the name is found in little else: its labels, the tag
sets that carry it, and the budgets that were set for it. What was captured of the person's prompts
and answers is deleted.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.ledger.metadata import count_renaming
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.session import ConnectionSession

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Forgotten", "forget_user"]

_CALL = core_tables.call
_RUN = core_tables.run
_LABEL = core_tables.label
_TAGS = core_tables.tag_set
_BUDGET = core_tables.budget
_ACCOUNT = core_tables.budget_account


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was changed.

    `file_cleaned` is False where another reader held old pages.
    """

    pseudonym: str
    calls: int
    runs: int
    tag_sets: int
    budgets: int
    contents: int
    """Captured texts deleted: those of the user, and all in the traces of their calls."""
    file_cleaned: bool


def forget_user(ledger: Ledger, name: str, *, dry_run: bool = False) -> Forgotten:
    """Replace a user's name throughout the ledger by a random pseudonym.

    Calls, runs and roll-ups keep their sums under the pseudonym. All captured content goes of the
    traces that name the user, also in another span. Raises `CrewMeterError` where neither the
    ledger nor the content names the user, and then nothing was changed.
    """
    pseudonym = f"forgotten-{secrets.token_hex(6)}"
    content = ContentStore(ledger.url)
    with ledger.reading() as connection:
        named = {
            *content.traces_of_user(name),
            *_traces_of(connection, name),
        }
        traces = sorted(named)
        contents = content.count_user(name, traces)
        found = _forget(
            connection,
            name,
            pseudonym,
            dry_run=True,
            known=contents > 0,
        )
    if dry_run:
        return replace(found, contents=contents)
    # The traces are found by the name, so what they captured goes before the name does.
    contents = content.delete_user(name, traces)
    _overwrite_deleted_bytes(ledger)
    with ledger.writing() as work:
        done = _forget(
            work.connection,
            name,
            pseudonym,
            dry_run=False,
            known=True,
        )
    return replace(done, contents=contents, file_cleaned=_fold_log(ledger))


def _forget(
    connection: Connection, name: str, pseudonym: str, *, dry_run: bool, known: bool
) -> Forgotten:
    """Count what names the user and, unless `dry_run`, change it.

    Raises `CrewMeterError` where nothing does, unless the user is `known` from elsewhere.
    """
    label = select(_LABEL.c.id).where(
        _LABEL.c.kind == "user",
        _LABEL.c.value == name,
    )
    user = connection.scalar(label)
    tags = _tag_sets_of(connection, name)
    budgets = _budgets_of(connection, name)
    if user is None and not tags and not budgets and not known:
        raise CrewMeterError(
            f"no user {name!r} in this ledger",
            hint="`crewmeter report --by user` lists them",
            exit_code=1,
        )
    counts = [0, 0]
    if user is not None:
        for number, table in enumerate((_CALL, _RUN)):
            query = select(func.count()).select_from(table)
            query = query.where(table.c.user == user)
            counts[number] = connection.scalar(query) or 0
    if not dry_run:
        if user is not None:
            rename = update(_LABEL).where(_LABEL.c.id == user)
            connection.execute(rename.values(value=pseudonym))
        _rename_tags(connection, tags, name, pseudonym)
        count_renaming(ConnectionSession(connection))
        _rename_budgets(connection, budgets, name, pseudonym)
    return Forgotten(
        pseudonym,
        counts[0],
        counts[1],
        len(tags),
        len(budgets),
        contents=0,
        file_cleaned=True,
    )


def _traces_of(connection: Connection, name: str) -> list[str]:
    """Return the traces in which a run or a call names the user, or a tag does."""
    user = select(_LABEL.c.id).where(_LABEL.c.kind == "user", _LABEL.c.value == name)
    tags = list(_tag_sets_of(connection, name))
    found: set[bytes] = set()
    for table in (_RUN, _CALL):
        query = select(table.c.trace_id).where(table.c.user == user.scalar_subquery())
        found.update(connection.scalars(query))
    if tags:
        tagged = select(_CALL.c.trace_id).where(_CALL.c.tag_set.in_(tags))
        found.update(connection.scalars(tagged))
    return sorted(trace.hex() for trace in found if trace is not None)


def _tag_sets_of(connection: Connection, name: str) -> dict[int, dict[str, Any]]:
    """Return the tag sets in which some tag's value is the name."""
    found = {}
    for number, text in connection.execute(select(_TAGS.c.id, _TAGS.c.tags)):
        tags = json.loads(text)
        if name in tags.values():
            found[int(number)] = tags
    return found


def _rename_tags(
    connection: Connection, sets: dict[int, dict[str, Any]], name: str, pseudonym: str
) -> None:
    """Write the tag sets, and the labels of their tags, with the pseudonym."""
    keys = set()
    for number, tags in sets.items():
        renamed = dict(tags)
        for key, value in tags.items():
            if value == name:
                keys.add(key)
                renamed[key] = pseudonym
        text = json.dumps(renamed, sort_keys=True, ensure_ascii=False)
        change = update(_TAGS).where(_TAGS.c.id == number)
        connection.execute(change.values(tags=text))
    for key in keys:
        label = update(_LABEL).where(
            _LABEL.c.kind == "tag",
            _LABEL.c.value == f"{key}={name}",
        )
        connection.execute(label.values(value=f"{key}={pseudonym}"))


def _budgets_of(connection: Connection, name: str) -> dict[int, dict[str, Any]]:
    """Return the budgets that were set for the user, by number."""
    found = {}
    for number, definition in connection.execute(select(_BUDGET.c.id, _BUDGET.c.definition)):
        document = json.loads(definition)
        if document.get("scope") == "user" and document.get("value") == name:
            found[int(number)] = document
    return found


def _rename_budgets(
    connection: Connection, budgets: dict[int, dict[str, Any]], name: str, pseudonym: str
) -> None:
    """Write the budgets and their accounts with the pseudonym."""
    for number, document in budgets.items():
        label = str(document.get("name") or "").replace(name, pseudonym)
        renamed = {**document, "value": pseudonym, "name": label}
        definition = json.dumps(renamed, sort_keys=True)
        row = select(_BUDGET.c.name).where(_BUDGET.c.id == number)
        stored_name = str(connection.scalar(row)).replace(name, pseudonym)
        change = update(_BUDGET).where(_BUDGET.c.id == number)
        connection.execute(change.values(definition=definition, name=stored_name))
    accounts = connection.execute(select(_ACCOUNT.c.id, _ACCOUNT.c.scope)).all()
    for number, scope in accounts:
        new_scope = _account_scope(scope, name, pseudonym)
        if new_scope != scope:
            change = update(_ACCOUNT).where(_ACCOUNT.c.id == number)
            connection.execute(change.values(scope=new_scope))


def _account_scope(scope: str, name: str, pseudonym: str) -> str:
    """Return an account's scope with the pseudonym, where it is of the user."""
    # Written by `budgets.local_balance`: SCOPE:VALUE/PERIOD/ZONE.
    before = f"user:{name}/"
    if scope.startswith(before):
        return f"user:{pseudonym}/{scope.removeprefix(before)}"
    return scope


def _overwrite_deleted_bytes(ledger: Ledger) -> None:
    """Have SQLite zero what is deleted, so that the name does not stay in the file."""
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA secure_delete = ON")


def _fold_log(ledger: Ledger) -> bool:
    """Empty SQLite's write-ahead log, which holds the pages before the change."""
    if ledger.engine.dialect.name != "sqlite":
        return True
    with ledger.engine.connect() as connection:
        row = connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(row is None or row[0] == 0)
