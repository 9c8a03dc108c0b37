"""``crewmeter open``: the boards in a browser, straight from a ledger."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import webbrowser
from typing import Annotated, Any

import typer

from crewmeter_cost.cli.options import LedgerOption
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]

_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
"""Names the page answers to.

A site that points its own name at 127.0.0.1 (DNS rebinding) gets nothing.
"""


def register(app: typer.Typer, help: str) -> None:
    """Add the command ``open``."""
    app.command("open", help=help)(open_page)


def open_page(
    ledger: LedgerOption = None,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="Port on loopback; 0 takes a free one.",
        ),
    ] = 0,
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open a browser, or only print the address."),
    ] = True,
) -> None:
    """Serve the page on loopback until Ctrl-C. The ledger is opened read-only."""
    server_module = _server_module()
    with Ledger.open(ledger, read_only=True) as opened:
        listener = _listen(port)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        config = server_module.Config(
            _application(opened),
            log_level="warning",
            access_log=False,
        )
        sys.stdout.write(f"crewmeter shows {opened.name} at {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if browser:
            threading.Timer(
                0.3,
                webbrowser.open,
                (address,),
            ).start()
        server_module.Server(config).run(sockets=[listener])


def _server_module() -> Any:
    try:
        importlib.import_module("starlette")
        return importlib.import_module("uvicorn")
    except ModuleNotFoundError as error:
        raise CrewMeterError(
            f"the page needs {error.name}", hint=install_command("sidecar")
        ) from error


def _listen(port: int) -> socket.socket:
    listener = socket.socket(
        socket.AF_INET,
        socket.SOCK_STREAM,
        socket.IPPROTO_TCP,
    )
    # Named, the protocol makes asyncio set TCP_NODELAY: no 40 ms for each keep-alive response.
    if os.name == "posix":  # elsewhere this option lets two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise CrewMeterError(
            f"port {port} is taken: {error.strerror}", hint="leave --port out to take a free one"
        ) from error
    return listener


def _application(ledger: Ledger) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from crewmeter_cost.web import page_routes

    return Starlette(
        routes=page_routes(ledger),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
    )
