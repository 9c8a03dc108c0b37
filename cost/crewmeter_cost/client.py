"""The Python client: reports and runs of a ledger or a sidecar, as typed records.

with crewmeter_cost.open("sqlite:///ledger.db") as ledger:
    for row in ledger.report(by=["crew"], since="7d").rows:
        print(row.crew, row.cost_usd)
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import parse_filter, quoted
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import utc_text
from crewmeter_cost.time_range import read_zone, window

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LedgerClient", "Record", "RecordList", "ReportResult", "open_client"]

Time = str | datetime | None
Where = str | Sequence[str] | Mapping[str, str] | None

_TIMEOUT_SECONDS = 30.0
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


class Record(Mapping[str, Any]):
    """One row of an answer: its values by key, or as attributes.

    Costs are `Decimal` or None.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {
            key: Decimal(value) if key.endswith("_usd") and isinstance(value, str) else value
            for key, value in values.items()
        }

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Copying and pickling look for such names before there are values.
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; there is {', '.join(self._values)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Record({self._values!r})"


class RecordList(Sequence[Record]):
    """Records in order, which become a data frame on request.

    `note` says what a reader must know about them: that a search ended before the oldest run.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], *, note: str | None = None) -> None:
        self._rows = [Record(row) for row in rows]
        self.note = note

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def to_pandas(self) -> Any:
        """Return the records as a pandas data frame.

        Costs are floats there, for plots and sums.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas  # type: ignore[import-untyped, unused-ignore]

        return pandas.DataFrame([_plain(row) for row in self._rows])

    def to_polars(self) -> Any:
        """Return the records as a polars data frame.

        Costs are floats there.

        Raises:
            ImportError: polars is not installed.
        """
        import polars  # type: ignore[import-not-found, unused-ignore]

        return polars.DataFrame([_plain(row) for row in self._rows])


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A report: its rows, and the total over all of them."""

    rows: RecordList
    total: Record
    group_by: tuple[str, ...]
    since: str | None
    until: str | None
    currency: str = "USD"

    def to_pandas(self) -> Any:
        """Return the rows as a pandas data frame.

        Costs are floats there.
        """
        return self.rows.to_pandas()

    def to_polars(self) -> Any:
        """Return the rows as a polars data frame.

        Costs are floats there.
        """
        return self.rows.to_polars()


class _Source(Protocol):
    """Where answers come from: documents in the shape of the JSON contract."""

    def report(self, by: Sequence[str], **question: Any) -> dict[str, Any]: ...

    def runs(self, **question: Any) -> tuple[list[dict[str, Any]], str | None]: ...

    def run(self, run_id: str) -> dict[str, Any]: ...

    def close(self) -> None: ...


class LedgerClient:
    """Reports and runs of one ledger or sidecar. Made by `crewmeter_cost.open`."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def report(
        self,
        by: str | Sequence[str] = ("model",),
        *,
        since: Time = None,
        until: Time = None,
        where: Where = None,
        limit: int | None = None,
    ) -> ReportResult:
        """Return calls, tokens, cost and latency of the calls in [since, until).

        Args:
            by: Groups, such as ``["crew", "day"]`` or ``["tag:env"]``; none for the total only.
            since: Start: a time (``"7d"``, ``"last month"``, ``"2026-11-01"``), or a datetime.
            until: End (exclusive), in the same forms.
            where: Filter, such as ``"model=gpt-5 status=failed"``.
            limit: At most so many rows; the total is over all.

        Returns:
            Rows and a total with the keys of ``crewmeter report --format json``.

        Raises:
            CrewMeterError: A group, time or filter cannot be read, or the ledger cannot.
        """
        groups = [by] if isinstance(by, str) else list(by)
        document = self._source.report(
            groups, since=since, until=until, where=_terms(where), limit=limit
        )
        return ReportResult(
            RecordList(document["rows"]),
            Record(document["total"]),
            tuple(document["group_by"]),
            document["since"],
            document["until"],
            document["currency"],
        )

    def runs(
        self,
        *,
        since: Time = None,
        until: Time = None,
        where: Where = None,
        search: str | None = None,
        order: str = "time",
        limit: int = 50,
        offset: int = 0,
    ) -> RecordList:
        """Return runs with the keys of ``crewmeter runs --format json``, newest first.

        Args:
            since: Start, in the forms of `report`.
            until: End (exclusive).
            where: Filter, such as ``"status=failed cost>0.5"``.
            search: A text in the run's id or in one of its names.
            order: ``time``, ``cost``, ``duration`` or ``calls``; largest or newest first.
            limit: At most so many.
            offset: Skip so many.

        Raises:
            CrewMeterError: A time, filter or order cannot be read, or the ledger cannot.
        """
        rows, note = self._source.runs(
            since=since,
            until=until,
            where=_terms(where),
            search=search,
            order=order,
            limit=limit,
            offset=offset,
        )
        return RecordList(rows, note=note)

    def run(self, run_id: str) -> Record:
        """Return one run with its ``tree`` of steps.

        Args:
            run_id: The id, the start of one, or ``"last"``.

        Raises:
            CrewMeterError: There is no such run, or several.
        """
        return Record(self._source.run(run_id))

    def close(self) -> None:
        """Close the connection."""
        self._source.close()

    def __enter__(self) -> LedgerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_client(url: str | None = None, *, token: str | None = None) -> LedgerClient:
    """Return a client of the ledger or sidecar at `url`.

    See `crewmeter_cost.open`.
    """
    if url is not None and url.startswith(("http://", "https://")):
        return LedgerClient(_Sidecar(url, token or os.environ.get("CREWMETER_TOKEN")))
    return LedgerClient(_LocalLedger(Ledger.open(url, read_only=True)))


class _LocalLedger:
    """Answers read from a database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def report(self, by: Sequence[str], **question: Any) -> dict[str, Any]:
        start, end = _window(question.pop("since"), question.pop("until"))
        wanted = parse_filter(question.pop("where"))
        zone = read_zone()
        found = report(
            self._ledger, by=by, since=start, until=end, where=wanted, zone=zone, **question
        )
        made = with_inexact_calls(self._ledger, found, wanted, zone)
        return made.document()

    def runs(self, **question: Any) -> tuple[list[dict[str, Any]], str | None]:
        start, end = _window(question.pop("since"), question.pop("until"))
        page = find_runs(self._ledger, since=start, until=end, **question)
        return [run.document() for run in page.runs], page.note

    def run(self, run_id: str) -> dict[str, Any]:
        return run_tree(self._ledger, find_run(self._ledger, run_id)).document()

    def close(self) -> None:
        self._ledger.close()


class _Sidecar:
    """Answers of a sidecar's JSON API."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def report(self, by: Sequence[str], **question: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._get("/api/report", by=list(by) or ["model"], **question)
        if not by:
            answer.update(group_by=[], rows=[])
        return answer

    def runs(self, **question: Any) -> tuple[list[dict[str, Any]], str | None]:
        answer: tuple[list[dict[str, Any]], str | None] = self._answer("/api/runs", question)
        return answer

    def run(self, run_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._get(f"/api/runs/{urllib.parse.quote(run_id, safe='')}")
        return answer

    def close(self) -> None:
        pass

    def _get(self, path: str, **question: Any) -> Any:
        return self._answer(path, question)[0]

    def _answer(self, path: str, question: Mapping[str, Any]) -> tuple[Any, str | None]:
        """Return a document, and the note that came with it."""
        given = {key: _query_value(value) for key, value in question.items() if value is not None}
        query = urllib.parse.urlencode(given, doseq=True)
        request = urllib.request.Request(f"{self._url}{path}?{query}", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                note = response.headers.get("crewmeter-note")
                return json.loads(response.read(_MAX_ANSWER_BYTES)), note
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except (OSError, ValueError) as error:
            raise CrewMeterError(
                f"the sidecar at {self._url} does not answer: {error}",
                hint="check the address, and that `crewmeter serve` runs there",
            ) from error


def _refusal(error: urllib.error.HTTPError) -> CrewMeterError:
    """Return the error that a sidecar's answer describes."""
    try:
        problem = json.loads(error.read(1_000_000))
        return CrewMeterError(str(problem["error"]), hint=problem.get("hint"))
    except (ValueError, KeyError, TypeError, AttributeError):
        hint = "set CREWMETER_TOKEN to a read key" if error.code in (401, 403) else None
        return CrewMeterError(f"the sidecar answers {error.code} {error.reason}", hint=hint)


def _query_value(value: Any) -> Any:
    """Return a value of a query string."""
    return utc_text(value) if isinstance(value, datetime) else value


def _window(since: Time, until: Time) -> tuple[datetime | None, datetime | None]:
    """Return the window, read in the zone of ``CREWMETER_TZ``."""
    texts = [utc_text(end) if isinstance(end, datetime) else end for end in (since, until)]
    return window(texts[0], texts[1], zone=read_zone())


def _terms(where: Where) -> list[str]:
    """Return a filter as texts, which is what both sources read."""
    if where is None:
        return []
    if isinstance(where, str):
        return [where]
    if isinstance(where, Mapping):
        return [f"{key}={quoted(value)}" for key, value in where.items()]
    return list(where)


def _plain(row: Record) -> dict[str, Any]:
    """Return a record for a data frame, its costs as floats."""
    return {
        key: float(value) if isinstance(value, Decimal) else value for key, value in row.items()
    }
