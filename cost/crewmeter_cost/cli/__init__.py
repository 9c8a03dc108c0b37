"""The command line: ``crewmeter COMMAND``. Each command lives in a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMMANDS", "build", "main"]

COMMANDS: Mapping[str, str] = {
    "demo": "Run a real crew against a local stand-in provider: what did it cost, where did the time go.",
    "run": "Run a Python script with the meter on, without changing a line of it.",
    "report": "Calls, tokens, cost and latency by model, crew, agent, team, hour …",
    "runs": "The runs in the ledger, newest first.",
    "show": "One run as a tree, with time, tokens and cost per node.",
    "watch": "Live view: runs in flight, spend, budgets, failures.",
    "compare": "Two runs, windows or versions: what differs, and what explains it.",
    "gate": "Fail where cost, calls or latency rose further than allowed over a baseline.",
    "export": "Every billed call as JSON lines, CSV or FOCUS.",
    "price": "What a usage costs on a model, line by line.",
    "prices": "The price book: show, update, check.",
    "reprice": "Price the history again under today's book, as audited adjustments.",
    "audit": "Compare the ledger with a provider's own invoice export.",
    "budget": "Budgets: set, list, status, remove.",
    "forecast": "Where this month's spend is heading.",
    "whatif": "What the history would have cost under other models or rates.",
    "statement": "A monthly statement per team, ready to print.",
    "serve": "The sidecar: OTLP in, ledger behind, metrics and a page out.",
    "mcp": "An MCP server on stdin and stdout, for editors and assistants.",
    "open": "The boards in a browser, straight from a ledger.",
    "dashboards": "Grafana boards and alert rules: export, check.",
    "alerts": "Send a test alert through Alertmanager, and say who receives it.",
    "stack": "Write the whole stack (compose, collector, boards) for your project.",
    "doctor": "Check versions, wiring, ledger and endpoint; say what to do.",
    "prune": "Delete old detail; roll-ups stay.",
    "forget": "Replace a user's name by a pseudonym; sums stay.",
    "mirror": "Keep a copy of the ledger in ClickHouse, for boards over long histories.",
}
"""Command → its line of help. Module ``crewmeter_cost.cli.<command>_command`` has ``register(app, help)``."""


def _placeholder() -> None:
    """Stands in ``crewmeter --help`` for a command whose module nobody asked to import."""


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"crewmeter {metadata.version('crewmeter')}\n")
        raise typer.Exit


def build(wanted: str | None) -> typer.Typer:
    """The command line with the module of `wanted` imported and every other command as a line of help only."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(
        help="The meter for CrewAI: what every crew, agent, task and tool cost, where the time went, what failed."
    )
    def root(
        _version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the version and exit.",
                is_eager=True,
                callback=_print_version,
            ),
        ] = False,
    ) -> None: ...

    for name, line in COMMANDS.items():
        if name == wanted:
            importlib.import_module(f"crewmeter_cost.cli.{name}").register(app, line)
        else:
            app.command(name, help=line)(_placeholder)
    return app


def main() -> None:
    """Entry point of the ``crewmeter`` script. Exit codes: 0 done, 1 a check failed, 2 wrong usage."""
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a terminal that knows no dash shows a question mark, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        build(wanted)()
    except CrewMeterError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint:  {error.hint}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `crewmeter export | head` is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
