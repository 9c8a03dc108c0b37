"""Run Python programs in forks of a process that has imported what takes long.

A CrewAI app spends seconds of processor time on imports, most of them on other people's packages.
Here they are imported once. Nothing of crewmeter, CrewAI or OpenTelemetry is imported before the
fork, so that an app sets them up itself, in its own environment.

Orders come on stdin, a JSON object a line. Answers go to stdout: process id, then exit code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import types

SLOW_IMPORTS = [
    "aiofiles",
    "cryptography",
    "grpc",
    "httpx",
    "jinja2",
    "json_repair",
    "jsonschema",
    "jwt",
    "numpy",
    "openai",
    "openai.resources",
    "openai.types",
    "portalocker",
    "psutil",
    "pydantic",
    "pydantic_settings",
    "requests",
    "rich.console",
    "sqlalchemy",
    "sqlmodel",
    "tenacity",
    "typer",
    "yaml",
]
NEVER_BEFORE_FORK = ("crewai", "crewmeter", "crewmeter_cost", "opentelemetry")


def import_slow_packages() -> None:
    """Import what apps import; what is not installed here is left out."""
    for name in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    early = [name for name in NEVER_BEFORE_FORK if name in sys.modules]
    assert not early, f"{early} must be imported by the app itself"


def run_program(order: dict) -> None:
    """Become the program of an order; its end is the end of this process."""
    for target, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["stdout"], os.O_WRONLY),
        (2, order["stderr"], os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, target)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["env"])
    if order["cwd"]:
        os.chdir(order["cwd"])
    program, *arguments = order["argv"]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if program == "-c":
        source, *arguments = arguments
        name, sys.path[0] = "<string>", ""
    else:
        main.__file__ = name = program
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        with open(program, encoding="utf-8") as file:
            source = file.read()
    sys.argv = [program, *arguments]
    exec(compile(source, name, "exec"), main.__dict__)


def serve() -> dict | None:
    """Fork a process for each order; return the order in the fork, and None at the end."""
    answers = os.fdopen(os.dup(1), "w")
    orders = os.fdopen(os.dup(0))
    for line in orders:
        pid = os.fork()
        if pid == 0:
            os.close(answers.fileno())
            os.close(orders.fileno())
            return json.loads(line)
        print(pid, file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    return None


if __name__ == "__main__":
    import_slow_packages()
    gc.freeze()
    if received := serve():
        run_program(received)
