"""The command line ``crewmeter COMMAND``.

One module a command, imported when it is called.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.commands import COMMANDS
from crewmeter_cost.cli.plain_help import PlainCommand, PlainGroup
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from crewmeter_cost.cli.commands import Command

__all__ = ["COMMANDS", "build", "main"]

_ABOUT = (
    "The meter for CrewAI: what every crew, agent, task and tool cost, where the time went, and "
    "what failed."
)
_START = ("crewmeter demo", "crewmeter run my_crew.py", "crewmeter report --by crew --since 7d")


def _placeholder() -> None:
    """Hold a command's line in ``crewmeter --help`` without importing its module."""


def _print_version(requested: bool) -> None:
    if requested:
        from importlib import metadata  # reading installed packages' data takes a while to import

        sys.stdout.write(f"crewmeter {metadata.version('crewmeter')}\n")
        raise typer.Exit


def build(wanted: str | None) -> typer.Typer:
    """Return the command line.

    Only the module of the command `wanted` is imported.
    """
    app = typer.Typer(
        cls=PlainGroup,
        no_args_is_help=True,
        # The shell's own completion scripts; `--install-completion` and `--show-completion`.
        add_completion=True,
        pretty_exceptions_enable=False,
        epilog=_examples(_START),
    )

    @app.callback(help=_ABOUT)
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

    for name, command in COMMANDS.items():
        if name == wanted:
            importlib.import_module(f"crewmeter_cost.cli.{name}").register(app, command.help)
        else:
            app.command(name, help=command.help)(_placeholder)
        _describe(app, name, command)
    return app


def _describe(app: typer.Typer, name: str, command: Command) -> None:
    """Put a command in its group, with its examples, and its help in words."""
    epilog = _examples(command.examples)
    for group in app.registered_groups:
        if group.name == name and group.typer_instance is not None:
            group.cls = PlainGroup
            group.rich_help_panel = command.group
            group.epilog = epilog
            for each in group.typer_instance.registered_commands:
                each.cls = PlainCommand
    for registered in app.registered_commands:
        if registered.name == name:
            registered.cls = PlainCommand
            registered.rich_help_panel = command.group
            registered.epilog = epilog


def _examples(lines: tuple[str, ...]) -> str:
    """Return examples as a help page ends with them.

    Each one is a paragraph to Typer.
    """
    return "\n\n".join(("Examples:", *(f"  $ {line}" for line in lines)))


def _command_in(words: list[str]) -> str | None:
    """Return the command among the words of a command line."""
    return next(
        (word for word in words if not word.startswith("-")),
        None,
    )


def _wanted() -> str | None:
    """Return the command that is run, or that a shell asks completions for."""
    if "_CREWMETER_COMPLETE" in os.environ:
        typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
        return _command_in(typed.split()[1:])
    return _command_in(sys.argv[1:])


def main() -> None:
    """Run the ``crewmeter`` script: exit 0 done, 1 a check failed, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no dash shows a question mark, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        build(_wanted())()
    except CrewMeterError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint:  {error.hint}\n")
        sys.exit(error.exit_code)
    except UnicodeEncodeError as error:
        # An argument in another encoding; those that reach the ledger's readers are refused there.
        sys.stderr.write(f"error: {error.object!r} is not text in UTF-8\n")
        sys.exit(2)
    except BrokenPipeError:
        # `crewmeter export | head` is no failure.
        os.dup2(
            os.open(os.devnull, os.O_WRONLY),
            sys.stdout.fileno(),
        )
        sys.exit(0)
