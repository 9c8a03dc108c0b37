"""``/mcp``: the MCP server of `crewmeter mcp` over streamable HTTP.

Each request stands alone, so any number of sidecars behind one address can answer it. Host, Origin
and the read key are checked by `authorization`, as on every route.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from crewmeter_cost.installation import install_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["McpEndpoint"]

_MAX_BODY_BYTES = 1024 * 1024


class McpEndpoint:
    """The route ``/mcp``, and what must run while it is served.

    Without the package ``mcp``, or with one too old, it answers 501 and says what to install.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._app: ASGIApp = _not_installed
        self._manager: Any = None
        try:
            from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

            from crewmeter_cost.integrations.mcp_tools import build_server

            self._manager = StreamableHTTPSessionManager(
                build_server(ledger)._mcp_server,
                json_response=True,
                stateless=True,
                max_request_body_size=_MAX_BODY_BYTES,
            )
        except (ImportError, TypeError):
            # A TypeError is from a version before 1.30, which has no limit of the body's size.
            return
        self._app = self._manager.handle_request

    def route(self) -> Route:
        """Return the route."""
        # Starlette takes an instance for an ASGI app, and a function for an endpoint.
        # A GET would open a stream that carries nothing and holds up the end of the process.
        return Route("/mcp", endpoint=self, methods=["POST"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests until the context ends."""
        if self._manager is None:
            yield
            return
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)


async def _not_installed(scope: Scope, receive: Receive, send: Send) -> None:
    problem = {
        "error": "this sidecar has no MCP server: the package mcp is missing or too old",
        "hint": install_command("mcp"),
    }
    await JSONResponse(problem, status_code=501)(scope, receive, send)
