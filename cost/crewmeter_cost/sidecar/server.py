"""One sidecar from start to stop: ledger, writer, HTTP and gRPC, in the order that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.catalogue.freshness import priced_until
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.sidecar.api import health_routes, ledger_routes
from crewmeter_cost.sidecar.authorization import AuthorizationMiddleware, patient_protocol
from crewmeter_cost.sidecar.budgets_api import budget_routes
from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
from crewmeter_cost.sidecar.openapi import description_route, http_error
from crewmeter_cost.sidecar.otlp_http import otlp_routes
from crewmeter_cost.sidecar.receive import Receiver
from crewmeter_cost.sidecar.settings import checked
from crewmeter_cost.sidecar.tenant_ledgers import SidecarLedgers
from crewmeter_cost.sidecar.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.sidecar.settings import SidecarSettings

__all__ = ["Sidecar", "serve"]

log = logging.getLogger("crewmeter.sidecar")

_GC_THRESHOLDS = (200_000, 20, 100)
"""Spans, calls and rows hold no cycles, yet Python's collector walks them over and over: a fifth of the processor time at its defaults."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: it would end the process by the signal before the writer has drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Sidecar.run`."""
        yield


class Sidecar:
    """The parts of one sidecar, wired. `clock` gives ns since 1970; nothing breaks where it jumps."""

    def __init__(
        self, settings: SidecarSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        limits = settings.limits
        self._settings = settings
        self._clock = clock
        self._store = SidecarLedgers(settings.ledger)
        self._pipeline = Pipeline(self._store.ledger, PriceBook.load())
        self.metrics = SidecarMetrics(
            queue_capacity=limits.queued_spans,
            queued=lambda: self._writer.queued,
            ledger_size=self._store.size,
            clock=clock,
        )
        self._writer = Writer(
            self._pipeline,
            self.metrics,
            capacity=limits.queued_spans,
            group=limits.group_spans,
            reopened=self._store.reopen,
            clock=clock,
        )
        self._receiver = Receiver(self._pipeline, self._writer, self.metrics, limits, clock=clock)
        self._date_prices()
        self._stopping = False

    def app(self) -> ASGIApp:
        """The HTTP side behind its door."""
        routes = [
            *otlp_routes(self._receiver, self.metrics),
            *health_routes(self.metrics, self._not_ready),
            description_route(),
            *budget_routes(self._store, self.metrics),
            *ledger_routes(self._store.reading, self._writer.suspect),
            *_page(self._store.reading),
        ]
        return AuthorizationMiddleware(
            Starlette(routes=routes, exception_handlers={HTTPException: http_error}),
            self._settings,
            self.metrics,
        )

    async def run(self) -> None:
        """Serve until told to stop (SIGTERM, SIGINT), then drain: no new requests, those under way answered, the queue written."""
        settings, limits = self._settings, self._settings.limits
        listener = _listener(settings)
        server = _Server(
            uvicorn.Config(
                self.app(),
                http=patient_protocol(limits.header_seconds),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                limit_concurrency=limits.connections,
                h11_max_incomplete_event_size=65_536,
                timeout_graceful_shutdown=int(limits.drain_seconds),
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.private_key,
            )
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, server)
        loop.add_signal_handler(signal.SIGHUP, self._reload_prices)
        self._writer.start()
        grpc_server = None
        try:
            address = f"{'https' if settings.certificate else 'http'}://{_shown(settings.host)}:{listener.getsockname()[1]}"
            announced = f"crewmeter serve: ready, OTLP/HTTP {address}"
            if settings.grpc_port is not None:
                from crewmeter_cost.sidecar.otlp_grpc import start_grpc

                grpc_server, port = await start_grpc(settings, self._receiver, self.metrics)
                announced += f", OTLP/gRPC {_shown(settings.host)}:{port}"
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            sys.stdout.write(f"{announced}, ledger {self._store.ledger.name}\n")
            sys.stdout.flush()
            await serving
        finally:
            self._stopping = True
            if grpc_server is not None:
                await grpc_server.stop(limits.drain_seconds)
            self._receiver.close()
            await loop.run_in_executor(None, self._writer.stop)
            self._store.close()
            log.info("stopped; everything acknowledged is in the ledger")

    def _stop(self, server: uvicorn.Server) -> None:
        self._stopping = True
        server.should_exit = True

    def _reload_prices(self) -> None:
        """SIGHUP: price from now on by the book as it is now (after `crewmeter prices update`, or an edit of the overrides)."""
        try:
            self._pipeline.exchange_book(PriceBook.load())
        except CrewMeterError as error:
            log.error("the old prices stay in use: %s", error.message)
            return
        self._date_prices()
        log.info("prices reloaded")

    def _date_prices(self) -> None:
        now = datetime.fromtimestamp(self._clock() / 1e9, UTC)
        self.metrics.price_book_dated(priced_until(now).timestamp())

    def _not_ready(self) -> str | None:
        if self._stopping:
            return "stopping"
        if self._writer.failure is not None:
            return self._writer.failure
        if self._writer.queued >= self._settings.limits.queued_spans:
            return "the writer is behind"
        return None


def serve(settings: SidecarSettings, *, clock: Callable[[], int] = time.time_ns) -> None:
    """Run a sidecar until it is told to stop. Raises `CrewMeterError` where it cannot start."""
    sidecar = Sidecar(checked(settings), clock=clock)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    asyncio.run(sidecar.run())


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listener(settings: SidecarSettings) -> socket.socket:
    """The HTTP socket, bound here so that a taken port is a plain error and port 0 is known."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.http_port))
    except OSError as error:
        listener.close()
        where = f"{_shown(settings.host)}:{settings.http_port}"
        hint = "is another collector running? choose another --http-port"
        raise CrewMeterError(f"cannot listen on {where}: {error.strerror}", hint=hint) from error
    return listener


def _page(ledger: Ledger) -> list[Route]:
    """The boards' page where it is installed, else a plain answer that names what there is."""
    try:
        from crewmeter_cost.web import page_routes
    except ImportError:

        async def contents(_request: Request) -> JSONResponse:
            return JSONResponse(
                {
                    "crewmeter": [
                        "/v1/traces",
                        "/metrics",
                        "/healthz",
                        "/readyz",
                        "/api/report",
                        "/api/runs",
                    ]
                }
            )

        return [Route("/", contents)]
    return page_routes(ledger)
