"""The ledger: opened, written in batches, read through its engine.

One `Ledger` may be used from several threads. Several processes may write one SQLite file at once; each batch is one
transaction that holds the database's write lock, so no batch is ever half there.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.connection import WRITE, explain, open_engine, prepare_file
from crewmeter_cost.ledger.fork_safety import keep_safe
from crewmeter_cost.ledger.location import ledger_url, shown, sqlite_path
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.version import bring_up_to_date
from crewmeter_cost.ledger.write.batch import Written, write_batch
from crewmeter_cost.ledger.write.dimensions import Labels
from crewmeter_cost.ledger.write.insert import Bulk
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from sqlalchemy.engine import Connection, Engine

    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.pricing.charge_result import FrozenRates
    from crewmeter_cost.records import Call, Step

__all__ = ["Ledger", "RunCost", "Work", "Written"]

_RUN = core_tables.run


class Work(NamedTuple):
    """A write transaction and what it works with."""

    connection: Connection
    bulk: Bulk
    labels: Labels


class RunCost(NamedTuple):
    """The totals of one run so far."""

    calls: int
    failed_calls: int
    unpriced_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_pusd: int | None
    """None where calls were made and none of them has a price."""


class Ledger:
    """A ledger in SQLite or PostgreSQL. Make one with `Ledger.open`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._bulk = Bulk(engine.dialect.name)
        self._labels = Labels()
        self.lock = threading.Lock()
        """Held while a batch is written. For `forks` only."""
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
        """Open the ledger at `url` (default: ``$CREWMETER_LEDGER``, else ``~/.crewmeter/ledger.db``), made or upgraded as needed.

        `durable`: a batch that `write` returned from survives a power cut, not only a crash of the process.
        Raises `CrewMeterError` (`LedgerUnavailableError`, `LedgerCorruptError`) saying what is wrong and the way out.
        """
        where = ledger_url(url)
        path = sqlite_path(where)
        if path is not None:
            if read_only:
                if not path.exists():
                    hint = "run `crewmeter demo`, or an app with crewmeter.instrument()"
                    raise CrewMeterError(f"there is no ledger at {path} yet", hint=hint)
            else:
                prepare_file(path)
        engine = open_engine(where, durable=durable, read_only=read_only, busy_seconds=busy_seconds)
        try:
            bring_up_to_date(engine, read_only=read_only)
        except DBAPIError as error:
            engine.dispose()
            raise explain(error, where) from error
        except CrewMeterError:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def name(self) -> str:
        """The ledger's URL for messages, without its password."""
        return shown(self.engine.url)

    def write(
        self,
        calls: Sequence[tuple[Call, Outcome]],
        steps: Sequence[Step] = (),
        frozen: Callable[[str], FrozenRates] | None = None,
    ) -> Written:
        """Write one batch in one transaction; what is already there is left alone. `frozen` gives the rates behind a charge's version.

        Raises `CrewMeterError` where the ledger cannot take it now; then nothing of the batch is in it.
        """
        with self.writing(frozen) as work:
            return write_batch(work.connection, work.bulk, work.labels, calls, steps)

    @contextmanager
    def writing(self, frozen: Callable[[str], FrozenRates] | None = None) -> Iterator[Work]:
        """One write transaction: committed at the end of the block, rolled back where it raises.

        Raises `CrewMeterError` where the ledger cannot take it now.
        """
        with self.lock:
            try:
                with (
                    self.engine.connect().execution_options(**{WRITE: True}) as connection,
                    connection.begin(),
                ):
                    self._labels.begin(connection, frozen)
                    yield Work(connection, self._bulk, self._labels)
            except DBAPIError as error:
                self._labels.rollback()
                raise explain(error, self.engine.url) from error
            except BaseException:
                self._labels.rollback()
                raise
            self._labels.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in one read transaction. Raises `CrewMeterError` for what the database has to say."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise explain(error, self.engine.url) from error

    def run_cost(self, run_id: str) -> RunCost | None:
        """The totals of a run so far; None where the ledger does not know it."""
        c = _RUN.c
        amounts = (
            c.calls,
            c.failed_calls,
            c.unpriced_calls,
            c.tool_calls,
            c.input_tokens,
            c.output_tokens,
        )
        columns = (*amounts, c.priced_calls, c.cost_whole_usd, c.cost_pusd)
        with self.reading() as connection:
            row = connection.execute(select(*columns).where(c.run_id == run_id)).one_or_none()
        if row is None:
            return None
        cost = (
            None
            if row.unpriced_calls and not row.priced_calls
            else row.cost_whole_usd * PICO + row.cost_pusd
        )
        return RunCost(*row[:6], cost)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
