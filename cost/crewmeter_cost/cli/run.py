"""``crewmeter run SCRIPT [ARGS…]``.

A Python program with the meter on, and otherwise as ``python`` would run it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from crewmeter_cost.cli.options import LedgerOption

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add ``run`` to `app`. Everything after SCRIPT belongs to the script."""

    @app.command(
        "run",
        help=help,
        context_settings={"allow_interspersed_args": False},
    )
    def run(
        target: Annotated[
            str,
            typer.Argument(
                metavar="SCRIPT",
                help="A Python file; with -m, a module.",
            ),
        ],
        arguments: Annotated[
            list[str] | None,
            typer.Argument(metavar="[ARGS]...", help="The script's own arguments."),
        ] = None,
        module: Annotated[
            bool, typer.Option("-m", help="SCRIPT is a module, as in python -m.")
        ] = False,
        ledger: LedgerOption = None,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="No summary at the end.")
        ] = False,
    ) -> None:
        from crewmeter_cost.script_runner import launch

        launch(
            target,
            arguments or [],
            module=module,
            ledger=ledger,
            summary=not quiet,
        )
