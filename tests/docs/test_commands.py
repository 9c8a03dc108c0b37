"""Every crewmeter command in the README and the documentation works as it is written."""

from __future__ import annotations

import io
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import typer
from support.paths import ROOT

from crewmeter_cost.cli import build, main
from crewmeter_cost.cli.commands import COMMANDS

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts]
)
STAYS_UP = {"serve", "open", "watch", "mcp", "demo", "run"}
"""Commands that serve, or run a crew: their options are parsed, other tests run them."""
NEEDS_MORE = {"mirror", "gate", "compare", "alerts", "dashboards", "stack", "prices update"}
"""Commands that need a server or write into the project: parsed here, run by tests of their own."""
STANDS_FOR = {"4f1c": "last", "ada": "hiro", "ines": "hiro"}
"""Ids and names of the pages' examples → those of the sample ledger."""
MAY_FAIL = {"audit", "forget", "budget status", "doctor", "prices check", "gate", "show"}
"""Exit code 1 is a finding, not a fault."""


def _commands() -> list[tuple[str, str]]:
    """Return (page, command) of every line that calls crewmeter in a code block."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(
            r"^```(?:console|bash|sh)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            for line in block.splitlines():
                command = re.sub(
                    r"\s{2,}#.*$|\s# .*$|\s> \S+$", "", line.removeprefix("$ ").strip()
                )
                if command.startswith("crewmeter ") and "…" not in command:
                    found.setdefault(command, page.name)
    return [(page, command) for command, page in found.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with what the pages speak of: a ledger, a price file, an invoice."""
    home = tmp_path_factory.mktemp("docs")
    _run(["demo", "--days", "3", "--ledger", "sample.db"], home)
    (home / "invoice.csv").write_text(
        "start_time,model,input_tokens,output_tokens,num_model_requests\n"
        "2026-11-20T00:00:00Z,gpt-4o,1,1,1\n",
        "utf-8",
    )
    return home


def _run(arguments: list[str], home: Path) -> tuple[int, str]:
    """Run a command line in this process, as its script does, and return its code and output."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        patch.setenv("CREWMETER_LEDGER", str(home / "sample.db"))
        patch.setattr(sys, "argv", ["crewmeter", *arguments])
        try:
            main()
        except SystemExit as done:
            return int(done.code or 0), out.getvalue()
    return 0, out.getvalue()


def _parse(arguments: list[str]) -> None:
    """Parse a command line down to its last subcommand, without running it."""
    name, *rest = arguments
    command = typer.main.get_command(build(name)).commands[name]
    while getattr(command, "commands", None):
        child, *rest = rest
        command = command.commands[child]
    if "--help" not in rest:
        command.make_context(name, list(rest))


def test_there_are_commands_to_try():
    """The pages are read at all, and every command of the reference is among them."""
    named = {shlex.split(command)[1] for _, command in _commands()}
    assert set(COMMANDS) <= named


@pytest.mark.mostly_slow("README.md")
@pytest.mark.parametrize(("page", "command"), _commands(), ids=lambda value: value[:60])
def test_a_command_works_as_written(folder, page, command):
    """It parses; and it runs, where it neither stays up nor needs another server."""
    arguments = shlex.split(command)[1:]
    name = " ".join(arguments[:2])
    if "|" in arguments or "&&" in arguments:
        pytest.skip("a line of several programs")
    _parse(arguments)
    if {arguments[0], name} & (STAYS_UP | NEEDS_MORE) or "example.com" in command:
        return
    if "--pdf" in arguments:
        return  # needs the system's Pango; tests/cost/finance runs it where that is
    if arguments[0] == "audit" and not (folder / arguments[1]).is_file():
        return
    arguments = [STANDS_FOR.get(word, word) for word in arguments]
    code, output = _run(arguments, folder)
    allowed = {0, 1} if {arguments[0], name} & MAY_FAIL else {0}
    assert code in allowed, f"{page}: {command}\n{output}"
    assert "Traceback" not in output
