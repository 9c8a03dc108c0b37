"""The page's routes.

Static files and a JSON API, both read-only, for `crewmeter open` and for the sidecar's ``/``.
"""

from __future__ import annotations

import json
import os
import time
from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.budgets.repository import in_force
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import COST_STATUS_TEXT
from crewmeter_cost.pricing.charge import PICO
from crewmeter_cost.web import run_pages
from crewmeter_cost.web.panel_queries import ask_panel, catalogue, choices, public_catalogue
from crewmeter_cost.web.params import ANY, read_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine
    from starlette.requests import Request

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.web.params import PanelParameters

__all__ = ["HEADERS", "page_routes"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer: nothing but our own files runs, nothing leaves, nobody frames us."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def page_routes(ledger: Ledger) -> list[Route]:
    """Routes that show `ledger`: ``/``, ``/static/…`` and ``/api/…``.

    They hold no state; close the ledger yourself.
    """
    files = _static_files()

    def static(request: Request) -> Response:
        found = files.get(request.path_params.get("name", "index.html"))
        if found is None:
            return _json({"error": "not found"}, status=404)
        body, media_type = found
        return Response(
            body, media_type=media_type, headers={**HEADERS, "Cache-Control": "no-cache"}
        )

    def boards(_request: Request) -> Response:
        return _json(
            public_catalogue()
            | {
                "budget_usd": monthly_budget(ledger.engine),
                "words": dict(COST_STATUS_TEXT),
                "trace_url": os.environ.get("CREWMETER_TRACE_URL"),
            }
        )

    def panel(request: Request) -> Response:
        return _answer(
            lambda: ask_panel(
                ledger.engine, request.path_params["panel"], _question(ledger, request)
            )
        )

    def filter_choices(request: Request) -> Response:
        return _answer(
            lambda: {
                "values": choices(
                    ledger.engine, request.path_params["name"], _question(ledger, request)
                )
            }
        )

    def run_list(request: Request) -> Response:
        query = request.query_params
        return _answer(
            lambda: run_pages.run_list(
                ledger.engine,
                _question(ledger, request),
                order=query.get("order", "time"),
                status=query.get("status", ANY),
                skip=_skip(query.get("skip", "0")),
            )
        )

    def run(request: Request) -> Response:
        return _answer(lambda: run_pages.run_tree(ledger.engine, request.path_params["run_id"]))

    return [
        Route("/", static),
        Route("/static/{name:path}", static),
        Route("/api/boards", boards),
        Route("/api/panels/{panel}", panel),
        Route("/api/filters/{name}", filter_choices),
        Route("/api/page/runs", run_list),
        Route("/api/page/runs/{run_id}", run),
    ]


def _static_files() -> dict[str, tuple[bytes, str]]:
    """Every file of the page by name, read once.

    Only what is listed here can be asked for.
    """
    folder = resources.files("crewmeter_cost.web").joinpath("static")
    found = {}
    for entry in folder.iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if entry.is_file() and suffix in _TYPES:
            found[entry.name] = (entry.read_bytes(), _TYPES[suffix])
    return found


def monthly_budget(engine: Engine) -> float:
    """Return the budget for everything per month that is in force (USD), or 0 for none.

    A hard and a soft one may both be: the smaller is what the month is compared with.
    """
    amounts = [
        budget.amount_pusd / PICO
        for budget in in_force(engine)
        if budget.scope == "everything" and budget.period == "month"
    ]
    return min(amounts, default=0.0)


def _question(ledger: Ledger, request: Request) -> PanelParameters:
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    known = catalogue()
    return read_parameters(
        query,
        filters=tuple(known["filters"]),
        now=int(time.time()),
        budget=monthly_budget(ledger.engine),
    )


def _skip(text: str) -> int:
    if not text.isdecimal() or len(text) > 7:
        raise CrewMeterError(f"skip={text!r} is not a number of runs")
    return int(text)


def _answer(ask: Callable[[], dict[str, object]]) -> Response:
    try:
        return _json(ask())
    except CrewMeterError as error:
        return _json(
            {"error": error.message, "hint": error.hint},
            status=404 if error.message.startswith("there is no") else 400,
        )
    except DBAPIError as error:
        return _json(
            {
                "error": f"the ledger did not answer: {error.orig}",
                "hint": "try again; crewmeter doctor looks closer",
            },
            status=503,
        )


def _json(document: object, *, status: int = 200) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={**HEADERS, "Cache-Control": "no-store"},
    )
