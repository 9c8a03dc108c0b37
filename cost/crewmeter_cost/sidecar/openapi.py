"""The HTTP interface described for programs, and errors as it says them.

``openapi.yaml`` is served as JSON at ``/api/openapi.json``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.ledger.schema.report_columns import COLUMN_NAMES, COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from crewmeter_cost.ledger.schema.report_columns import ReportColumn, Unit

__all__ = ["description", "description_route", "http_error"]

_SCHEMAS: Mapping[Unit, Mapping[str, object]] = {
    "calls": {"$ref": "#/components/schemas/Count"},
    "tokens": {"$ref": "#/components/schemas/Count"},
    "usd": {"$ref": "#/components/schemas/Money"},
    "seconds": {"$ref": "#/components/schemas/Seconds"},
    "ratio": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
}
_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


@cache
def description() -> bytes:
    """Return the OpenAPI 3.1 document, as JSON."""
    import yaml

    text = resources.files(__package__).joinpath("openapi.yaml").read_text("utf-8")
    document = yaml.safe_load(text)
    amounts = document["components"]["schemas"]["Amounts"]
    amounts["required"] = list(COLUMN_NAMES)
    amounts["properties"] = {column.name: _schema_of(column) for column in COLUMNS}
    return json.dumps(document).encode()


def _schema_of(column: ReportColumn) -> dict[str, object]:
    """Return the schema of a report's column."""
    return {**_SCHEMAS[column.unit], "description": column.description}


def description_route() -> Route:
    """Return ``/api/openapi.json``."""

    def document(_request: Request) -> Response:
        return Response(
            description(),
            media_type="application/json",
            headers=_HEADERS,
        )

    return Route("/api/openapi.json", document)


async def http_error(_request: Request, error: Exception) -> Response:
    """Answer a path or method that does not exist, in the shape of all errors."""
    if not isinstance(error, HTTPException):
        raise error
    hint = "GET /api/openapi.json describes what there is"
    return Response(
        json.dumps({"error": error.detail.lower(), "hint": hint}),
        status_code=error.status_code,
        media_type="application/json",
        headers={**_HEADERS, **(error.headers or {})},
    )
