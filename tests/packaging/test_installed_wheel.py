"""The wheel that `stack init` takes along installs and is whole."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from crewmeter_cost.compose_stack.wheel import installed_wheel, wheel_name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The installed version as a wheel."""
    path = tmp_path_factory.mktemp("wheel") / wheel_name(metadata.version("crewmeter"))
    path.write_bytes(installed_wheel())
    return path


def test_pip_installs_it_and_its_commands_have_their_files(wheel, tmp_path):
    """An installation of it starts the command line and writes the stack, wheel included."""
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    installed = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
    ]
    for each in (command, installed):
        done = subprocess.run(
            [*each, str(target), str(wheel)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import crewmeter_cost;"
        "assert crewmeter_cost.__file__.startswith(sys.argv[1]);"
        "from crewmeter_cost.compose_stack.write import write_stack; from pathlib import Path;"
        "print(len(write_stack(Path(sys.argv[2]), version=sys.argv[3]).files))"
    )
    arguments = [str(target), str(tmp_path / "stack"), metadata.version("crewmeter")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
    again = tmp_path / "stack/wheels" / wheel.name
    assert zipfile.ZipFile(again).testzip() is None


def test_the_same_files_make_the_same_wheel():
    """No dates or order of a file system: two builds are equal to the byte."""
    assert installed_wheel() == installed_wheel()
