"""One sidecar from start to stop, in the order that loses nothing."""

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
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from crewmeter_cost.errors import CrewMeterError, LedgerCorruptError
from crewmeter_cost.integrations.mcp_endpoint import McpEndpoint
from crewmeter_cost.ledger.content.content_store import content_sink
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.maintenance.retention import Retention
from crewmeter_cost.ledger.recovery import JournalRecovery
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.catalogue.freshness import priced_until
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.sidecar.api import health_routes, ledger_routes
from crewmeter_cost.sidecar.authorization import AuthorizationMiddleware
from crewmeter_cost.sidecar.budgets_api import BudgetGauges, budget_routes
from crewmeter_cost.sidecar.http_protocol import limited_protocol
from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
from crewmeter_cost.sidecar.openapi import description_route, http_error
from crewmeter_cost.sidecar.otlp_http import otlp_routes
from crewmeter_cost.sidecar.receive import Receiver
from crewmeter_cost.sidecar.settings import checked
from crewmeter_cost.sidecar.tenant_ledgers import SidecarLedgers
from crewmeter_cost.sidecar.writer import Writer
from crewmeter_cost.web import page_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from crewmeter_cost.sidecar.background import SupervisedThread
    from crewmeter_cost.sidecar.settings import SidecarSettings

__all__ = ["Sidecar", "serve"]

log = logging.getLogger("crewmeter.sidecar")

_GC_THRESHOLDS = (200_000, 20, 100)
"""Spans, calls and rows hold no cycles, yet Python's collector walks them over and over.

At its defaults that takes a fifth of the processor time.
"""
RETENTION_SECONDS = 60.0
"""How often it is looked whether old detail must be deleted."""
VERIFY_SECONDS = 3600.0
"""How often the ledger's bytes are checked."""
JOURNAL_SECONDS = 5.0
"""How often it is looked whether an ended app left a journal."""
_WATCH_SECONDS = 0.5
"""How often threads are looked after."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handling.

    It would end the process by the signal before the writer has drained.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Sidecar.run`."""
        yield


class Sidecar:
    """The parts of one sidecar, wired.

    `clock` gives ns since 1970. Nothing breaks where it jumps.
    """

    def __init__(
        self, settings: SidecarSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        limits = settings.limits
        self._settings = settings
        self._clock = clock
        self._ledgers = SidecarLedgers(settings.ledger)
        self._pipeline = Pipeline(
            self._ledgers.ledger,
            PriceBook.load(),
            content=content_sink(self._ledgers.ledger.url),
        )
        self.metrics = SidecarMetrics(
            queue_capacity=limits.queued_spans,
            queued=lambda: self._writer.queued,
            ledger_size=self._ledgers.size,
            clock=clock,
        )
        self._writer = Writer(
            self._pipeline,
            self.metrics,
            self._ledgers,
            capacity=limits.queued_spans,
            group=limits.group_spans,
            clock=clock,
        )
        self._receiver = Receiver(
            self._pipeline,
            self._writer,
            self.metrics,
            limits,
            clock=clock,
        )
        self._retention = Retention()
        self._journals = JournalRecovery(
            sqlite_path(ledger_url(settings.ledger)),
            lambda spans: self._writer.write(self._pipeline.price(spans)),
        )
        self._gauges = BudgetGauges(self._ledgers, self.metrics)
        self._mcp = McpEndpoint(self._ledgers.reading)
        self._date_prices()
        self._stopping = False

    def app(self) -> ASGIApp:
        """Return the HTTP side, with authorization in front."""
        routes = [
            *otlp_routes(self._receiver, self.metrics),
            *health_routes(self.metrics, self._not_ready, self._remarks),
            description_route(),
            *budget_routes(self._ledgers),
            *ledger_routes(self._ledgers.reading, self._writer.suspect),
            *page_routes(self._ledgers.reading, self._writer.suspect),
            self._mcp.route(),
        ]
        return AuthorizationMiddleware(
            Starlette(
                routes=routes,
                exception_handlers={HTTPException: http_error},
            ),
            self._settings,
            self.metrics,
        )

    async def run(self) -> None:
        """Serve until stopped by a signal (SIGTERM, SIGINT), then drain.

        No new requests are taken, those under way are answered, the queue is written.
        """
        limits = self._settings.limits
        listener = _listener(self._settings)
        server = _Server(self._http_config())
        loop = asyncio.get_running_loop()
        _on_signal(loop, "SIGTERM", lambda: self._stop(server))
        _on_signal(loop, "SIGINT", lambda: self._stop(server))
        _on_signal(loop, "SIGHUP", self._reload_prices)
        self._writer.start()
        self._gauges.start()
        chores = [
            asyncio.create_task(self._watch_threads()),
            asyncio.create_task(self._watch_ledger()),
            asyncio.create_task(self._retain()),
            asyncio.create_task(self._recover_journals()),
        ]
        grpc_server: Any = None
        try:
            announced = f"OTLP/HTTP {_url(self._settings, listener)}"
            if self._settings.grpc_port is not None:
                from crewmeter_cost.sidecar.otlp_grpc import start_grpc

                grpc_server, port = await start_grpc(
                    self._settings,
                    self._receiver,
                    self.metrics,
                )
                announced += f", OTLP/gRPC {_bracketed(self._settings.host)}:{port}"
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            name = self._ledgers.ledger.name
            sys.stdout.write(f"crewmeter serve: ready, {announced}, ledger {name}\n")
            sys.stdout.flush()
            async with self._mcp.running():
                await serving
        finally:
            self._stopping = True
            for chore in chores:
                chore.cancel()
            if grpc_server is not None:
                await grpc_server.stop(limits.drain_seconds)
            self._receiver.close()
            self._gauges.stop()
            problem = await loop.run_in_executor(None, self._writer.stop)
            self._say_how_it_ended(problem)
            self._ledgers.close()

    def _http_config(self) -> uvicorn.Config:
        settings = self._settings
        limits = settings.limits
        return uvicorn.Config(
            self.app(),
            http=limited_protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            h11_max_incomplete_event_size=65_536,
            timeout_graceful_shutdown=int(limits.drain_seconds),
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.private_key,
        )

    def _say_how_it_ended(self, problem: str | None) -> None:
        """Log where the acknowledged spans are: only what was looked at."""
        if problem is None and self._writer.failure is None:
            log.info(
                "stopped; every acknowledged batch was committed, and the ledger %s is at its "
                "location",
                self._ledgers.ledger.name,
            )
            return
        log.critical(
            "stopped; %s: batches acknowledged before may not be in %s",
            problem or self._writer.failure,
            self._ledgers.ledger.name,
        )

    def _stop(self, server: uvicorn.Server) -> None:
        self._stopping = True
        server.should_exit = True

    def _reload_prices(self) -> None:
        """Read the price book again (SIGHUP).

        People send it after `crewmeter prices update`, or an edit of the overrides.
        """
        try:
            self._pipeline.exchange_book(PriceBook.load())
        except CrewMeterError as error:
            log.error("the old prices stay in use: %s", error.message)
            return
        self._date_prices()
        log.info("prices reloaded")

    def _date_prices(self) -> None:
        now = datetime.fromtimestamp(
            self._clock() / 1e9,
            UTC,
        )
        self.metrics.price_book_dated(priced_until(now).timestamp())

    def _threads(self) -> tuple[SupervisedThread, ...]:
        return self._writer.thread, self._receiver.reader.thread, self._gauges.thread

    async def _watch_ledger(self) -> None:
        """Check the ledger's bytes every hour, and have a damaged one set aside."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            try:
                await loop.run_in_executor(None, self._ledgers.reading.verify)
            except LedgerCorruptError as error:
                self._writer.suspect(error)

    async def _retain(self) -> None:
        """Delete detail that is older than `CREWMETER_KEEP`, a little at a time."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(
                    None,
                    self._retention.run,
                    self._ledgers.ledger,
                )
            except CrewMeterError as error:
                log.warning("old detail could not be deleted: %s", error.message)
            await asyncio.sleep(RETENTION_SECONDS)

    async def _recover_journals(self) -> None:
        """Write what apps that have ended left beside the ledger."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, self._journals.run)
            await asyncio.sleep(JOURNAL_SECONDS)

    async def _watch_threads(self) -> None:
        """Start threads anew that were killed from outside their own code."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for thread in self._threads():
                thread.start()

    def _not_ready(self) -> str | None:
        if self._stopping:
            return "stopping"
        for thread in self._threads():
            if thread.problem is not None:
                return thread.problem
        if self._writer.failure is not None:
            return self._writer.failure
        if self._writer.queued >= self._settings.limits.queued_spans:
            return "the writer is behind"
        return None

    def _remarks(self) -> list[str]:
        """Return what ``/readyz`` says beside "ready": restarted threads."""
        return [
            f"the thread {thread.name} died and was restarted {thread.restarts} times"
            for thread in self._threads()
            if thread.restarts
        ]


def serve(settings: SidecarSettings, *, clock: Callable[[], int] = time.time_ns) -> None:
    """Run a sidecar until it is stopped.

    Raises `CrewMeterError` where it cannot start.
    """
    sidecar = Sidecar(checked(settings), clock=clock)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    asyncio.run(sidecar.run())


def _on_signal(loop: asyncio.AbstractEventLoop, name: str, act: Callable[[], None]) -> None:
    """Call `act` on the event loop when a signal comes.

    Not every system has every signal (Windows has no SIGHUP), and not every event loop has
    `add_signal_handler`.
    """
    number = getattr(signal, name, None)
    if number is None:
        return
    try:
        loop.add_signal_handler(number, act)
    except (NotImplementedError, AttributeError, RuntimeError):
        with contextlib.suppress(ValueError):  # outside the main thread there are no signals
            signal.signal(
                number,
                lambda *_: loop.call_soon_threadsafe(act),
            )


def _bracketed(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    return host


def _url(settings: SidecarSettings, listener: socket.socket) -> str:
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://{_bracketed(settings.host)}:{listener.getsockname()[1]}"


def _listener(settings: SidecarSettings) -> socket.socket:
    """Return the HTTP socket, bound here so that a taken port is a plain error."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on every connection. Without it, a response
    # of two segments waits 40 ms for the client's delayed acknowledgement (Nagle's algorithm).
    listener = socket.socket(
        family,
        socket.SOCK_STREAM,
        socket.IPPROTO_TCP,
    )
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform != "win32":  # there the option lets two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.http_port))
    except OSError as error:
        listener.close()
        where = f"{_bracketed(settings.host)}:{settings.http_port}"
        hint = "is another collector running? choose another --http-port"
        reason = error.strerror or type(error).__name__
        raise CrewMeterError(f"cannot listen on {where}: {reason}", hint=hint) from error
    return listener
