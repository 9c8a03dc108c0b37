"""The OpenAPI document is true.

It names every route, and whatever a client makes of it, the sidecar answers as it says.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, Phase, settings
from starlette.routing import Route
from support.sidecars import request

from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.sidecar.api import health_routes, ledger_routes
from crewmeter_cost.sidecar.openapi import description, description_route
from crewmeter_cost.sidecar.otlp_http import otlp_routes
from crewmeter_cost.web import page_routes

DOCUMENT = json.loads(description())
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
EXAMPLES = 40
"""Requests made up per operation; with fifteen operations about twenty seconds."""
UNREAD = {"/v1/metrics", "/v1/logs"}
NOT_OF_THE_API = {"/", "/static/{name:path}"}
"""The page's own files."""
ELSEWHERE = {("post", "/api/budgets/lease"), ("post", "/api/budgets/settle")}
"""Routes made only by a running sidecar; that they are there shows in their answers."""


def test_every_route_is_described(tmp_path):
    """A route without a description, or a description without its route, is a lie either way."""
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        routes: list[Route] = [
            *otlp_routes(None, None),
            *health_routes(None, lambda: None),
            *ledger_routes(ledger, lambda _: None),
            *page_routes(ledger),
            description_route(),
        ]
    served = {
        (method.lower(), route.path)
        for route in routes
        for method in route.methods - {"HEAD"}
        if route.path not in NOT_OF_THE_API
    }
    assert served | ELSEWHERE == set(OPERATIONS)


@pytest.mark.slow
def test_the_document_is_openapi(sidecar):
    """It is served as it is committed, and OpenAPI's own schema finds nothing wrong with it."""
    assert sidecar.get("/api/openapi.json").json() == DOCUMENT
    pytest.importorskip(
        "schemathesis", reason="needs the PyPI package schemathesis"
    ).openapi.from_dict(DOCUMENT).validate()
    identifiers = [
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(identifiers)) == len(OPERATIONS)


def test_what_is_not_there_is_said_in_the_same_shape(sidecar):
    """Wrong paths and methods get the errors every other wrong question gets."""
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/runs", 405),
        ("GET", "/v1/traces", 405),
    ):
        reply = sidecar.ask(method, path)
        assert (reply.status, set(reply.json())) == (status, {"error", "hint"})
    assert "GET" in sidecar.ask("DELETE", "/api/runs").headers["allow"]


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    """A sidecar with a run of two calls in its ledger, one of them unpriced."""
    with nursery.start(tmp_path_factory.mktemp("openapi") / "ledger.db") as running:
        ids = {
            "crewmeter.run.id": f"{1:016x}",
            "crewmeter.crew.name": "news",
            "crewmeter.run.name": "news",
            "crewmeter.run.kind": "crew",
        }
        running.post(request(1, **ids))
        running.post(request(1, **ids, **{"gen_ai.request.model": "no-such-model"}))
        root = {"crewmeter.kind": "crew", "gen_ai.operation.name": "invoke_workflow"}
        running.post(request(spans=[(b"\1" * 16, (1).to_bytes(8, "big"))], **ids, **root))
        yield running


@pytest.fixture(scope="module")
def schema(filled):
    """The document as schemathesis reads it off the running sidecar."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs the PyPI package schemathesis")
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{filled.port}/api/openapi.json")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.slow
def test_the_answers_are_as_described(schema, filled, method, path):
    """Requests made up from the document, right ones and wrong ones.

    No 5xx, and only statuses, types and shapes it names.
    """
    from hypothesis import given
    from schemathesis import GenerationMode, checks

    # What a time or an empty range is cannot be said in a schema, so a right-looking question may
    # be refused; and the bodies of signals that are not stored are not read, so wrong ones are
    # taken.
    excluded = [
        checks.positive_data_acceptance,
        *[checks.negative_data_rejection] * (path in UNREAD),
    ]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answered(case) -> None:
        case.call_and_validate(timeout=120, excluded_checks=excluded)

    operation = schema[path][method]
    described = DOCUMENT["paths"][path][method]
    modes = [
        GenerationMode.POSITIVE,
        *[GenerationMode.NEGATIVE] * ("parameters" in described or "requestBody" in described),
    ]
    for mode in modes:
        given(operation.as_strategy(generation_mode=mode))(answered)()
    assert filled.get("/healthz").status == 200
