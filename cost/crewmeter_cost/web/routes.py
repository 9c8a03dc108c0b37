"""The page's routes: static files and a JSON API, both read-only.

They serve `crewmeter open` and the sidecar's ``/``.
"""

from __future__ import annotations

import json
import os
import time
from importlib import resources
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.budgets.repository import in_force
from crewmeter_cost.errors import (
    CrewMeterError,
    LedgerCorruptError,
    LedgerUnavailableError,
    NotInCatalogueError,
)
from crewmeter_cost.filters import KEYS
from crewmeter_cost.formatting import COST_STATUS_TEXT, PROVIDER_TEXT, RUN_STATUS_TEXT
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.number_text import bounded_integer
from crewmeter_cost.pricing.charge import PICO
from crewmeter_cost.time_range import read_zone, zone_name
from crewmeter_cost.web import run_pages
from crewmeter_cost.web.panel_queries import ask_panel, catalogue, choices, public_catalogue
from crewmeter_cost.web.params import read_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine
    from starlette.requests import Request

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.web.params import PanelParameters

__all__ = ["HEADERS", "page_routes"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer: nothing but our own files runs, nothing leaves, nobody frames us."""

_MOST_SKIP = 9_999_999
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def page_routes(
    ledger: Ledger, suspect: Callable[[LedgerCorruptError], None] | None = None
) -> list[Route]:
    """Return routes that show `ledger`: ``/``, ``/static/…`` and ``/api/…``.

    They hold no state. Close the ledger yourself. `suspect` is called where it looks damaged.
    """
    files = _static_files()

    def static(request: Request) -> Response:
        found = files.get(request.path_params.get("name", "index.html"))
        if found is None:
            return _json({"error": "not found"}, status=404)
        body, media_type = found
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return Response(body, media_type=media_type, headers=headers)

    def boards(_request: Request) -> dict[str, object]:
        own = {
            "budget_usd": monthly_budget(ledger.engine),
            "words": {**COST_STATUS_TEXT, **RUN_STATUS_TEXT, **PROVIDER_TEXT},
            "trace_url": os.environ.get("CREWMETER_TRACE_URL"),
            "zone": zone_name(read_zone()),
            "filter_keys": [*KEYS, "tag:"],
            "content": ContentStore(ledger.url).exists(),
        }
        return {**public_catalogue(), **own}

    def panel(request: Request) -> dict[str, object]:
        return ask_panel(
            ledger.engine,
            request.path_params["panel"],
            _parameters(ledger, request),
        )

    def filter_choices(request: Request) -> dict[str, object]:
        values = choices(
            ledger.engine,
            request.path_params["name"],
            _parameters(ledger, request),
        )
        return {"values": values}

    def run_list(request: Request) -> dict[str, object]:
        query = request.query_params
        skip = query.get("skip", "0")
        wanted = run_pages.RunListRequest(
            where=query.get("where", ""),
            search=query.get("search", ""),
            order=query.get("order", "time"),
            status=query.get("status", ""),
            skip=bounded_integer(skip, name="skip", lowest=0, highest=_MOST_SKIP),
        )
        return run_pages.run_list(ledger, _parameters(ledger, request), wanted)

    def route(path: str, document: Callable[[Request], dict[str, object]]) -> Route:
        return Route(path, _endpoint(ledger, document, suspect))

    return [
        Route("/", static),
        Route("/static/{name:path}", static),
        route("/api/boards", boards),
        route("/api/panels/{panel}", panel),
        route("/api/filters/{name}", filter_choices),
        route("/api/page/runs", run_list),
        *_routes_of_runs(ledger, route),
    ]


def _routes_of_runs(
    ledger: Ledger, route: Callable[[str, Callable[[Request], dict[str, object]]], Route]
) -> list[Route]:
    """Return the routes of one run, of two compared, and of what a step captured."""

    def run(request: Request) -> dict[str, object]:
        return run_pages.run_tree(
            ledger.engine,
            request.path_params["run_id"],
        )

    def comparison(request: Request) -> dict[str, object]:
        query = request.query_params
        return run_pages.run_comparison(ledger, query.get("a"), query.get("b"))

    def content(request: Request) -> dict[str, object]:
        wanted = request.path_params
        return run_pages.content_of_step(ledger, wanted["run_id"], wanted["span_id"])

    return [
        route("/api/page/runs/{run_id}", run),
        route("/api/page/compare", comparison),
        # Not below /api/page: it takes a key with the role `content`.
        route("/api/content/{run_id}/{span_id}", content),
    ]


def _static_files() -> dict[str, tuple[bytes, str]]:
    """Return every file of the page by name, read once. Only these are served."""
    folder = resources.files("crewmeter_cost.web").joinpath("static")
    found = {}
    for entry in folder.iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if entry.is_file() and suffix in _TYPES:
            found[entry.name] = (entry.read_bytes(), _TYPES[suffix])
    return found


def monthly_budget(engine: Engine) -> float:
    """Return the monthly budget for everything that is in force (USD), 0 for none.

    A hard and a soft one may both be: the smaller is what the month is compared with.
    """
    amounts = [
        budget.amount_pusd / PICO
        for budget in in_force(engine)
        if budget.scope == "everything" and budget.period == "month"
    ]
    return min(amounts, default=0.0)


def _parameters(ledger: Ledger, request: Request) -> PanelParameters:
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    return read_parameters(
        query,
        filters=tuple(catalogue()["filters"]),
        now=int(time.time()),
        budget=monthly_budget(ledger.engine),
        zone=read_zone(),
    )


def _endpoint(
    ledger: Ledger,
    document: Callable[[Request], dict[str, object]],
    suspect: Callable[[LedgerCorruptError], None] | None,
) -> Callable[[Request], Response]:
    """Return an endpoint that gives a document as JSON, and errors as 4xx and 503."""

    def endpoint(request: Request) -> Response:
        try:
            with ledger.explained():
                return _json(document(request))
        except LedgerCorruptError as error:
            if suspect is not None:
                suspect(error)
            return _problem(error.message, error.hint, status=503)
        except LedgerUnavailableError as error:
            return _problem(error.message, error.hint, status=503)
        except NotInCatalogueError as error:
            return _problem(error.message, error.hint, status=404)
        except CrewMeterError as error:
            return _problem(error.message, error.hint, status=400)

    return endpoint


def _problem(message: str, hint: str | None, *, status: int) -> Response:
    return _json({"error": message, "hint": hint}, status=status)


def _json(document: object, *, status: int = 200) -> Response:
    body = json.dumps(
        document,
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={**HEADERS, "Cache-Control": "no-store"},
    )
