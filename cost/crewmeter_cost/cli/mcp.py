"""``crewmeter mcp``.

An MCP server on stdin and stdout, for editors and assistants.
"""

from __future__ import annotations

import typer

from crewmeter_cost.cli.options import LedgerOption
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("mcp", help=help)(_mcp)


def _mcp(ledger: LedgerOption = None) -> None:
    try:
        from crewmeter_cost.integrations.mcp_tools import build_server
    except ModuleNotFoundError as error:
        raise CrewMeterError(
            f"crewmeter mcp needs the package {error.name!r}", hint=install_command("mcp")
        ) from error
    with Ledger.open(ledger, read_only=True) as opened:
        build_server(opened).run("stdio")
