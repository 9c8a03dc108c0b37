"""``crewmeter run``: a program behaves as under ``python``, and its bill is there at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from support.apps_python import has
from support.environment import quiet_environment
from support.play_apps import APPS
from support.rows import call_rows

CLI = [sys.executable, "-c", "from crewmeter_cost.cli import main; main()"]
"""The ``crewmeter`` script, wherever it is installed."""


@pytest.fixture
def run(tmp_path):
    """Run ``crewmeter run …`` (or, with `plain`, ``python …``) in `tmp_path`, which has the
    programs under test.
    """

    def go(*words, plain=False, cwd=tmp_path, **env):
        command = [sys.executable] if plain else [*CLI, "run"]
        environment = (
            os.environ
            | quiet_environment(tmp_path)
            | {"CREWMETER_LEDGER": str(tmp_path / "ledger.db"), **env}
        )
        return subprocess.run(
            [*command, *words],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return go


@pytest.fixture
def program(tmp_path):
    """Write a program into `tmp_path`; returns its path."""

    def write(source, name="app.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return str(path)

    return write


SELF = """
import sys, json
is_main = sys.modules["__main__"].__dict__ is globals()
print(json.dumps([__name__, __file__, sys.argv, sys.path[0], is_main, __spec__ is None]))
"""


def test_the_program_sees_what_python_would_show_it(run, program):
    """``__name__``, ``__file__``, ``sys.argv``, ``sys.path[0]`` and ``__main__`` are python's.

    Options after SCRIPT are the script's.
    """
    words = [program(SELF), "--ledger", "mine", "-m", "--help"]
    assert json.loads(run(*words).stdout) == json.loads(run(*words, plain=True).stdout)


def test_a_module_runs_as_with_python_m(run, program):
    """``-m package`` runs the package's ``__main__`` with the current folder on the path."""
    program("", "pkg/__init__.py")
    program(
        "import sys; from . import __name__ as p; print(__name__, p, __spec__.name, sys.argv[1:])",
        "pkg/__main__.py",
    )
    words = ["-m", "pkg", "-x", "y"]
    assert (
        run(*words).stdout
        == run(*words, plain=True).stdout
        == "__main__ pkg pkg.__main__ ['-x', 'y']\n"
    )


def test_a_relative_script_in_another_folder_imports_its_neighbours(run, program, tmp_path):
    """The script's folder leads the path, not the current one."""
    program("import neighbour", "sub/app.py")
    program("print('found')", "sub/neighbour.py")
    assert run("sub/app.py").stdout == "found\n"


@pytest.mark.mostly_slow("raise SystemExit(7)", "1/0")
@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import sys; sys.exit()", 0),
        ("raise SystemExit('a last word')", 1),
        ("1/0", 1),
        ("def x(:", 1),
    ],
)
def test_exit_code_and_traceback_are_pythons(run, program, source, code):
    """Exit codes are python's, and a traceback shows the program's frames only, to the letter."""
    path = program(source)
    metered, pythons = run("-q", path), run(path, plain=True)
    assert (metered.returncode, pythons.returncode) == (code, code)
    assert metered.stderr == pythons.stderr


def test_an_interrupted_program_says_so(run, program):
    """Ctrl-C ends the program with its traceback and the code a shell gives it."""
    # A job in the background is started deaf to it.
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = run(
        program(
            f"import os, signal, time; {heard}; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"
        )
    )
    assert done.returncode == 128 + signal.SIGINT
    assert "\nKeyboardInterrupt\n" in done.stderr


@pytest.mark.slow
def test_threads_may_outlive_the_main_program(run, program):
    """Globals live on for threads that python waits for, and the summary comes after them."""
    source = (
        "import threading, time\nword = 'still here'\nthreading.Thread(target=lambda: "
        "(time.sleep(0.3), print(word))).start()\n"
    )
    done = run(program(source))
    assert (done.stdout, done.returncode) == ("still here\n", 0)


def test_processes_it_spawns_find_its_functions(run, program):
    """Multiprocessing's spawn imports the script, not the meter."""
    source = """
import multiprocessing as m
def double(n): return 2 * n
if __name__ == "__main__":
    with m.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""
    assert run(program(source)).stdout == "[2, 4]\n"


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["absent.py"], "'absent.py'"),
        (["-m", "absent.module"], "'absent.module'"),
        (["-m", "json"], "'json'"),
    ],
)
def test_nothing_to_run_is_said_plainly(run, words, culprit):
    """A missing script or module is named, without a traceback; exit code 2."""
    done = run(*words)
    assert done.returncode == 2
    assert culprit in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1].startswith("hint:")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not has("crewai"), reason="crewai is not installed")
def test_a_crew_is_metered_without_a_changed_line(run, fake_provider, tmp_path, program):
    """A script that never heard of the meter has its calls in the ledger, and one line on stderr
    says what they cost.
    """
    source = "import sys; sys.path.insert(0, sys.argv[1]); import simple; simple.main()"
    assert "crewmeter" not in source + (APPS / "simple.py").read_text()
    done = run(program(source), str(APPS), PROVIDER_URL=fake_provider.url)
    assert done.returncode == 0, done.stderr
    rows = call_rows(tmp_path / "ledger.db")
    assert [row["input_tokens"] for row in rows] == [1200, 900]
    assert "crewmeter: 1 run · 2 calls · 2,100 in + 290 out tokens · $0.0004698" in done.stderr


@pytest.mark.slow
def test_a_loss_is_said_in_calls_and_dollars_on_the_last_line(
    run, fake_provider, tmp_path, program
):
    """Where no ledger took the calls, the last line says how many there were and what they cost."""
    (tmp_path / "file").write_text("")
    path = program(
        "import os\n"
        "from crewai import LLM\n"
        "base = os.environ['FAKE_PROVIDER']\n"
        "LLM(model='openai/gpt-4o', base_url=base, api_key='none').call("
        "'hello [[usage:in=1000 out=100]]')\n"
    )
    done = run(
        path,
        FAKE_PROVIDER=fake_provider.base_url(),
        CREWMETER_LEDGER=str(tmp_path / "file" / "ledger.db"),
    )
    assert done.returncode == 0, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "crewmeter: NOT RECORDED: 1 call, $0.003500; the ledger took none"
