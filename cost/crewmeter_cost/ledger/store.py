"""The ledger: opened, written in batches, read through its engine.

One `Ledger` may be used from several threads. Several processes may write one SQLite file at once.
Each batch is one transaction that holds the database's write lock, so no batch is ever half there.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.errors import CrewMeterError, LedgerUnavailableError
from crewmeter_cost.ledger.database_errors import damaged, explain
from crewmeter_cost.ledger.fork_safety import keep_safe
from crewmeter_cost.ledger.integrity import damage_of
from crewmeter_cost.ledger.location import display_url, ledger_url, sqlite_path
from crewmeter_cost.ledger.session import ConnectionSession
from crewmeter_cost.ledger.sqlite_connections import SqliteConnections
from crewmeter_cost.ledger.sqlite_file import identity_of
from crewmeter_cost.ledger.write.batch import Written, write_batch
from crewmeter_cost.ledger.write.journal_replay import has_journals
from crewmeter_cost.ledger.write.transaction import WriterState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from sqlalchemy.engine import Connection, Engine

    from crewmeter_cost.ledger.location import LedgerUrl
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.sqlite_file import FileIdentity
    from crewmeter_cost.ledger.write.transaction import Transaction
    from crewmeter_cost.pricing.charge_result import FrozenRates, Outcome
    from crewmeter_cost.records import Call, Step

__all__ = ["Ledger", "Work", "Written"]

_log = logging.getLogger("crewmeter")

_ATTEMPTS = 3
"""How often a batch is written when the file is replaced during each attempt."""


class Work(NamedTuple):
    """A write transaction: for queries of one's own, and for the writer's statements."""

    connection: Connection
    transaction: Transaction


class Ledger:
    """A ledger in SQLite or PostgreSQL. Make one with `Ledger.open`.

    SQLite is written and read over `sqlite3`. SQLAlchemy is imported when `engine` is first used.
    """

    def __init__(
        self,
        url: LedgerUrl,
        *,
        read_only: bool = False,
        durable: bool = False,
        busy_seconds: float = 5.0,
    ) -> None:
        self.url = url
        self._read_only = read_only
        self._durable = durable
        self._busy_seconds = busy_seconds
        self._engine: Engine | None = None
        self._engine_identity: FileIdentity | None = None
        self._state = WriterState(url.backend)
        path = sqlite_path(url)
        self._sqlite: SqliteConnections | None = None
        if path is not None:
            self._sqlite = SqliteConnections(
                url, path, durable=durable, read_only=read_only, busy_seconds=busy_seconds
            )
        self.lock = threading.Lock()
        """Held while a batch is written. Public for `fork_safety` only."""
        keep_safe(self)

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        read_only: bool = False,
        durable: bool = False,
        busy_seconds: float = 5.0,
    ) -> Ledger:
        """Open a ledger, made or upgraded as needed.

        Args:
            url: A URL or path. Default: `$CREWMETER_LEDGER`, else `~/.crewmeter/ledger.db`.
            read_only: Neither make, upgrade nor change anything.
            durable: A batch that `write` returned from survives a power cut, not only a crash.
            busy_seconds: How long to wait for another process's write.

        Returns:
            The open ledger, to be closed by `close` or a `with` block.

        Raises:
            CrewMeterError: What is wrong and the way out. `LedgerUnavailableError` where it may
                work later, `LedgerCorruptError` where the file is damaged.
        """
        where = ledger_url(url)
        path = sqlite_path(where)
        if read_only and path is not None and has_journals(path):
            # Imported here: it reads spans and prices them, which few readers need.
            from crewmeter_cost.ledger.recovery import recover

            recover(path, cls.open)
        ledger = cls(
            where,
            read_only=read_only,
            durable=durable,
            busy_seconds=busy_seconds,
        )
        try:
            ledger._prepare()
        except CrewMeterError:
            ledger.close()
            raise
        return ledger

    def _prepare(self) -> None:
        """Connect, and bring the schema up to date."""
        if self._sqlite is None or not self._sqlite.open():
            with self.explained():
                from crewmeter_cost.ledger.schema.creation import bring_up_to_date

                bring_up_to_date(self.engine, read_only=self._read_only)

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine on this ledger, for queries.

        Its connections follow the path where the file was moved or replaced.
        """
        if self._sqlite is not None:
            identity = self._sqlite.identity_now()
            if self._engine is not None and identity != self._engine_identity:
                self._engine.dispose()
            self._engine_identity = identity
        if self._engine is None:
            from crewmeter_cost.ledger.connection import open_engine

            self._engine = open_engine(
                self.url,
                durable=self._durable,
                read_only=self._read_only,
                busy_seconds=self._busy_seconds,
            )
        return self._engine

    @property
    def name(self) -> str:
        """The ledger's URL for messages, without its password."""
        return display_url(self.url)

    def write(
        self,
        calls: Sequence[tuple[Call, Outcome]],
        steps: Sequence[Step] = (),
        frozen: Callable[[str], FrozenRates] | None = None,
    ) -> Written:
        """Write one batch in one transaction. What is already there is left alone.

        Args:
            calls: Billed calls with their prices.
            steps: Nodes of runs' trees that are not billed themselves.
            frozen: Gives the rates behind a charge's price version.

        Returns:
            What was new. It is committed, and in the file that the ledger's path leads to.

        Raises:
            CrewMeterError: The ledger cannot take it now. Nothing of the batch is in it.
        """
        if self._sqlite is None:
            with self.writing(frozen) as work:
                return write_batch(work.transaction, calls, steps)
        with self.lock:
            for _ in range(_ATTEMPTS):
                self._follow_file()
                with self._sqlite_transaction(self._sqlite, frozen) as transaction:
                    written = write_batch(transaction, calls, steps)
                # A commit into a file that was moved away meanwhile is lost: write it again.
                if self._sqlite.in_its_file():
                    return written
        raise LedgerUnavailableError(
            f"ledger {self.name} is replaced again and again while it is written",
            hint="stop what moves or deletes the file; nothing is acknowledged meanwhile",
        )

    def _follow_file(self) -> None:
        """Open the ledger's path anew where the file was deleted, moved or replaced."""
        if self._sqlite is None:
            return
        if self._sqlite.is_open:
            if self._sqlite.in_its_file():
                return
            _log.error(
                "ledger %s was deleted, moved or replaced while in use; "
                "what stands there now is used from here on",
                self.name,
            )
        self._disconnect()
        self._state.forget()
        self._prepare()

    @contextmanager
    def _sqlite_transaction(
        self,
        connections: SqliteConnections,
        frozen: Callable[[str], FrozenRates] | None,
    ) -> Iterator[Transaction]:
        """One write transaction over `sqlite3`. The lock is held."""
        with self.explained():
            session = connections.session
            connection = session.connection
            try:
                # A plain BEGIN would take the lock at the first write, and fail there if another
                # has it meanwhile: SQLite cannot upgrade a read transaction
                # (https://sqlite.org/isolation.html).
                connection.execute("BEGIN IMMEDIATE")
                yield self._state.begin(session, frozen)
                connection.execute("COMMIT")
            except BaseException:
                self._state.rollback()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._state.commit()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a write transaction with the writer's statements.

        SQLite needs no SQLAlchemy for it.

        It is committed at the end of the block, rolled back where the block raises. Raises
        `CrewMeterError` where the ledger cannot take it now.
        """
        if self._sqlite is None:
            with self.writing() as work:
                yield work.transaction
            return
        with self.lock:
            self._follow_file()
            with self._sqlite_transaction(self._sqlite, None) as transaction:
                yield transaction

    @contextmanager
    def writing(self, frozen: Callable[[str], FrozenRates] | None = None) -> Iterator[Work]:
        """Yield one write transaction over SQLAlchemy, for maintenance and PostgreSQL.

        It is committed at the end of the block, rolled back where the block raises. Raises
        `CrewMeterError` where the ledger cannot take it now.
        """
        from crewmeter_cost.ledger.connection import WRITE

        with self.lock, self.explained():
            writer = self.engine.connect().execution_options(**{WRITE: True})
            try:
                with writer as connection, connection.begin():
                    session = ConnectionSession(connection)
                    yield Work(connection, self._state.begin(session, frozen))
            except BaseException:
                self._state.rollback()
                raise
            self._state.commit()

    @contextmanager
    def read_session(self) -> Iterator[Session]:
        """Yield a session in one read transaction. Raises `CrewMeterError`."""
        if self._sqlite is None:
            with self.reading() as connection:
                yield ConnectionSession(connection)
            return
        with self.explained(), _values_taken(), self._sqlite.readers.session() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a SQLAlchemy connection in one read transaction. Raises `CrewMeterError`."""
        with self.explained(), _values_taken(), self.engine.connect() as connection:
            if self._sqlite is None:
                # By default each statement would see what was committed before it.
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a driver's error into one of ours, a `CrewMeterError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.url) from error
        except Exception as error:
            # SQLAlchemy's wrapper, by its attribute: it may not be imported.
            if getattr(error, "orig", None) is None:
                raise
            raise explain(error, self.url) from error

    def verify(self, *, most_seconds: float = math.inf) -> None:
        """Check the bytes of a SQLite ledger and of its write-ahead log.

        Takes about a second for 500 MB, at most `most_seconds`, and keeps no other writer waiting.
        Raises `LedgerCorruptError`.
        """
        path = sqlite_path(self.url)
        if path is None:
            return
        found = identity_of(path)
        with self.lock:  # a fork waits for it, so that no child inherits the connection
            damage = damage_of(path, most_seconds=most_seconds)
        if damage is not None:
            raise damaged(self.name, damage, found)

    def abandon(self) -> None:
        """Drop every connection to a damaged ledger without closing it.

        Closing the last one would copy its write-ahead log into the file, and delete the log.
        """
        with self.lock:
            if self._sqlite is not None:
                self._sqlite.abandon()
            if self._engine is not None:
                self._engine.dispose(close=False)
            self._state.forget()

    def _disconnect(self) -> None:
        if self._sqlite is not None:
            self._sqlite.close()
        if self._engine is not None:
            self._engine.dispose()

    def close(self) -> None:
        """Close every connection. The next use opens them again."""
        self._disconnect()

    def before_fork(self, *, idle: bool) -> None:
        """Close what a child must not inherit. `idle` says that no batch is being written."""
        if self._sqlite is not None and idle:
            self._sqlite.close()
        if self._engine is not None:
            self._engine.dispose()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections without closing them."""
        # The parent may have forked while a thread of its own held the lock.
        self.lock = threading.Lock()
        if self._sqlite is not None:
            self._sqlite.abandon()
        if self._engine is not None:
            self._engine.dispose(close=False)
        self._state.forget()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def _values_taken() -> Iterator[None]:
    """Refuse a value that no ledger can hold, which drivers raise Python's errors for."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise CrewMeterError(
            f"{error.object!r} is not text in UTF-8", hint="check what was typed or sent"
        ) from error
    except OverflowError as error:
        raise CrewMeterError(
            f"a number is too large for the ledger: {error}", hint="use a smaller one"
        ) from error
