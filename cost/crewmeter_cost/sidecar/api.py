"""What people and programs read off a sidecar: health, metrics, and the ledger's reports as the command line prints them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.database_errors import LedgerCorruptError, LedgerUnavailableError
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.time_range import window

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics

__all__ = ["health_routes", "ledger_routes"]

_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
_MOST_RUNS = 1_000
_MOST_ROWS = 20_000
"""Rows of a report at most: with 2.5 KB of memory a row while it is written, however many groups there are."""
_MOST_NODES = 10_000
"""Steps, and calls, of a run's tree at most."""


def health_routes(metrics: SidecarMetrics, not_ready: Callable[[], str | None]) -> list[Route]:
    """``/healthz`` (the process lives), ``/readyz`` (it can store spans; else 503 and why), ``/metrics``."""

    async def alive(_request: Request) -> Response:
        return Response("ok\n", media_type="text/plain", headers=_HEADERS)

    async def ready(_request: Request) -> Response:
        reason = not_ready()
        return Response(
            f"{reason or 'ready'}\n",
            status_code=503 if reason else 200,
            media_type="text/plain",
            headers=_HEADERS,
        )

    def page(request: Request) -> Response:
        body, content_type = metrics.page(request.headers.get("accept", ""))
        return Response(body, headers={**_HEADERS, "content-type": content_type})

    return [Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", page)]


def ledger_routes(ledger: Ledger, suspect: Callable[[LedgerCorruptError], None]) -> list[Route]:
    """``/api/report``, ``/api/runs`` and ``/api/runs/{id}``: JSON in the shape of ``crewmeter report --limit|runs|show --format json``.

    `suspect` is told when reading finds the ledger damaged.
    """

    def by_group(request: Request) -> Response:
        query = request.query_params
        groups = [name for words in query.getlist("by") or ["model"] for name in words.split(",")]

        def made() -> dict[str, object]:
            since, until = _window(request)
            limit = _limit(query.get("limit", "5000"), _MOST_ROWS)
            return report(
                ledger,
                by=groups,
                since=since,
                until=until,
                where=query.getlist("where"),
                limit=limit,
            ).document()

        return _answer(made, suspect)

    def listed(request: Request) -> Response:
        def found() -> list[dict[str, object]]:
            since, until = _window(request)
            query = request.query_params
            page = find_runs(
                ledger,
                where=query.getlist("where"),
                search=query.get("search"),
                order=query.get("order", "time"),  # type: ignore[arg-type]
                since=since,
                until=until,
                limit=_limit(query.get("limit", "50"), _MOST_RUNS),
                offset=_offset(query.get("offset", "0")),
            )
            return [run.document() for run in page.runs]

        return _answer(found, suspect)

    def one(request: Request) -> Response:
        def grown() -> dict[str, object]:
            return run_tree(
                ledger, find_run(ledger, request.path_params["run_id"]), limit=_MOST_NODES
            ).document()

        return _answer(grown, suspect, missing=404)

    return [
        Route("/api/report", by_group),
        Route("/api/runs", listed),
        Route("/api/runs/{run_id}", one),
    ]


def _window(request: Request) -> tuple[datetime | None, datetime | None]:
    return window(request.query_params.get("since"), request.query_params.get("until"))


def _limit(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= most:
        raise CrewMeterError(f"limit must be a number from 1 to {most}")
    return int(text)


def _offset(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise CrewMeterError("offset must be a number from 0 to 999999999")
    return int(text)


def _answer(
    document: Callable[[], object],
    suspect: Callable[[LedgerCorruptError], None],
    *,
    missing: int = 400,
) -> Response:
    """The document as JSON; a question without an answer is a 4xx, a ledger that cannot be read a 503, with the reason and the way out."""
    problem: CrewMeterError
    try:
        return Response(
            json.dumps(document(), ensure_ascii=False),
            media_type="application/json",
            headers=_HEADERS,
        )
    except LedgerCorruptError as error:
        suspect(error)
        status, problem = 503, error
    except LedgerUnavailableError as error:
        status, problem = 503, error
    except CrewMeterError as error:
        status, problem = missing, error
    body = json.dumps({"error": problem.message, "hint": problem.hint}, ensure_ascii=False)
    return Response(body, status_code=status, media_type="application/json", headers=_HEADERS)
