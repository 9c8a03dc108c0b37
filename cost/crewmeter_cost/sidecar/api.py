"""What is read from a sidecar: health, metrics, and the ledger's reports.

Reports have the shape that the command line prints.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.errors import CrewMeterError, LedgerCorruptError, LedgerUnavailableError
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.number_text import bounded_integer
from crewmeter_cost.time_range import read_zone, window

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics

__all__ = ["NOTE_HEADER", "health_routes", "ledger_routes"]

_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
NOTE_HEADER = "crewmeter-note"
"""Header of a list that is not over everything: how far the search went, and how to go on."""
_MOST_RUNS = 1_000
_MOST_OFFSET = 999_999_999
_MOST_ROWS = 20_000
"""Rows of a report at most. Each takes 2.5 KB of memory while it is written."""
_MOST_NODES = 10_000
"""Steps, and calls, of a run's tree at most."""


def health_routes(
    metrics: SidecarMetrics,
    not_ready: Callable[[], str | None],
    remarks: Callable[[], list[str]] = list,
) -> list[Route]:
    """Return ``/healthz``, ``/readyz`` and ``/metrics``.

    ``/healthz`` says that the process lives. ``/readyz`` says that it can store spans, else 503 and
    why. `remarks` are further lines of a 200: what is no reason against traffic, but worth a look.
    """

    async def alive(_request: Request) -> Response:
        return _text("ok")

    async def ready(_request: Request) -> Response:
        reason = not_ready()
        if reason is not None:
            return _text(reason, status=503)
        return _text("\n".join(["ready", *remarks()]))

    def page(request: Request) -> Response:
        body, content_type = metrics.page(request.headers.get("accept", ""))
        return Response(body, headers={**_HEADERS, "content-type": content_type})

    return [
        Route("/healthz", alive),
        Route("/readyz", ready),
        Route("/metrics", page),
    ]


def ledger_routes(ledger: Ledger, suspect: Callable[[LedgerCorruptError], None]) -> list[Route]:
    """Return ``/api/report``, ``/api/runs`` and ``/api/runs/{id}``.

    They give JSON in the shape of ``crewmeter report --limit|runs|show --format json``. `suspect`
    is called when reading finds the ledger damaged.
    """

    def report_of(request: Request) -> object:
        query = request.query_params
        since, until = _window(request)
        groups = [name for words in query.getlist("by") or ["model"] for name in words.split(",")]
        wanted = parse_filter(query.getlist("where"))
        zone = read_zone()
        found = report(
            ledger,
            by=groups,
            since=since,
            until=until,
            where=wanted,
            zone=zone,
            limit=_integer(
                request,
                "limit",
                default=5_000,
                lowest=1,
                highest=_MOST_ROWS,
            ),
        )
        return with_inexact_calls(ledger, found, wanted, zone).document()

    def runs_of(request: Request) -> Response:
        query = request.query_params
        since, until = _window(request)
        page = find_runs(
            ledger,
            where=query.getlist("where"),
            search=query.get("search"),
            order=query.get("order", "time"),  # type: ignore[arg-type]
            since=since,
            until=until,
            limit=_integer(
                request,
                "limit",
                default=50,
                lowest=1,
                highest=_MOST_RUNS,
            ),
            offset=_integer(
                request,
                "offset",
                default=0,
                lowest=0,
                highest=_MOST_OFFSET,
            ),
        )
        response = _json([run.document() for run in page.runs])
        if page.note:
            response.headers[NOTE_HEADER] = page.note
        return response

    def run_of(request: Request) -> object:
        run = find_run(ledger, request.path_params["run_id"])
        return run_tree(ledger, run, limit=_MOST_NODES).document()

    def route(path: str, document: Callable[[Request], object], *, missing: int = 400) -> Route:
        def endpoint(request: Request) -> Response:
            return _response(lambda: document(request), suspect, missing=missing)

        return Route(path, endpoint)

    return [
        route("/api/report", report_of),
        route("/api/runs", runs_of),
        route("/api/runs/{run_id}", run_of, missing=404),
    ]


def _window(request: Request) -> tuple[datetime | None, datetime | None]:
    return window(
        request.query_params.get("since"),
        request.query_params.get("until"),
        zone=read_zone(),
    )


def _integer(request: Request, name: str, *, default: int, lowest: int, highest: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    return bounded_integer(
        text,
        name=name,
        lowest=lowest,
        highest=highest,
    )


def _text(text: str, *, status: int = 200) -> Response:
    return Response(
        f"{text}\n",
        status_code=status,
        media_type="text/plain",
        headers=_HEADERS,
    )


def _response(
    document: Callable[[], object],
    suspect: Callable[[LedgerCorruptError], None],
    *,
    missing: int,
) -> Response:
    """Return the document as JSON.

    A request that has no answer is a 4xx, a ledger that cannot be read a 503, both with the reason
    and the way out.
    """
    try:
        found = document()
        return found if isinstance(found, Response) else _json(found)
    except LedgerCorruptError as error:
        suspect(error)
        return _problem(error, 503)
    except LedgerUnavailableError as error:
        return _problem(error, 503)
    except CrewMeterError as error:
        return _problem(error, missing)


def _problem(error: CrewMeterError, status: int) -> Response:
    return _json(
        {"error": error.message, "hint": error.hint},
        status=status,
    )


def _json(document: object, *, status: int = 200) -> Response:
    return Response(
        json.dumps(document, ensure_ascii=False),
        status_code=status,
        media_type="application/json",
        headers=_HEADERS,
    )
